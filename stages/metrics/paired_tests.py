"""Paired comparisons of experiments on the same faces: which is better, by how much, and whether that is significant.

Faces are hard or easy for every model, so differences per face are far more sensitive than two separate intervals.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
from scipy.stats import binomtest

from stages.metrics.intervals import MINIMUM_FACES, resampled_t, standard_error

RESAMPLES = 10_000
SEED = 1
SIGNIFICANCE = 0.05
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Difference:
    """B − A on n faces, NME in percent: below zero B is better.

    first, second: the NMEs of A and B. mean: their difference. ci95, p: its interval and the p of a mean of zero, both
    simultaneous over the family that it was tested in, so that zero is outside ci95 where p < 0.05, and only there;
    None with fewer than MINIMUM_FACES, ci95 also where the faces do not bound it. first_better, second_better: the
    faces on which A, or B, has the smaller error. p_sign: that these are equally likely, by the sign test with
    Bonferroni's correction over the family. without: the faces for which A or B has no prediction; where there is one,
    mean, ci95 and p are None.
    """

    n: int
    first: float | None
    second: float | None
    mean: float | None
    ci95: tuple[float, float] | None
    p: float | None
    first_better: int
    second_better: int
    p_sign: float
    without: int

    @property
    def significant(self) -> bool:
        """Whether equal means are rejected at 5 %."""
        return self.p is not None and self.p < SIGNIFICANCE

    @property
    def majority(self) -> int:
        """−1 if B has the smaller error on most faces, 1 if A has, 0 if the sign test does not tell."""
        if self.p_sign >= SIGNIFICANCE:
            return 0
        return -1 if self.second_better > self.first_better else 1


def adjusted(t: np.ndarray, resampled: np.ndarray) -> tuple[np.ndarray, float]:
    """The adjusted p (M,) of a family of t statistics (M,), and the critical value of |t| at 5 %.

    resampled: (B, M) t* of the same M under equal means, a row from one resample. The largest |t*| of each row is what
    the most significant of M equal pairs would have (single-step max T: Westfall and Young 1993, section 2.5), so that
    p < 0.05, exactly where |t| exceeds the critical value, comes up for any of them in 5 % of families. p is at least
    1/(B + 1).
    """
    largest = np.sort(np.abs(resampled).max(axis=1, initial=0))
    beyond = len(largest) - np.searchsorted(largest, np.abs(t))  # the rows with at least this |t|
    place = math.ceil(SIGNIFICANCE * (len(largest) + 1)) - 1  # p < 0.05 where `beyond` is less than that
    return (1 + beyond) / (len(largest) + 1), float(largest[-place])


def simultaneous(
    differences: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The means (M,) of a family of differences (N, M), their simultaneous 95 % intervals (M, 2) and adjusted p (M,).

    Studentised bootstrap; all are of the same N faces, resampled once for all, NaN where a face does not count for one
    of them. Zero is outside an interval exactly where p < 0.05. A difference of which 5 % of the resamples have no
    variation (all but three faces or so are equal) has an infinite interval and p = 1, and does not count for others.
    """
    highest = np.nanmax(differences, axis=0)
    constant = highest == np.nanmin(differences, axis=0)
    means = np.where(constant, highest, np.nanmean(differences, axis=0))
    errors = np.where(constant, 0, standard_error(differences))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(means == 0, 0, means / errors)
        resampled = resampled_t(differences, seed, resamples)
        bounded = np.isinf(resampled).mean(axis=0) < SIGNIFICANCE
        p, critical = adjusted(t, resampled[:, bounded])
        critical = np.where(bounded, critical, np.inf)
        low, high = errors * (t - critical), errors * (t + critical)  # not means ± …, which rounding may move across 0
    intervals = np.where(constant[:, None], means[:, None], np.stack([low, high], axis=1))
    return means, intervals, np.where(bounded, p, 1)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def family(comparisons: Mapping[Key, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[Key, Difference]:
    """The difference B − A of every comparison, tested as one family.

    comparisons: the NMEs of A and of B, both (N,) in percent, ∞ without a prediction, of the same faces in the same
    order for all comparisons, and which faces count, (N,) bool. Raises ValueError where the shapes differ.
    """
    shapes = {array.shape for arrays in comparisons.values() for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"arrays of the shapes {sorted(shapes)} are not of the same faces")
    columns = {}
    for key, (first, second, rows) in comparisons.items():
        predicted = np.isfinite(first) & np.isfinite(second)
        if rows.sum() >= MINIMUM_FACES and predicted[rows].all():
            columns[key] = np.where(rows & predicted, second - np.where(predicted, first, 0), np.nan)
    tested = {}
    if columns:
        means, intervals, p = simultaneous(np.stack(list(columns.values()), axis=1), SEED)
        tested = dict(zip(columns, zip(means, intervals, p, strict=True), strict=True))
    differences = {}
    for key, (first, second, rows) in comparisons.items():
        a, b = first[rows], second[rows]
        first_better, second_better = int((a < b).sum()), int((b < a).sum())
        unequal = first_better + second_better
        sign = binomtest(second_better, unequal).pvalue if unequal else 1.0
        mean, interval, p = tested.get(key, (None, None, None))
        one, other = _mean(a), _mean(b)
        if mean is None and one is not None and other is not None:
            mean = (b - a).mean()
        differences[key] = Difference(
            n=len(a), first=one, second=other, mean=None if mean is None else float(mean),
            ci95=None if interval is None or not np.isfinite(interval).all() else tuple(map(float, interval)),
            p=None if p is None else float(p), first_better=first_better, second_better=second_better,
            p_sign=min(1.0, len(comparisons) * float(sign)), without=int((np.isinf(a) | np.isinf(b)).sum()),
        )  # fmt: skip
    return differences


def compare(first: np.ndarray, second: np.ndarray, subsets: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """The difference `second` − `first`, NMEs as in `family`, in every subset, (N,) bool by name: one family."""
    return family({name: (first, second, rows) for name, rows in subsets.items()})


def compare_all(errors: Mapping[str, np.ndarray]) -> dict[tuple[str, str], Difference]:
    """The difference of every two experiments on all faces: one family. errors: by name, NMEs (N,) as in `family`."""
    return family({
        (a, b): (errors[a], errors[b], np.ones(len(errors[a]), bool)) for a, b in combinations(errors, 2)
    })  # fmt: skip
