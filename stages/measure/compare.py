"""Two experiments on the same faces: which is better, by how much, and how sure that is.

Faces are hard or easy for every model, so the differences face by face say far more than two intervals side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, wilcoxon

from stages.measure.statistics import BLOCK, LEVEL

RESAMPLES = 10_000
SEED = 1


@dataclass(frozen=True)
class Difference:
    """B − A on the n faces of a subset, NME in percent: below zero B is better.

    first, second: the NMEs of A and B. mean: their difference. ci95: its interval. p_rank, p_mean: that A and B are
    equal, by Wilcoxon's signed ranks and by the paired bootstrap, both corrected by Holm over the subsets compared.
    What n does not define is None; so are mean and interval where one of the two has no prediction for a face.
    """

    n: int
    first: float | None
    second: float | None
    mean: float | None
    ci95: tuple[float, float] | None
    p_rank: float | None
    p_mean: float | None

    @property
    def sure(self) -> bool:
        """Whether both tests find a difference at 5 %, and both the same one."""
        return all(p is not None and p < 1 - LEVEL for p in (self.p_rank, self.p_mean))


def paired_bootstrap(difference: np.ndarray, seed: int, resamples: int = RESAMPLES) -> tuple[tuple, float] | None:
    """The 95 % interval (BCa) of the mean of `difference` (N,), faces resampled, and the p of a mean of zero.

    p is twice the share of resampled means on the other side of zero, counting one more (Davison and Hinkley 1997,
    section 4.4), so never less than 2/(resamples + 1). None for fewer than two faces, or a difference not finite.
    """
    if len(difference) < 2 or not np.isfinite(difference).all():
        return None
    if (difference == difference[0]).all():  # no face tells of another one's difference
        return (float(difference[0]),) * 2, 1.0 if difference[0] == 0 else 2 / (resamples + 1)
    found = bootstrap(
        (difference,), np.mean, n_resamples=resamples, batch=BLOCK, confidence_level=LEVEL, method="BCa",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    means = found.bootstrap_distribution
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    interval = float(found.confidence_interval.low), float(found.confidence_interval.high)
    return interval, min(1.0, 2 * (int(beyond) + 1) / (resamples + 1))


def signed_rank(difference: np.ndarray) -> float | None:
    """Wilcoxon's p, two-sided, that differences (N,) lie symmetrically about zero; None for fewer than two."""
    if len(difference) < 2:
        return None
    return 1.0 if (difference == 0).all() else float(wilcoxon(difference).pvalue)


def holm(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's (1979) correction: the chance of one false find among all of `p` is what one alone would have."""
    ranked = sorted((value, name) for name, value in p.items() if value is not None)
    found, least = dict.fromkeys(p), 0.0
    for i, (value, name) in enumerate(ranked):
        least = max(least, (len(ranked) - i) * value)
        found[name] = min(1.0, least)
    return found


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def compare(first: np.ndarray, second: np.ndarray, subsets: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """The difference `second` − `first` in every subset.

    first, second: (N,) NME in percent of the same faces in the same order, ∞ without a prediction. subsets: (N,) bool
    each. Raises ValueError where the shapes differ.
    """
    if first.shape != second.shape or any(rows.shape != first.shape for rows in subsets.values()):
        raise ValueError(f"first {first.shape} and second {second.shape} are not of the same faces")
    lost = np.isinf(first) & np.isinf(second)  # equally wrong
    difference = np.where(lost, 0, second - np.where(lost, 0, first))
    sure = {name: paired_bootstrap(np.where(lost, np.inf, difference)[rows], SEED) for name, rows in subsets.items()}
    rank = holm({name: signed_rank(difference[rows]) for name, rows in subsets.items()})
    mean = holm({name: found and found[1] for name, found in sure.items()})
    return {
        name: Difference(
            n=int(rows.sum()), first=_mean(first[rows]), second=_mean(second[rows]),
            mean=_mean(np.where(lost, np.inf, difference)[rows]), ci95=sure[name] and sure[name][0],
            p_rank=rank[name], p_mean=mean[name],
        )
        for name, rows in subsets.items()
    }  # fmt: skip
