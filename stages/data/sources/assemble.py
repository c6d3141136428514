"""What the readers share: a split's rows become faces, with ids, boxes and subsets."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from stages.data import geometry
from stages.data.faces import Faces

SAME_FACE = 0.01  # px: files that list one face twice differ in their last digits only


def split_faces(
    split: str,
    images: Sequence[str],
    landmarks: np.ndarray,
    *,
    box: tuple[np.ndarray, np.ndarray] | None = None,
    visible: np.ndarray | None = None,
    subsets: Sequence[Sequence[str]] | None = None,
    extra: Mapping[str, Sequence] | None = None,
) -> Faces:
    """The faces of one split. Without a box (centre, side) it is the landmarks', without `visible` all are.

    A face's id is its split and image, so that every way to the same faces gives the same ids in any order; the
    second face of an image has #2 behind it.
    """
    n, k, _ = landmarks.shape
    center, side = box or (geometry.landmark_box(landmarks) if n else (np.empty((0, 2)), np.empty(0)))
    return Faces(
        face_id=_ids(split, images),
        split=[split] * n,
        image=list(images),
        center=center,
        side=side,
        landmarks=landmarks,
        visible=np.ones((n, k), bool) if visible is None else visible,
        subsets=list(subsets) if subsets is not None else [()] * n,
        extra=dict(extra or {}),
    )


def _ids(split: str, images: Sequence[str]) -> list[str]:
    seen: dict[str, int] = defaultdict(int)
    ids = []
    for image in images:
        seen[image] += 1
        name = image if image.startswith(f"{split}/") else f"{split}/{image}"
        ids.append(name if seen[image] == 1 else f"{name}#{seen[image]}")
    return ids


def find_faces(
    images: Sequence[str], landmarks: np.ndarray, among_images: Sequence[str], among: np.ndarray
) -> list[int | None]:
    """For each face (image, landmarks (K, 2)) the row of the same face among others, or None where there is none.

    A face that stands twice is found once for each time it is asked for.
    """
    free: dict[str, list[int]] = defaultdict(list)
    for row, image in enumerate(among_images):
        free[image].append(row)
    found: list[int | None] = []
    for image, points in zip(images, landmarks, strict=True):
        row = next((row for row in free[image] if np.abs(among[row] - points).max() < SAME_FACE), None)
        if row is not None:
            free[image].remove(row)
        found.append(row)
    return found
