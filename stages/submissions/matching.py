"""Which prediction of a file is of which face: by image path, by name, and by box where an image has several faces.

Symbols: N faces measured, M predictions in the file.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from stages.data.faces import Faces
from stages.data.geometry import iou
from stages.submissions.submission import NO_PREDICTION, Submission
from stages.system.errors import InputError, refuse

SAME_FACE = 0.5  # IoU with the box of a face that has a prediction, above which another one is of the same face
SHOWN = 5


@dataclass(frozen=True)
class Matching:
    """rows: (N,) the prediction of each face, -1 for none. by_name: how many images were matched by less than their
    path. elsewhere: the places of the predictions on other images; beside: of those on other faces of known images."""

    rows: np.ndarray
    by_name: int
    elsewhere: list[str]
    beside: list[str]

    def predicted(self, submission: Submission) -> np.ndarray:
        """(N, K, 2) in the file's numbering of pixels, NaN for a face without a prediction."""
        points = submission.points[self.rows]
        points[self.rows < 0] = np.nan
        return points


def first(names: Sequence[str]) -> str:
    """`3: a, b, c`, and only the first ones of many."""
    return f"{len(names)}: {', '.join(names[:SHOWN])}{', …' * (len(names) > SHOWN)}"


def match(submission: Submission, faces: Faces, what: str) -> Matching:
    """Raises `InputError` where no prediction is of these faces, where a face has two, and where some faces have none
    while the file has predictions on other images: a wrong name would count as a failure."""
    if submission.face_ids is not None:
        matching = _by_id(submission, faces, what)
    else:
        matching = _by_image(submission, faces, what)
    missing = [faces.face_id[i] for i in np.flatnonzero(matching.rows < 0)]
    if len(missing) == len(faces):
        raise InputError(
            f"{what}: none of its {len(submission)} predictions is on one of the {len(faces)} test faces. Its images "
            f"are named {', '.join(list(dict.fromkeys(submission.images))[:3])}, …; those of the test faces "
            f"{', '.join(faces.image[:3])}, …. Is it a file of another dataset or split?"
        )
    if missing and matching.elsewhere:
        raise InputError(
            f"{what}: {len(missing)} of {len(faces)} test faces have no prediction, and {len(matching.elsewhere)} "
            "predictions are on images that are not in the test split, so that names may be wrong.\n"
            f"  - test faces without a prediction, {first(missing)}\n"
            f"  - predictions on other images, {first(matching.elsewhere)}\n"
            f"Correct the names, or take the other images out of the file. {NO_PREDICTION}"
        )
    return matching


def _by_id(submission: Submission, faces: Faces, what: str) -> Matching:
    row = {face: i for i, face in enumerate(faces.face_id)}
    rows, doubled, elsewhere = np.full(len(faces), -1), [], []
    for i, face in enumerate(submission.face_ids):
        if face not in row:
            elsewhere.append(face)
        elif rows[row[face]] >= 0:
            doubled.append(f"face {face}: {submission.places[rows[row[face]]]} and {submission.places[i]}")
        else:
            rows[row[face]] = i
    refuse(doubled, f"{what}: faces with two predictions", "Leave one of them.")
    return Matching(rows, 0, elsewhere, [])


def _by_image(submission: Submission, faces: Faces, what: str) -> Matching:
    images, by_name = match_images(list(dict.fromkeys(submission.images)), list(dict.fromkeys(faces.image)))
    candidates, members, elsewhere = defaultdict(list), defaultdict(list), []
    for i, image in enumerate(submission.images):
        if image in images:
            candidates[images[image]].append(i)
        else:
            elsewhere.append(f"{image} ({submission.places[i]})")
    for i, image in enumerate(faces.image):
        members[image].append(i)
    rows, doubled, beside = np.full(len(faces), -1), [], []
    given = _boxes(submission)
    actual = _around(faces.landmarks)
    for image, several in candidates.items():
        of_image = members[image]
        if len(several) == len(of_image) == 1:
            rows[of_image[0]] = several[0]
            continue
        overlap = iou(given[several], actual[of_image])
        for one, other in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[one, other] > 0 or len(several) == len(of_image):
                rows[of_image[other]] = several[one]
        taken = [j for j, face in enumerate(of_image) if rows[face] >= 0]
        for one in sorted(set(several) - set(rows[of_image])):
            same = [j for j in taken if overlap[several.index(one), j] >= SAME_FACE]
            if same:
                face = of_image[same[0]]
                doubled.append(
                    f"face {faces.face_id[face]}: {submission.places[rows[face]]} and {submission.places[one]}"
                )
            else:
                beside.append(f"{image} ({submission.places[one]})")
    refuse(doubled, f"{what}: faces with two predictions", "Leave one of them.")
    return Matching(rows, by_name, elsewhere, beside)


def match_images(given: Sequence[str], known: Sequence[str]) -> tuple[dict[str, str], int]:
    """The known image that each given one is, and how many are so by less than the known path.

    They agree in their path, or in the most of their last parts, with or without extension, where that is one image
    only. An image that is known by its longer name is not given by a shorter one too.
    """
    by_ending: dict[str, set[str]] = defaultdict(set)
    for image in known:
        for ending in _endings(image):
            by_ending[ending].add(image)
    matches: dict[str, tuple[str, int]] = {}
    longest: dict[str, int] = defaultdict(int)
    for image in given:
        ending = next((ending for ending in _endings(image) if len(by_ending.get(ending, ())) == 1), None)
        if ending is not None:
            (match,) = by_ending[ending]
            matches[image] = match, ending.count("/")
            longest[match] = max(longest[match], ending.count("/"))
    images = {image: match for image, (match, depth) in matches.items() if depth == longest[match]}
    return images, sum(longest[match] < match.count("/") for match in images.values())


def _endings(image: str) -> Iterator[str]:
    """`a/b.jpg`, `a/b`, `b.jpg`, `b`: longest first."""
    parts = image.replace("\\", "/").removeprefix("./").strip("/").split("/")
    for start in range(len(parts)):
        ending = "/".join(parts[start:])
        yield ending
        folder, _, name = ending.rpartition("/")
        stem = name.rpartition(".")[0]
        if stem:
            yield f"{folder}/{stem}" if folder else stem


def _around(points: np.ndarray) -> np.ndarray:
    """(N, 4) the boxes of points (N, K, 2); NaN where all are."""
    low = np.where(np.isnan(points), np.inf, points).min(1, initial=np.inf)
    high = np.where(np.isnan(points), -np.inf, points).max(1, initial=-np.inf)
    box = np.concatenate([low, high], 1)
    return np.where(np.isfinite(box), box, np.nan)


def _boxes(submission: Submission) -> np.ndarray:
    """(M, 4) the boxes that the file gives, or else those of the predicted landmarks."""
    around = _around(submission.points)
    return around if submission.boxes is None else np.where(np.isfinite(submission.boxes), submission.boxes, around)
