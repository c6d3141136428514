"""Predictions by anybody's method, as a file holds them, before they are matched with a dataset's faces.

Symbols: M predictions in the file, K landmarks of each.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.system.errors import refuse

NO_PREDICTION = "A face without a prediction has no row, or NaN in all of its coordinates."


@dataclass(frozen=True)
class Submission:
    """M predictions.

    form: of the file. images: M paths or names of images. points: (M, K, 2) in the file's own numbering of pixels, NaN
    in all of a face's where it says that there is no prediction. places: M, where in the file. boxes: (M, 4) x_min,
    y_min, x_max, y_max of the face boxes, NaN where the file has none. face_ids: M ids of the dataset's faces, where
    the file names them. landmarks: which of the dataset's landmarks the K are, where the file says so. dataset: what
    the file says that it was predicted on.
    """

    form: str
    images: Sequence[str]
    points: np.ndarray
    places: Sequence[str]
    boxes: np.ndarray | None = None
    face_ids: Sequence[str] | None = None
    landmarks: Sequence[int] | None = None
    dataset: str | None = None
    scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.points)


def stack(points: Sequence[np.ndarray], places: Sequence[str], what: str) -> np.ndarray:
    """(M, K, 2) of M arrays (K, 2). Raises `InputError` naming those whose K differs from that of most."""
    counts = [len(face) for face in points]
    usual = Counter(counts).most_common(1)[0][0] if counts else 0
    wrong = [
        f"{place}: {count} landmarks, and the others have {usual}"
        for place, count in zip(places, counts, strict=True)
        if count != usual
    ]
    refuse(wrong, what, "Every face needs the same landmarks in the same order.")
    return np.array(points, np.float64).reshape(-1, usual, 2)


def require_whole(submission: Submission, what: str) -> None:
    """Raise `InputError` naming the faces that have some coordinates and lack others, or have infinite ones."""
    finite = np.isfinite(submission.points)
    absent = np.isnan(submission.points).all((1, 2))
    faults = []
    for i in np.flatnonzero(~finite.all((1, 2)) & ~absent):
        k = int(np.argmin(finite[i].all(-1)))
        x, y = submission.points[i, k]
        faults.append(f"{submission.places[i]} ({submission.images[i]}): landmark {k} is at ({x:g}, {y:g})")
    refuse(faults, what, f"Every landmark of a face needs a position. {NO_PREDICTION}")
