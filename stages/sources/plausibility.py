"""Coordinates that are no positions on a face: marks for what is hidden, boxes of another face, values out of range.

The limits are far from what the benchmarks hold. In 4292 faces of 300W, WFLW, LFPW, AFLW and COFW no landmark has two
coordinates of 0 or less, none is farther than 0.5 sides from its box's centre or 3.7 times the median distance from the
median landmark, no box is narrower than 49 px, and a face's landmarks span at least 0.76 sides of its box.
"""

import numpy as np

from stages.data.faces import Faces
from stages.data.geometry import in_boxes

LARGEST = 1e6  # px: no image is that wide
SMALLEST = 4  # px: a face in a box of less shows nothing
FAR = 2  # sides of the box, from its centre
OUTLYING = 10  # times the median distance from the median landmark, where there are ten landmarks
SPAN = 0.05  # of the box's side

_MARKS = (
    "if the files mark hidden or absent landmarks so, set source.pts.hidden: negative (form pts), or write columns "
    "visible_<k> (form csv)"
)


def position_faults(faces: Faces) -> list[str]:
    """The faces, one fault each, with a landmark or a box that cannot be right."""
    marks, far, outlying = marked(faces.landmarks), _far(faces), _outlying(faces.landmarks)
    large = np.abs(faces.landmarks).max(-1) > LARGEST
    faults = []
    for i in np.flatnonzero((marks | far | outlying | large).any(1) | (faces.side < SMALLEST)):
        face, count = f"face {faces.face_id[i]}", int(faces.annotated[i].sum())

        def landmark(which: np.ndarray, i=i) -> str:
            x, y = faces.landmarks[i, np.argmax(which)]
            more = f" (and {which.sum() - 1} more)" if which.sum() > 1 else ""
            return f"landmark {np.argmax(which)} is at ({x:g}, {y:g}){more}"

        if large[i].any():
            faults.append(f"{face}: {landmark(large[i])}, and no image is that large")
        elif marks[i].any():
            faults.append(f"{face}: {landmark(marks[i])}, outside image and face: {_MARKS}")
        elif faces.side[i] < SMALLEST:
            faults.append(f"{face}: its box is {faces.side[i]:g} px wide, which shows no face")
        elif far[i].sum() > count / 2:
            sides = np.abs(np.nanmedian(in_boxes(*_row(faces, i))[0], 0)).max()
            faults.append(f"{face}: its landmarks are {sides:.1f} sides of its box ({faces.side[i]:g} px) from the box")
        elif far[i].any():
            faults.append(f"{face}: {landmark(far[i])}, more than {FAR} sides of its box from the box's centre")
        else:
            faults.append(f"{face}: {landmark(outlying[i])}, far from the face's other landmarks")
    return faults


def position_warnings(faces: Faces) -> list[str]:
    """What may be right, and seldom is."""
    low, high = np.nanmin(faces.landmarks, 1), np.nanmax(faces.landmarks, 1)
    narrow = ((high - low).max(1) < SPAN * faces.side) & (faces.annotated.sum(1) > 2)
    return [
        f"faces whose landmarks span less than {SPAN:.0%} of their box: {narrow.sum()} ({faces.face_id[i]} first); are "
        "they in px, as the box is?"
        for i in np.flatnonzero(narrow)[:1]
    ]


def marked(landmarks: np.ndarray) -> np.ndarray:
    """(N, K) bool: landmarks (N, K, 2) that are no positions: both coordinates 0 or less, and far from the others.

    Far is outside the others' bounding box by more than half of its longer side. (In a face at the image's corner such
    landmarks are near the others.)
    """
    suspect = (landmarks <= 0).all(-1)
    others = np.where(suspect[..., None], np.nan, landmarks)
    low, high = (np.where(np.isnan(others), empty, others) for empty in (np.inf, -np.inf))
    low, high = low.min(1, keepdims=True), high.max(1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        margin = np.maximum((high - low).max(-1, keepdims=True), 0) / 2  # without others everything is far
        return suspect & ((landmarks < low - margin) | (landmarks > high + margin)).any(-1)


def _far(faces: Faces) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.abs(in_boxes(faces.landmarks, faces.center, faces.side)).max(-1) > FAR


def _outlying(landmarks: np.ndarray) -> np.ndarray:
    """(N, K) bool: landmarks that are not of this face, judged by the others."""
    enough = np.isfinite(landmarks).all(-1).sum(1) >= 10
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.linalg.norm(landmarks - np.nanmedian(landmarks, 1, keepdims=True), axis=-1)
        return enough[:, None] & (distance > OUTLYING * np.nanmedian(distance, 1, keepdims=True))


def _row(faces: Faces, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return faces.landmarks[i : i + 1], faces.center[i : i + 1], faces.side[i : i + 1]
