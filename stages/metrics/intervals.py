"""Confidence intervals over the faces of a test set (what another sample of faces would have given).

They do not cover what another seed of the training would have given. reports/simulations.md has their coverage.
"""

import math

import numpy as np
from scipy.stats import beta

LEVEL = 0.95
# A model that fails grossly on 3 % of faces shows none of it in 2 % of the samples of 130 faces, less than the 2.5 %
# that an interval may miss on that side; in 36 % of the samples of 34, from which no method then knows the mean.
MINIMUM_FACES = 130
MINIMUM_BOUNDED = 10  # values in [0, 1] hide no gross failure
BLOCK = 400  # resamples held in memory at once: 8 MB for 2500 faces
STEPS = 2**19  # resolution of the resampled values


def resampled_t(values: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """(resamples, M) the studentised means (m* − m) / se* of M quantities of the same N faces, resampled together.

    values: (N, M), NaN where a face does not count for a quantity (a column that is constant has t* = 0). A resample
    without variation has t* = ±∞, or 0 where its mean is that of the sample. Deviations are rounded to 1/2¹⁹ of the
    largest, so that their sums, and those of their squares, are exact in any order: the same on every machine.
    """
    values = np.asarray(values, float)
    n, counted = len(values), np.isfinite(values)
    deviation = np.where(counted, values - np.nanmean(values, axis=0), 0)
    largest = np.abs(deviation).max(axis=0)
    deviation = np.rint(deviation * (STEPS / np.where(largest > 0, largest, 1)))
    columns = np.hstack([deviation, deviation**2, counted])
    rng, t = np.random.default_rng(seed), np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        faces = rng.integers(n, size=(rows, n))
        faces += n * np.arange(rows)[:, None]
        counts = np.bincount(faces.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
        total, squares, size = np.split(counts @ columns, 3, axis=1)
        variation = squares - total**2 / np.maximum(size, 1)
        variation[variation <= 1e-12 * squares] = 0  # rounding errors of one value, repeated
        with np.errstate(divide="ignore", invalid="ignore"):
            t[start : start + rows] = np.where(total == 0, 0, total / np.sqrt(variation))
    return t


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the means of columns (N, M), with the N of `resampled_t` in the denominator; NaN values do not count."""
    return np.nanstd(values, axis=0) / np.sqrt(np.isfinite(values).sum(axis=0))


def _studentised(values: np.ndarray, seed: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """The bounds (M,) of bootstrap-t intervals (Efron 1981; Davison and Hinkley 1997, section 5.2.1) of the means of
    values (N, M); one without variation is its value alone."""
    mean, error = values.mean(axis=0), standard_error(values)
    t = np.sort(resampled_t(values, seed, resamples), axis=0)
    rank = max(1, math.floor((resamples + 1) * (1 - LEVEL) / 2))
    constant = (values == values[0]).all(axis=0)
    with np.errstate(invalid="ignore"):
        bounds = mean - t[-rank] * error, mean - t[rank - 1] * error
    return np.where(constant, values[0], bounds[0]), np.where(constant, values[0], bounds[1])


def mean_intervals(errors: np.ndarray, seed: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """The bounds (M,) of the intervals of the means of errors (N, M), whatever N; none is beyond the errors."""
    return _within_errors(_studentised(errors, seed, resamples), errors)


def _within_errors(bounds: tuple[np.ndarray, np.ndarray], errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(bounds[0], errors.min(axis=0)), np.minimum(bounds[1], errors.max(axis=0))


def bounded_mean_intervals(values: np.ndarray, seed: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """The bounds (M,) of the intervals of the means of values (N, M) in [0, 1], whatever N."""
    return _within_shares(_studentised(values, seed, resamples), values)


def _within_shares(bounds: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (low, high), total, n = bounds, values.sum(axis=0), len(values)
    extreme = (total == 0) | (total == n)
    lowest, highest = _share_intervals(np.floor(total), n)[0], _share_intervals(np.ceil(total), n)[1]
    return np.where(extreme, lowest, np.maximum(low, lowest)), np.where(extreme, highest, np.minimum(high, highest))


def _share_intervals(counts: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The bounds (M,) of Clopper and Pearson's (1934) intervals of shares `counts` (M,) of n."""
    tail = (1 - LEVEL) / 2
    low = np.where(counts > 0, beta.ppf(tail, np.maximum(counts, 1), n - counts + 1), 0)
    return low, np.where(counts < n, beta.ppf(1 - tail, counts + 1, np.maximum(n - counts, 1)), 1)


def mean_interval(values: np.ndarray, seed: int, resamples: int = 10_000) -> tuple[float, float] | None:
    """The 95 % interval of the mean of errors (N,): bootstrap-t over faces, reproducible by its seed.

    NMEs have a long right tail; studentising corrects for its effect on the mean and on the mean's standard error. None
    for fewer than MINIMUM_FACES errors, or where one is not finite.
    """
    values = np.asarray(values, float)
    if len(values) < MINIMUM_FACES or not np.isfinite(values).all():
        return None
    low, high = mean_intervals(values[:, None], seed, resamples)
    return float(low[0]), float(high[0])


def bounded_mean_interval(values: np.ndarray, seed: int, resamples: int = 10_000) -> tuple[float, float] | None:
    """The 95 % interval of the mean of values (N,) in [0, 1], such as what each face adds to an AUC.

    As `mean_interval`, but within the `share_interval` of the same mean: nothing in [0, 1] varies more than a share,
    and a sample of zeros does not make zero certain. None for fewer than MINIMUM_BOUNDED values. Raises ValueError
    where one is outside [0, 1].
    """
    values = np.asarray(values, float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("values are outside [0, 1]")
    if len(values) < MINIMUM_BOUNDED:
        return None
    low, high = bounded_mean_intervals(values[:, None], seed, resamples)
    return float(low[0]), float(high[0])


def error_and_bounded_intervals(
    errors: np.ndarray, bounded: np.ndarray, seed: int, resamples: int = 10_000
) -> tuple[tuple[float, float] | None, list[tuple[float, float] | None]]:
    """`mean_interval` of errors (N,), and `bounded_mean_interval` of each column of bounded (N, M), from one resampling
    of the faces: the same bounds in a fraction of the time."""
    with_errors = len(errors) >= MINIMUM_FACES and np.isfinite(errors).all()
    if len(bounded) < MINIMUM_BOUNDED:
        return None, [None] * bounded.shape[1]
    # columns in memory one after the other: their sums, and so the last bits, are those of a column alone
    values = np.asfortranarray(np.column_stack([errors, bounded]) if with_errors else bounded)
    low, high = _studentised(values, seed, resamples)
    low_share, high_share = _within_shares((low[-bounded.shape[1] :], high[-bounded.shape[1] :]), bounded)
    shares = [(float(a), float(b)) for a, b in zip(low_share, high_share, strict=True)]
    if not with_errors:
        return None, shares
    (low_error,), (high_error,) = _within_errors((low[:1], high[:1]), errors[:, None])
    return (float(low_error), float(high_error)), shares


def share_interval(count: int, n: int) -> tuple[float, float] | None:
    """The 95 % interval of the share `count` of `n` faces (Clopper and Pearson 1934); None if n = 0.

    It contains any true share with at least 95 %; Wilson's interval contains one of 0.18/n in 84 % only. For failure
    rates: resamples of 300 faces without a failure contain none, so the bootstrap would call 0 % certain.
    """
    if n == 0:
        return None
    low, high = _share_intervals(np.array(count), n)
    return float(low), float(high)
