"""The field's metrics: NME, failure rate (FR), cumulative error distribution (CED) and the area under it (AUC).

Symbols: N faces. Errors are fractions of a normaliser; only `summarise` returns percent.
"""

from collections.abc import Sequence

import numpy as np

from stages.metrics.intervals import error_and_bounded_intervals, share_interval


def failure_rate(nme: np.ndarray, threshold: float) -> float:
    """The share of faces with an NME above `threshold`; nme: (N,), the same unit."""
    return float(np.mean(nme > threshold))


def ced(nme: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps of the cumulative error distribution: each NME that occurs, ascending, and the share of faces up to it.

    nme: (N,). Returns two arrays (M,). Faces without a finite error count among the N and add no step.
    """
    values, counts = np.unique(nme[np.isfinite(nme)], return_counts=True)
    return values, np.cumsum(counts) / max(len(nme), 1)


def auc(nme: np.ndarray, threshold: float) -> float:
    """The exact area under the stepwise CED from 0 to `threshold`, as a share of `threshold`.

    A face of error e raises the CED by 1/N from e on, so it adds (threshold − e)/N, or nothing beyond the threshold.
    """
    return float(np.mean(np.clip(1 - nme / threshold, 0, 1)))


def summarise(nme: np.ndarray, seed: int, thresholds: Sequence[float]) -> dict[str, object]:
    """A subset's entry of metrics.json from its faces' NMEs (N,), as fractions: NME, and FR and AUC at each of the
    `thresholds` (fractions), in percent, and their 95 % intervals.

    `seed` is the bootstrap's. What N does not define is None: all but n without a face, the intervals of NME and AUC
    with too few (intervals.MINIMUM_FACES, MINIMUM_BOUNDED), NME and its interval where a face has no prediction (FR and
    AUC count it as a failure).
    """
    nme = np.asarray(nme, np.float64)
    n = len(nme)
    entry: dict[str, object] = {"n": n, "nme": 100 * float(nme.mean()) if n and np.isfinite(nme).all() else None}
    gains = np.stack([np.clip(1 - nme / t, 0, 1) for t in thresholds], 1)  # whose means over faces are the AUCs
    nme_interval, auc_intervals = error_and_bounded_intervals(nme, gains, seed)
    entry["nme_ci95"] = _percent(nme_interval)
    for t in thresholds:
        entry[f"fr_{t:.2f}"] = 100 * failure_rate(nme, t) if n else None
        entry[f"fr_{t:.2f}_ci95"] = _percent(share_interval(int((nme > t).sum()), n))
    for t, interval in zip(thresholds, auc_intervals, strict=True):
        entry[f"auc_{t:.2f}"] = 100 * auc(nme, t) if n else None
        entry[f"auc_{t:.2f}_ci95"] = _percent(interval)
    return entry


def _percent(interval: tuple[float, float] | None) -> list[float] | None:
    return interval and [100 * bound for bound in interval]
