"""Boxes, similarity transforms and flips. The one place that knows where pixels are: their centres are at integers.

So an image W wide covers [-0.5, W - 0.5], and its middle is at (W - 1) / 2. Transforms are 2×3 float64 matrices
[s·R | t] that map column vectors: q = A p + t. Nothing is rounded.
"""

from collections.abc import Sequence

import numpy as np


def landmark_box(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square face box that HRNet's annotation files give for landmarks (N, K, 2): centre (N, 2) and side (N,).

    centre = ((floor x_min + ceil x_max) / 2, the same for y), side = the longer of ceil max - floor min.
    This rule reproduces all 1289 published 300W rows exactly. Landmarks that are not annotated (NaN) do not count; each
    face needs one that is.
    """
    low, high = np.floor(np.nanmin(landmarks, 1)), np.ceil(np.nanmax(landmarks, 1))
    return (low + high) / 2, (high - low).max(1)


def window_to_image(center: np.ndarray, side: np.ndarray, size: int) -> np.ndarray:
    """(N, 2, 3) similarities from window px (`size` wide) to image px, for squares of centre (N, 2) and side (N,)."""
    step = np.asarray(side, np.float64) / size
    matrix = np.zeros((len(step), 2, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = step
    matrix[:, :, 2] = center - step[:, None] * (size - 1) / 2
    return matrix


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverses of affine matrices (…, 2, 3)."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], -1)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (…, K, 2) by affine matrices (…, 2, 3)."""
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def flip_order(pairs: Sequence[Sequence[int]], count: int) -> np.ndarray:
    """(K,) the landmark that takes the place of landmark k in a mirrored image; one in no pair keeps its own."""
    order = np.arange(count)
    for left, right in pairs:
        order[left], order[right] = right, left
    return order


def in_boxes(landmarks: np.ndarray, center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(N, K, 2) landmarks from the centre of each face box (N, 2), in sides (N,) of the box."""
    return (landmarks - center[:, None]) / side[:, None, None]


def from_boxes(shapes: np.ndarray, center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The inverse of `in_boxes`; one shape (K, 2) is laid into every box."""
    return center[:, None] + shapes * side[:, None, None]


def corners(center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(N, 4) x_min, y_min, x_max, y_max of square boxes of centre (N, 2) and side (N,)."""
    half = side[:, None] / 2
    return np.concatenate([center - half, center + half], 1)


def iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(M, N) intersection over union of boxes (M, 4) and (N, 4), corners; 0 where a box is NaN or has no area."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(box[:, 2:] - box[:, :2], 0, None).prod(-1) for box in (one, other)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.nan_to_num(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def outside_window(landmarks: np.ndarray, center: np.ndarray, side: np.ndarray, box: float) -> np.ndarray:
    """(N, K) bool: which annotated landmarks lie outside the square of `box` face boxes that a model sees."""
    off = np.abs(landmarks - center[:, None]).max(-1)
    return off > box / 2 * side[:, None]  # False for NaN
