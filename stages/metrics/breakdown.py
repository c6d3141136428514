"""Errors by landmark, group, pose, size and occlusion, under every normaliser and average.

Symbols: N faces, K landmarks. Everything is computed from points in image px; errors are in percent of a normaliser,
NaN where a landmark is not annotated or a face lacks the normaliser: no mean counts those.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stages.data.geometry import in_boxes
from stages.metrics.intervals import mean_interval

SEED = 1
RESAMPLES = 2_000  # of an interval that is drawn, not quoted to the last digit
PERCENTILES = (50, 90, 95, 99)
YAW_EDGES = (0, 10, 20, 30, 45, 60, 90)  # degrees
VISIBLE_EDGES = (0, 0.5, 0.75, 0.9, 1, np.inf)  # the last bin: every landmark
SIZE_BINS = 5
# Centres of left eye, right eye, nose and mouth in head coordinates (x to the side, y down, z to the camera), in
# distances between the eyes: from the mean face of the demo faces, whose yaw is then estimated to a degree or two.
FOUR_POINTS = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.518, 0.377], [0, 1.061, 0.257]])


class Bin(NamedTuple):
    """The n faces with a value in [low, high): their mean error and its 95 % interval."""

    low: float
    high: float
    n: int
    nme: float
    ci95: tuple[float, float] | None


def known_mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The mean of the values that are not NaN; NaN where there is none."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0/0
        return np.where(known, values, 0).sum(axis) / known.sum(axis)


def landmark_errors(points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> np.ndarray:
    """(N, K) the distance of each landmark in percent of its face's normaliser (N,).

    ∞ where the prediction is NaN, NaN where the landmark is not annotated or the normaliser is NaN.
    """
    distance = np.hypot(*np.moveaxis(np.asarray(points, float) - truth, -1, 0))
    missing = np.isnan(distance) & np.isfinite(truth).all(-1)
    return 100 * np.where(missing, np.inf, distance) / normaliser[:, None]


def averages(errors: np.ndarray, normaliser: np.ndarray, visible: np.ndarray) -> dict[str, float]:
    """The averages in use, of errors (N, K) in percent of `normaliser` (N,), and the number of faces that have it.

    faces: the mean over landmarks, then over faces; where every face has K landmarks it is also the mean over all
    landmarks of all faces. visible: the mean over all visible landmarks of all faces, so a face is weighted by how many
    are visible. pooled: the sum of the faces' mean distances over that of their normalisers, so a face is weighted by
    its size.
    """
    faces = known_mean(errors, 1)
    rows = ~np.isnan(faces)
    with np.errstate(invalid="ignore"):  # 0/0 where no face has the normaliser
        pooled = np.sum(faces[rows] * normaliser[rows]) / np.sum(normaliser[rows])
    return {
        "n": int(rows.sum()),
        "faces": float(known_mean(faces)),
        "visible": float(known_mean(errors[visible])),
        "pooled": float(pooled),
    }


def percentiles(nme: np.ndarray) -> dict[str, float]:
    """The errors of `nme` (N,) that so many percent of the faces do not exceed; only those with a face beyond them."""
    levels = [p for p in PERCENTILES if len(nme) * (100 - p) >= 100]
    return {str(p): float(np.percentile(nme, p, method="inverted_cdf")) for p in levels}


def mean_face(truth: np.ndarray, center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(K, 2) the mean of the landmarks (N, K, 2) where annotated, from the centre of each face's box and in its sides.

    NaN for a landmark that no face has.
    """
    return known_mean(in_boxes(truth, center, side), 0)


def yaw(truth: np.ndarray, groups: Mapping[str, Sequence[int]], pairs: Sequence[Sequence[int]]) -> np.ndarray | None:
    """(N,) the yaw of the heads in degrees, estimated from all their landmarks (N, K, 2) px; 0 faces the camera.

    The orthographic camera that maps FOUR_POINTS to the centres of a face's eyes, nose and mouth: its two rows, solved
    exactly (4 points, 4 unknowns each), span the image plane, and their cross product is the viewing direction. Eyes,
    nose and mouth are the groups of these names; `pairs` are the landmarks that swap in a mirror. NaN for a face that
    lacks one of these landmarks, since the centre of the others is another point. None where a dataset has none.
    """
    eyes = np.array([pair for pair in pairs if set(pair) <= set(groups.get("eyes", ()))], int)
    nose, mouth = (list(groups.get(name, ())) for name in ("nose", "mouth"))
    if not len(eyes) or not nose or not mouth:
        return None
    centres = np.stack([truth[:, members].mean(1) for members in (eyes[:, 0], eyes[:, 1], nose, mouth)], 1)
    camera = np.linalg.inv(np.column_stack([FOUR_POINTS, np.ones(4)])) @ centres  # (N, 4, 2)
    direction = np.cross(camera[:, :3, 0], camera[:, :3, 1])
    return np.degrees(np.arctan2(direction[:, 0], direction[:, 2]))


def binned(values: np.ndarray, nme: np.ndarray, edges: Sequence[float]) -> list[Bin]:
    """The mean error (N,) of the faces in each bin of `values` (N,) between `edges`.

    Bins without a face are left out, as are faces without a value (NaN); the last bin includes its upper edge.
    """
    nme, values = nme[~np.isnan(values)], values[~np.isnan(values)]
    last = len(edges) - 2
    index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, last)
    bins = []
    for i in range(last + 1):
        errors = nme[index == i]
        if len(errors):
            interval = mean_interval(errors, SEED, RESAMPLES)
            bins.append(Bin(float(edges[i]), float(edges[i + 1]), len(errors), float(errors.mean()), interval))
    return bins


def equal_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges of bins with about equal numbers of `values` (N,); fewer bins where many values are the same."""
    return np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))


def conditions(
    nme: np.ndarray, degrees: np.ndarray | None, side: np.ndarray, visible: np.ndarray, annotated: np.ndarray
) -> dict[str, list[Bin]]:
    """The error (N,) by yaw (N,) in degrees, side of the face box (N,) in px and share of visible landmarks.

    visible, annotated: (N, K) bool. Conditions that a dataset has no annotation for are left out.
    """
    bins = {}
    if degrees is not None and np.isfinite(degrees).any():
        bins["yaw"] = binned(np.abs(degrees), nme, YAW_EDGES)
    edges = equal_bins(side, SIZE_BINS)
    if len(edges) > 1:
        bins["side"] = binned(side, nme, edges)
    if (annotated & ~visible).any():
        bins["visible"] = binned(visible.sum(1) / annotated.sum(1), nme, VISIBLE_EDGES)
    return bins


def group_errors(errors: np.ndarray, groups: Mapping[str, Sequence[int]]) -> dict[str, dict]:
    """Per group of landmarks the mean of its errors (N, K) and the interval over the faces that have one of them.

    Groups that no face has are left out.
    """
    by_face = {name: known_mean(errors[:, list(members)], 1) for name, members in groups.items()}
    return {name: _mean(nme[~np.isnan(nme)], RESAMPLES) for name, nme in by_face.items() if not np.isnan(nme).all()}


def _mean(nme: np.ndarray, resamples: int = 10_000) -> dict:
    return {"nme": float(nme.mean()), "ci95": mean_interval(nme, SEED, resamples)}


def robustness(nme: np.ndarray, perturbed: Mapping[str, np.ndarray]) -> dict | None:
    """The error (N,) from perturbed boxes, by name (`shift_-5`, `scale_20`), beside that from the boxes as they are.

    shift, scale: the mean error by the perturbation in percent of the box's side; a shift and its opposite count
    together. mean: over all perturbations alike, the one number. None where there are none.
    """
    if not perturbed:
        return None
    errors: dict[str, dict[int, list[np.ndarray]]] = {"shift": {0: [nme]}, "scale": {0: [nme]}}
    for name, values in perturbed.items():
        kind, by = name.split("_")
        errors[kind].setdefault(abs(int(by)) if kind == "shift" else int(by), []).append(values)
    curves = {
        kind: [{"by": by} | _mean(np.mean(values, axis=0), RESAMPLES) for by, values in sorted(levels.items())]
        for kind, levels in errors.items()
    }
    return curves | {"mean": _mean(np.mean(list(perturbed.values()), axis=0))}
