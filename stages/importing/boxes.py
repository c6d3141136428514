"""Which box of a face is used: the annotation's, where it is one of a face, or that of the landmarks.

Crops are cut round the box, so all faces of a dataset need boxes of one kind: a person's box would show the network a
face as small as a stamp. The published files have boxes as tight as the landmarks (side 1.0 to 1.1 times theirs).
"""

import numpy as np

from stages.data.geometry import landmark_box

CHOICES = ("annotation", "landmarks")
TYPICAL = (0.8, 1.6)  # sides of the landmarks' box: the median of a set of face boxes
SINGLE, OFF, MOST = (0.5, 2.5), 0.5, 0.95  # of one of them; its centre in sides from theirs; the share that must be so


def face_boxes(
    landmarks: np.ndarray, boxes: np.ndarray, places: list[str], choice: str | None
) -> tuple[tuple[np.ndarray, np.ndarray], str, list[str]]:
    """(centre (N, 2), side (N,)), a sentence on what they are, and faults.

    landmarks (N, K, 2), NaN where not annotated. boxes: (N, 3), NaN where there is none. choice: one of CHOICES, or
    None: the annotation's if most of them are plausible boxes of faces; the others are then that of the landmarks,
    enlarged as the typical one is.
    """
    center, side = landmark_box(landmarks)
    side = np.maximum(side, 1e-9)
    given = np.isfinite(boxes[:, 2])
    if choice == "annotation":
        faults = [f"{places[i]}: it has no box, and --boxes annotation needs one" for i in np.flatnonzero(~given)]
        used = (center, side) if faults else (boxes[:, :2], boxes[:, 2])
        return used, "of the annotations", faults
    if choice == "landmarks" or not given.any():
        why = "" if choice else ", as the annotations have none"
        return (center, side), f"of the landmarks{why}", []
    with np.errstate(invalid="ignore"):
        ratio = boxes[:, 2] / side
        off = np.abs(boxes[:, :2] - center).max(1) / side
        sound = given & (ratio >= SINGLE[0]) & (ratio <= SINGLE[1]) & (off <= OFF)
    typical = float(np.median(ratio[given]))
    told = f"{typical:.2f} times the landmarks' side"
    if not TYPICAL[0] <= typical <= TYPICAL[1] or sound.mean() < MOST:
        return (center, side), (
            f"of the landmarks, as the annotations' are not plausible boxes of faces: {told}, {(~sound).sum()} of "
            f"{len(sound)} absent or far from it (--boxes annotation takes them all the same)"
        ), []  # fmt: skip
    told = f"of the annotations, {told} (--boxes landmarks takes those, which are tighter)"
    if not sound.all():
        told += f"; {(~sound).sum()} that are absent or not plausible are the landmarks', enlarged as much"
    used = np.where(sound[:, None], boxes, np.column_stack([center, typical * side]))
    return (used[:, :2], used[:, 2]), told, []
