"""From a file of predictions to the table that is measured: matched, in the annotation's numbering, of its landmarks.

Predictions are moved by the difference of two numbers, a plain change of names: what the file calls the centre of the
first pixel, and what the annotation does. They are moved by nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.data.faces import Faces
from stages.data.nme import normalisers
from stages.data.scheme import DatasetScheme
from stages.submissions import conventions, reading, refusals
from stages.submissions.matching import Matching, first, match
from stages.submissions.submission import Submission
from stages.system.errors import InputError


def numbering(annotation_origin: float) -> int:
    """What an annotation calls the first pixel by its own account, 0 or 1, from where it was measured to lie
    (`source.origin`): clicks lie up to a pixel beyond it (a viewer's pixel i covers i to i + 1), never before it."""
    return int(annotation_origin >= 0.9)


@dataclass(frozen=True)
class Converted:
    """points: (N, K, 2) px in the annotation's numbering, NaN for a face without a prediction. scores: (N, K), NaN
    where there are none. landmarks: which of the
    dataset's the K are. given: the scheme that was predicted. origin, annotation_origin: 0 or 1. normaliser: (N,) px.
    """

    submission: Submission
    faces: Faces
    points: np.ndarray
    scores: np.ndarray
    landmarks: Sequence[int]
    given: DatasetScheme
    origin: int
    annotation_origin: int
    matching: Matching
    normaliser: np.ndarray
    what: str

    @property
    def truth(self) -> np.ndarray:
        """(N, K, 2)"""
        return self.faces.landmarks[:, self.landmarks]

    @property
    def measurable(self) -> np.ndarray:
        """(N,) bool: the faces that have the normaliser and one of the landmarks annotated."""
        return np.isfinite(self.normaliser) & np.isfinite(self.truth).all(-1).any(1)

    def measured(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points, truth and normaliser of the faces that can be measured."""
        rows = self.measurable
        return self.points[rows], self.truth[rows], self.normaliser[rows]

    def warnings(self) -> list[str]:
        """What a person must know before trusting the figures."""
        found, what = [], self.what
        if self.matching.elsewhere:
            found.append(
                f"{what}: predictions on images that are not in the test split, left out, "
                f"{first(self.matching.elsewhere)}"
            )
        if self.matching.beside:
            found.append(
                f"{what}: predictions on other faces of the test images, left out, {first(self.matching.beside)}"
            )
        if missing := [self.faces.face_id[i] for i in np.flatnonzero(np.isnan(self.points).all((1, 2)))]:
            found.append(
                f"{what}: faces without a prediction, each a failure at every threshold and an infinite error in the "
                f"NME, {first(missing)}"
            )
        points, truth, normaliser = self.measured()
        if shift := conventions.likely_shift(points, truth, normaliser):
            own, other = float(np.nanmean(conventions.nme(points, truth, normaliser))), self.origin - shift.by
            half = abs(shift.by) == 0.5
            advice = f"If the file counts pixels from {other:g}, say so: --origin {other:g}." if other in (0, 1) else (
                "Positions from the edge of the first pixel instead of its centre are half a pixel off: correct the "
                "file." if half else "See whether the coordinates were moved before they were written."
            )  # fmt: skip
            found.append(
                f"this looks like {'half a pixel' if half else 'another numbering of pixels'}: moved by {shift.by:+g} "
                f"px in x and y, the predictions would read NME {shift.nme:.3f} instead of {own:.3f}. {advice}"
            )
        return found


def convert(
    submission: Submission, faces: Faces, dataset: str, scheme: DatasetScheme, given: DatasetScheme,
    pairs: Sequence[tuple[int, int]], *, origin: int | None, source_origin: float, known: Mapping[str, int], what: str,
) -> Converted:  # fmt: skip
    """The predictions for `faces` of a dataset with its scheme.

    given: the scheme that was predicted; pairs: the landmarks that the two have in common, as indices in each. origin:
    as the file counts pixels, None for its form's usual. source_origin: config.dataset.Source.origin. known: the
    schemes and their numbers of landmarks. Raises `InputError` for whatever keeps the predictions from being measured.
    """
    refusals.require_dataset(submission, dataset, what)
    partial = submission.landmarks is not None and submission.landmarks != list(range(scheme.count))
    count = len(submission.landmarks) if partial else given.count
    owner = dataset if given.scheme == scheme.scheme else f"scheme {given.scheme}"
    refusals.require_landmarks(submission, count, owner, known, what)
    matching = match(submission, faces, what)
    counted = numbering(source_origin)
    if origin is None:
        origin = reading.NUMBERED_FROM[submission.form]
    origin = counted if origin is None else origin
    points, landmarks = matching.predicted(submission), submission.landmarks
    scores = np.full(points.shape[:2], np.nan)
    if submission.scores is not None:
        scores = np.where(np.isnan(points).all((1, 2))[:, None], np.nan, submission.scores[matching.rows])
    if not partial:
        predicted, landmarks = [one for one, _ in pairs], [other for _, other in pairs]
        points, scores = points[:, predicted], scores[:, predicted]
    if np.isnan(points).all():
        raise InputError(f"{what} says of every test face that it has no prediction (NaN in all coordinates).")
    refusals.require_pixels(points, faces.landmarks, what)
    normaliser = normalisers(faces.landmarks, faces.side, scheme.normalisers())[scheme.normaliser]
    converted = Converted(
        submission,
        faces,
        points + (counted - origin),
        scores,
        landmarks,
        given,
        origin,
        counted,
        matching,
        normaliser,
        what,
    )
    refusals.require_convention(*converted.measured(), scheme, what)
    return converted
