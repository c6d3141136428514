"""Which landmarks are visible, hidden or not annotated, as annotation files say it: in COCO's v.

v is 2 for a visible landmark, 1 for a hidden one whose position is estimated, 0 for one that is not annotated
(https://cocodataset.org/#format-data, keypoint detection).
"""

import numpy as np

NOT_ANNOTATED, HIDDEN, VISIBLE = 0, 1, 2


def with_visibility(points: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (N, K, 2), NaN where not annotated, and visible (N, K) bool, from points and COCO's v (N, K)."""
    return np.where((v == NOT_ANNOTATED)[..., None], np.nan, points), v == VISIBLE


def signs_as_visibility(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, K, 2) and COCO's v (N, K) of points whose signs say what is hidden.

    The convention of AFLW-68 and MERL-RAV (Kumar et al., LUVLi Face Alignment, CVPR 2020): both coordinates negative
    where the landmark is hidden by another object, exactly -1 -1 where the head itself hides it and its position is not
    estimated. One negative coordinate alone is a position outside the image.
    """
    negative = (points < 0).all(-1)
    v = np.where((points == -1).all(-1), NOT_ANNOTATED, np.where(negative, HIDDEN, VISIBLE))
    return np.where(negative[..., None], -points, points), v
