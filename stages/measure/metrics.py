"""The field's metrics: NME, failure rate (FR), cumulative error distribution (CED) and the area under it (AUC).

Symbols: N faces, K landmarks. Errors are fractions of a normaliser; only `summarise` speaks in percent.
"""

from collections.abc import Mapping

import numpy as np

from stages.errors import InputError, refuse
from stages.measure.statistics import mean_interval, share_interval

THRESHOLDS = (0.08, 0.10)  # of the normaliser: 300W's and WFLW's usual ones


def face_errors(predicted: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> np.ndarray:
    """Each face's mean distance over all landmarks as a fraction of its normaliser.

    predicted, truth: (N, K, 2) in the same px. normaliser: (N,) in those px. Returns (N,) float64.
    A face with a prediction that is no number counts as infinitely wrong: a failure at every threshold.
    Raises ValueError where the shapes differ, since broadcasting would give figures for faces that do not exist.
    """
    predicted, truth, normaliser = (np.asarray(a, np.float64) for a in (predicted, truth, normaliser))
    if predicted.shape != truth.shape or normaliser.shape != truth.shape[:1]:
        raise ValueError(f"predicted {predicted.shape}, truth {truth.shape} and normaliser {normaliser.shape} differ")
    distance = np.hypot(*np.moveaxis(predicted - truth, -1, 0))  # (N, K)
    errors = distance.mean(axis=1) / normaliser
    return np.where(np.isnan(errors), np.inf, errors)


def normalisers(truth: np.ndarray, box_side: np.ndarray, definitions: Mapping[str, object]) -> dict[str, np.ndarray]:
    """What errors may be divided by, (N,) px each, by name.

    truth: (N, K, 2) px. box_side: (N,) px, the side of the square face box. definitions, from params/datasets/*.yaml:
    two landmarks ([60, 72]: their distance), two groups of landmarks ([[96], [97]]: the distance of the groups' means),
    or "box" (the face box's side). Always there as well: `box_sqrt`, √(w·h) of the landmarks' own bounding box, and
    `box_diagonal` of the same.
    Raises `InputError` for a definition that names no landmark of these, and for faces with a normaliser of zero.
    """
    truth = np.asarray(truth, np.float64)
    count = truth.shape[1]
    width, height = np.moveaxis(truth.max(axis=1, initial=-np.inf) - truth.min(axis=1, initial=np.inf), -1, 0)
    found = {}
    for name, definition in definitions.items():
        if definition == "box":
            found[name] = np.asarray(box_side, np.float64)
            continue
        one, other = (np.atleast_1d(group) for group in definition)
        outside = [int(i) for i in (*one, *other) if not 0 <= i < count]
        if outside:
            raise InputError(f"normaliser {name} names landmarks {outside}; there are {count} (0 to {count - 1}).")
        apart = truth[:, one].mean(axis=1) - truth[:, other].mean(axis=1)
        found[name] = np.hypot(apart[:, 0], apart[:, 1])
    found |= {"box_sqrt": np.sqrt(width * height), "box_diagonal": np.hypot(width, height)}
    refuse(
        [
            f"face {row} (row of the split, from 0): {name} is {px[row]:g} px"
            for name, px in found.items()
            for row in np.flatnonzero(~(np.isfinite(px) & (px > 0)))
        ],
        "faces whose error no normaliser can divide",
        "Landmarks of these faces lie at one point: mend or leave out their annotation, then run fetch again.",
    )
    return found


def failure_rate(nme: np.ndarray, threshold: float) -> float:
    """The share of faces with an NME above `threshold`; nme: (N,), the same unit."""
    return float(np.mean(nme > threshold))


def ced(nme: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cumulative error distribution's steps: at each NME that occurs, ascending, the share of faces up to it.

    nme: (N,). Returns two arrays (M,). Faces without a finite error count among the N and make no step.
    """
    values, counts = np.unique(nme[np.isfinite(nme)], return_counts=True)
    return values, np.cumsum(counts) / max(len(nme), 1)


def auc(nme: np.ndarray, threshold: float) -> float:
    """The exact area under the stepwise CED from 0 to `threshold`, as a share of `threshold`.

    A face of error e lifts the CED by 1/N from e on, so it adds (threshold − e)/N, or nothing beyond the threshold.
    """
    return float(np.mean(np.clip(1 - nme / threshold, 0, 1)))


def summarise(nme: np.ndarray, seed: int) -> dict[str, object]:
    """A subset's entry of metrics.json from its faces' NMEs (N,), as fractions: NME, FR and AUC in percent, and
    their 95 % intervals.

    `seed` is the bootstrap's. What N does not define is None: everything but n without a face, bootstrapped intervals
    with fewer than two, NME and its interval where a face has no prediction (FR and AUC count it as a failure).
    """
    nme = np.asarray(nme, np.float64)
    n = len(nme)
    found: dict[str, object] = {"n": n, "nme": 100 * float(nme.mean()) if n and np.isfinite(nme).all() else None}
    found["nme_ci95"] = _percent(mean_interval(nme, seed))
    for t in THRESHOLDS:
        found[f"fr_{t:.2f}"] = 100 * failure_rate(nme, t) if n else None
        found[f"fr_{t:.2f}_ci95"] = _percent(share_interval(int((nme > t).sum()), n))
    for t in THRESHOLDS:  # the AUC is a mean over faces too
        found[f"auc_{t:.2f}"] = 100 * auc(nme, t) if n else None
        found[f"auc_{t:.2f}_ci95"] = _percent(mean_interval(np.clip(1 - nme / t, 0, 1), seed))
    return found


def _percent(interval: tuple[float, float] | None) -> list[float] | None:
    return interval and [100 * bound for bound in interval]
