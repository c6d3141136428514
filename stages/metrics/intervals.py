"""Confidence intervals over the faces of a test set (what another sample of faces would have given).

They do not cover what another seed of the training would have given.
"""

import numpy as np
from scipy.stats import binomtest, bootstrap

LEVEL = 0.95
BLOCK = 400  # resamples held in memory at once: 8 MB for 2500 faces


def mean_interval(values: np.ndarray, seed: int, resamples: int = 10_000) -> tuple[float, float] | None:
    """The 95 % interval of the mean of `values` (N,): BCa bootstrap over faces (Efron 1987), reproducible by its seed.

    NMEs have a long right tail; BCa corrects the percentile interval for the skewness of the mean.
    None for fewer than two values, or where one is not finite.
    """
    values = np.asarray(values, float)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    if (values == values[0]).all():  # BCa's acceleration would be 0/0
        return float(values[0]), float(values[0])
    rng = np.random.default_rng(seed)
    interval = bootstrap(
        (values,), np.mean, n_resamples=resamples, batch=BLOCK, confidence_level=LEVEL, method="BCa", rng=rng
    ).confidence_interval
    return float(interval.low), float(interval.high)


def share_interval(count: int, n: int) -> tuple[float, float] | None:
    """The 95 % interval of the share `count` of `n` faces (Wilson 1927), valid at 0 and n too; None if n = 0.

    For failure rates: resamples of 300 faces without a failure contain none, so the bootstrap would call 0 % certain.
    """
    if n == 0:
        return None
    interval = binomtest(count, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)
