"""Where a model fails: its error by landmark, group, pose, size and occlusion, and under every normaliser and average.

Symbols: N faces, K landmarks. Everything is computed from points in image px; errors are in percent of a normaliser.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stages.measure.statistics import mean_interval

SEED = 1
RESAMPLES = 2_000  # of an interval that is drawn, not quoted to the last digit
PERCENTILES = (50, 90, 95, 99)
YAW_EDGES = (0, 10, 20, 30, 45, 60, 90)  # degrees
VISIBLE_EDGES = (0, 0.5, 0.75, 0.9, 1, np.inf)  # the last bin: every landmark
SIZE_BINS = 5
# Middles of left eye, right eye, nose and mouth in a head's own frame (x aside, y down, z to the camera), in eye
# distances: of the mean face that the demo faces are drawn from, whose turns the estimate gives to a degree or two.
FOUR_POINTS = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.518, 0.377], [0, 1.061, 0.257]])


class Bin(NamedTuple):
    """The n faces with a value in [low, high): their mean error and its 95 % interval."""

    low: float
    high: float
    n: int
    nme: float
    ci95: tuple[float, float] | None


def landmark_errors(points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> np.ndarray:
    """(N, K) each landmark's distance in percent of its face's normaliser (N,); ∞ where the prediction is no number."""
    distance = np.hypot(*np.moveaxis(np.asarray(points, float) - truth, -1, 0))
    return 100 * np.where(np.isnan(distance), np.inf, distance) / normaliser[:, None]


def averages(errors: np.ndarray, normaliser: np.ndarray, visible: np.ndarray) -> dict[str, float]:
    """The averages in use, of errors (N, K) in percent of `normaliser` (N,).

    faces: the mean over landmarks, then over faces; since every face has K landmarks it is also the mean over all
    landmarks of all faces. visible: the mean over all visible landmarks of all faces, so a face weighs by how much of
    it shows. pooled: the sum of all distances over the sum of all normalisers, so a face weighs by its size.
    """
    distance = errors * normaliser[:, None]
    return {
        "faces": float(errors.mean(1).mean()),
        "visible": float(errors[visible].mean()) if visible.any() else float("nan"),
        "pooled": float(distance.mean(1).sum() / normaliser.sum()),
    }


def percentiles(nme: np.ndarray) -> dict[str, float]:
    """The errors of `nme` (N,) that so many percent of the faces do not exceed; none where no face lies beyond."""
    told = [p for p in PERCENTILES if len(nme) * (100 - p) >= 100]
    return {str(p): float(np.percentile(nme, p, method="inverted_cdf")) for p in told}


def mean_face(truth: np.ndarray, center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(K, 2) the mean of the landmarks, each face's box laid on the unit square about the origin."""
    return ((truth - center[:, None]) / side[:, None, None]).mean(0)


def yaw(truth: np.ndarray, groups: Mapping[str, Sequence[int]], pairs: Sequence[Sequence[int]]) -> np.ndarray | None:
    """(N,) degrees by which a head is turned aside, estimated from its landmarks (N, K, 2) px; 0 looks at the camera.

    The orthographic camera that takes FOUR_POINTS to the middles of a face's eyes, nose and mouth: its two rows, found
    exactly (4 points, 4 unknowns each), span the image plane, and the direction across it is that of looking. Eyes,
    nose and mouth are the groups of these names; `pairs` are the landmarks that change places in a mirror. None where
    a dataset has no such landmarks.
    """
    eyes = np.array([pair for pair in pairs if set(pair) <= set(groups.get("eyes", ()))], int)
    nose, mouth = (list(groups.get(name, ())) for name in ("nose", "mouth"))
    if not len(eyes) or not nose or not mouth:
        return None
    middles = np.stack([truth[:, members].mean(1) for members in (eyes[:, 0], eyes[:, 1], nose, mouth)], 1)
    camera = np.linalg.inv(np.column_stack([FOUR_POINTS, np.ones(4)])) @ middles  # (N, 4, 2)
    across = np.cross(camera[:, :3, 0], camera[:, :3, 1])
    return np.degrees(np.arctan2(across[:, 0], across[:, 2]))


def binned(values: np.ndarray, nme: np.ndarray, edges: Sequence[float]) -> list[Bin]:
    """The mean error (N,) of the faces between every two `edges` of their `values` (N,); a bin without a face is left
    out, and the last one holds its upper edge."""
    last = len(edges) - 2
    where = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, last)
    found = []
    for i in range(last + 1):
        chosen = nme[where == i]
        if len(chosen):
            interval = mean_interval(chosen, SEED, RESAMPLES)
            found.append(Bin(float(edges[i]), float(edges[i + 1]), len(chosen), float(chosen.mean()), interval))
    return found


def equal_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges between which about the same number of `values` (N,) lie; fewer where many values are the same."""
    return np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))


def conditions(
    nme: np.ndarray, turned: np.ndarray | None, side: np.ndarray, visible: np.ndarray
) -> dict[str, list[Bin]]:
    """The error (N,) against yaw (N,) in degrees, the face box's side (N,) in px and the share of landmarks visible.

    visible: (N, K) bool. What a dataset does not tell is left out.
    """
    found = {}
    if turned is not None:
        found["yaw"] = binned(np.abs(turned), nme, YAW_EDGES)
    edges = equal_bins(side, SIZE_BINS)
    if len(edges) > 1:
        found["side"] = binned(side, nme, edges)
    if not visible.all():
        found["visible"] = binned(visible.mean(1), nme, VISIBLE_EDGES)
    return found


def group_errors(errors: np.ndarray, groups: Mapping[str, Sequence[int]]) -> dict[str, dict]:
    """Per group of landmarks the mean of its errors, from errors (N, K), and the interval over faces."""
    found = {}
    for name, members in groups.items():
        each = errors[:, list(members)].mean(1)
        found[name] = {"nme": float(each.mean()), "ci95": mean_interval(each, SEED, RESAMPLES)}
    return found


def robustness(nme: np.ndarray, displaced: Mapping[str, np.ndarray]) -> dict | None:
    """The error (N,) from displaced boxes, by name (`shift_-5`, `scale_20`), beside that from the boxes as they are.

    shift, scale: the mean error by how many percent of its side the box is displaced, a shift in one direction and its
    opposite together. mean: over all displacements alike, the one number. None where there are none.
    """
    if not displaced:
        return None
    parts: dict[str, dict[int, list[np.ndarray]]] = {"shift": {0: [nme]}, "scale": {0: [nme]}}
    for name, values in displaced.items():
        kind, by = name.split("_")
        parts[kind].setdefault(abs(int(by)) if kind == "shift" else int(by), []).append(values)
    found: dict[str, object] = {}
    for kind, of in parts.items():
        means = {by: np.mean(values, axis=0) for by, values in sorted(of.items())}
        found[kind] = [{"by": by, "nme": float(each.mean()), "ci95": mean_interval(each, SEED, RESAMPLES)}
                       for by, each in means.items()]  # fmt: skip
    each = np.mean(list(displaced.values()), axis=0)
    return found | {"mean": {"nme": float(each.mean()), "ci95": mean_interval(each, SEED)}}
