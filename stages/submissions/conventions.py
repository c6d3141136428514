"""Notice predictions in another convention than the annotation's: numbering of pixels, axes, order of landmarks.

Nothing here changes a figure: what is certain is an error, what is likely a hint with the NME that the other convention
would give. The limits were set by measurement (tests/test_submissions.py repeats some): SPIGA's predictions on 300W and
LFPW, ours of `quick` on LFPW, and both moved by known amounts.

- A numbering of pixels moves x and y alike. SPIGA's are right by 300W's published numbers and lie (-0.7, +0.2) px from
  the annotation in the median, since its x is that of a model trained with mirrored images (source.origin is 1.8, not
  1). So not the offset alone decides, but whether moving both axes alike lowers the NME: by at most 1.7 % where the
  numbering was right (iBUG's 135 faces), by 7.5 to 19 % where it was off by one (on HELEN's large images alone by 1.6
  to 3 %).
- Two numberings in one file: the offsets of faces then form two clumps √2 px apart along the diagonal. The evidence for
  two clumps (`mixture`) was at most 0 in those files, the mean shape's included, and at most 4 for simulated offsets of
  all long-tailed kinds; it was 12 to 42 where a fifth or half of SPIGA's faces were moved by one pixel, or those of the
  folder of LFPW or of iBUG. It is not seen (3) in `quick`'s, whose errors are as large as the pixel, or on HELEN alone.
- Axes, order: errors fall by far more than half.

Symbols: N faces, K landmarks; points and truth (N, K, 2) px, NaN where not predicted or not annotated.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln
from scipy.stats import binom

SHIFTS = (-1.0, -0.5, 0.5, 1.0)  # px: another numbering, or edges of pixels instead of their centres
GAIN = 0.02  # of the NME, from which a shift is a hint
CERTAIN = 0.5  # of the error that a swapped order or swapped axes must at least explain
MIXED = 8.0  # log likelihood ratio
LOST = 0.5  # of the normaliser: a median error that no method has
SAMPLE = 1000  # faces that a mixture is looked for on


@dataclass(frozen=True)
class Offset:
    """Predicted − annotated, px: the median over n faces of each one's median over landmarks, and its 95 % interval."""

    x: float
    y: float
    x_ci95: tuple[float, float] | None
    y_ci95: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Shift:
    """Predictions moved by `by` px in x and in y would read `nme` percent."""

    by: float
    nme: float


def nme(points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> np.ndarray:
    """(N,) percent, over the landmarks that are predicted and annotated; NaN where there are none."""
    distance = np.hypot(*np.moveaxis(points - truth, -1, 0))
    known = np.isfinite(distance)
    count = known.sum(1)
    total = np.where(known, distance, 0).sum(1)
    return 100 * np.divide(total, count * normaliser, out=np.full(len(total), np.nan), where=count > 0)


def face_offsets(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(M, 2) each face's median over landmarks, of the faces that have any."""
    difference = points - truth
    return np.nanmedian(difference[np.isfinite(difference).all(-1).any(1)], axis=1)


def measure_offset(points: np.ndarray, truth: np.ndarray) -> Offset | None:
    """None where nothing is predicted. The interval is that of the sign test: no assumption about the distribution."""
    offsets = face_offsets(points, truth)
    if not (n := len(offsets)):
        return None
    rank = int(binom.ppf(0.025, n, 0.5))  # the rank-th smallest and largest value cover the median with 95 % or more
    ordered = np.sort(offsets, axis=0)
    intervals = [(float(axis[rank - 1]), float(axis[n - rank])) if rank else None for axis in ordered.T]
    x, y = np.median(offsets, axis=0)
    return Offset(float(x), float(y), *intervals, n)


def likely_shift(points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> Shift | None:
    """The numbering of pixels that fits better, where one does by `GAIN` and beyond chance (3 standard errors)."""
    own, offset = nme(points, truth, normaliser), measure_offset(points, truth)
    if offset is None or offset.n < 2:
        return None
    best = None
    for by in SHIFTS:
        if not (abs(offset.x + by) < abs(offset.x) and abs(offset.y + by) < abs(offset.y)):
            continue
        moved = nme(points + by, truth, normaliser)
        gain = (own - moved)[np.isfinite(own)]
        beyond = gain.mean() > 3 * gain.std() / np.sqrt(len(gain))
        if beyond and gain.mean() > GAIN * np.nanmean(own) and (best is None or np.nanmean(moved) < best.nme):
            best = Shift(by, float(np.nanmean(moved)))
    return best


def mixture(points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> float:
    """The evidence for two numberings in one file, one pixel apart, against one: a log likelihood ratio.

    Two numberings split the faces' offsets along the diagonal, u = (x + y)/√2, into two clumps √2 px apart, and leave
    v = (x − y)/√2 as it is. So the ratio along v, twice, is what a mere shape of the errors may give along u.
    """
    difference = points - truth
    chosen = np.flatnonzero(np.isfinite(difference).all(-1).any(1))
    chosen = chosen[:: len(chosen) // SAMPLE + 1]
    if len(chosen) < 20:
        return 0.0
    x, y = (np.nanmedian(difference[chosen], axis=1) / np.sqrt(2)).T
    along, across = (_two_clumps(values - np.median(values), normaliser[chosen]) for values in (x + y, x - y))
    return along - 2 * max(across, 0)


def _two_clumps(u: np.ndarray, size: np.ndarray) -> float:
    """The log likelihood ratio of two clumps √2 px apart against one; u: (N,) px.

    A clump is a Student t of 3, 8 or 30 degrees of freedom, its width in proportion to the faces' size (N,), to its
    root, or the same for all.
    """
    one = two = -np.inf
    shares = np.log([[0.15, 0.85], [0.3, 0.7], [0.5, 0.5], [0.7, 0.3], [0.85, 0.15]])
    for power in (0, 0.5, 1):
        width = size**power
        unit = max(float(np.median(np.abs(u) / width)), 1e-6)
        for freedom, factor in product((3, 8, 30), np.geomspace(0.25, 2, 13)):
            scale = factor * unit * width
            for centre in np.linspace(-1, 1, 11):
                low, middle, high = (_log_density(u - centre - by, scale, freedom) for by in (-(0.5**0.5), 0, 0.5**0.5))
                one = max(one, middle.sum())
                two = max(two, *(np.logaddexp(a + low, b + high).sum() for a, b in shares))
    return float(two - one)


def _log_density(x: np.ndarray, scale: np.ndarray, freedom: int) -> np.ndarray:
    """Of Student's t."""
    constant = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - np.log(freedom) / 2
    return constant - (freedom + 1) / 2 * np.log1p((x / scale) ** 2 / freedom) - np.log(scale)


def order(points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """Which of the dataset's landmarks each predicted one is, (K,), where another order explains the errors.

    With the mean errors, in percent, of the landmarks that change places: as they are, and in that order. None where
    the order is right, or no other explains half of these errors.
    """
    step = max(1, len(points) // 300)
    points, truth, normaliser = points[::step], truth[::step], normaliser[::step]
    k = points.shape[1]
    cost = np.empty((k, k))
    for i in range(k):
        distance = np.hypot(*np.moveaxis(points[:, i, None] - truth, -1, 0)) / normaliser[:, None]
        known = np.isfinite(distance)
        total = np.where(known, np.minimum(distance, 1), 0).sum(0)
        cost[i] = np.divide(total, known.sum(0), out=np.ones(k), where=known.any(0))
    places = linear_sum_assignment(cost)[1]
    moved = np.flatnonzero(places != np.arange(k))
    before, after = 100 * cost[moved, moved].sum(), 100 * cost[moved, places[moved]].sum()
    if not len(moved) or after > CERTAIN * before:
        return None
    return places, before / len(moved), after / len(moved)
