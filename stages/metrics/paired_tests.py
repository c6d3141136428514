"""Paired tests of two experiments on the same faces: which is better, by how much, and whether that is significant.

Faces are hard or easy for every model, so differences per face are far more sensitive than two separate intervals.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, wilcoxon

from stages.metrics.intervals import BLOCK, LEVEL

RESAMPLES = 10_000
SEED = 1


@dataclass(frozen=True)
class Difference:
    """B − A on the n faces of a subset, NME in percent: below zero B is better.

    first, second: the NMEs of A and B. mean: their difference. ci95: its interval. p_rank, p_mean: of the hypothesis
    that A and B are equal, by Wilcoxon's signed-rank test and the paired bootstrap, both with Holm's correction over
    the subsets. What n does not define is None; so are mean and interval where A or B has no prediction for a face.
    """

    n: int
    first: float | None
    second: float | None
    mean: float | None
    ci95: tuple[float, float] | None
    p_rank: float | None
    p_mean: float | None

    @property
    def significant(self) -> bool:
        """Whether both tests reject equality at 5 %."""
        return all(p is not None and p < 1 - LEVEL for p in (self.p_rank, self.p_mean))


def paired_bootstrap(difference: np.ndarray, seed: int, resamples: int = RESAMPLES) -> tuple[tuple, float] | None:
    """The 95 % interval (BCa) of the mean of `difference` (N,), faces resampled, and the p of a mean of zero.

    p is twice the share of resampled means on the other side of zero, one added to the count (Davison and Hinkley 1997,
    section 4.4), so never less than 2/(resamples + 1). None for fewer than two faces or a difference that is infinite.
    """
    if len(difference) < 2 or not np.isfinite(difference).all():
        return None
    if (difference == difference[0]).all():  # BCa is not defined
        return (float(difference[0]),) * 2, 1.0 if difference[0] == 0 else 2 / (resamples + 1)
    result = bootstrap(
        (difference,), np.mean, n_resamples=resamples, batch=BLOCK, confidence_level=LEVEL, method="BCa",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    means = result.bootstrap_distribution
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    interval = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return interval, min(1.0, 2 * (int(beyond) + 1) / (resamples + 1))


def signed_rank(difference: np.ndarray) -> float | None:
    """Wilcoxon's two-sided p that differences (N,) are symmetric about zero; None for fewer than two."""
    if len(difference) < 2:
        return None
    return 1.0 if (difference == 0).all() else float(wilcoxon(difference).pvalue)


def holm(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's (1979) correction, which controls the probability of any false rejection among all of `p`."""
    ranked = sorted((value, name) for name, value in p.items() if value is not None)
    corrected, largest = dict.fromkeys(p), 0.0
    for i, (value, name) in enumerate(ranked):
        largest = max(largest, (len(ranked) - i) * value)
        corrected[name] = min(1.0, largest)
    return corrected


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def compare(first: np.ndarray, second: np.ndarray, subsets: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """The difference `second` − `first` in every subset.

    first, second: (N,) NME in percent of the same faces in the same order, ∞ without a prediction. subsets: (N,) bool
    by name. Raises ValueError where the shapes differ.
    """
    if first.shape != second.shape or any(rows.shape != first.shape for rows in subsets.values()):
        raise ValueError(f"first {first.shape} and second {second.shape} are not of the same faces")
    both_infinite = np.isinf(first) & np.isinf(second)  # neither is better
    difference = np.where(both_infinite, 0, second - np.where(both_infinite, 0, first))
    with_infinite = np.where(both_infinite, np.inf, difference)  # leaves no mean and no interval
    bootstraps = {name: paired_bootstrap(with_infinite[rows], SEED) for name, rows in subsets.items()}
    p_rank = holm({name: signed_rank(difference[rows]) for name, rows in subsets.items()})
    p_mean = holm({name: result and result[1] for name, result in bootstraps.items()})
    return {
        name: Difference(
            n=int(rows.sum()), first=_mean(first[rows]), second=_mean(second[rows]), mean=_mean(with_infinite[rows]),
            ci95=bootstraps[name] and bootstraps[name][0], p_rank=p_rank[name], p_mean=p_mean[name],
        )
        for name, rows in subsets.items()
    }  # fmt: skip
