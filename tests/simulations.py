"""How often the intervals contain the truth and the verdicts are right, on simulated test sets whose truth is known.

    python -m tests.simulations

writes reports/simulations.md in about three minutes on one core; the same figures from the same code and results.

The samples of a population are the columns of one array and share their resamples, as they do where a page computes
intervals of the same number of faces from one seed.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, norm, wilcoxon

from stages.metrics.intervals import (
    MINIMUM_BOUNDED,
    MINIMUM_FACES,
    bounded_mean_intervals,
    mean_intervals,
    resampled_t,
    share_interval,
    standard_error,
)
from stages.metrics.paired_tests import SIGNIFICANCE, adjusted
from stages.metrics.per_face import read_face_errors
from stages.reporting.tables import markdown_table

EXPERIMENTS = Path(__file__).parents[1] / "reports/experiments"
LFPW = ("lfpw-modern-128", "lfpw-paper-128", "lfpw-quick", "lfpw-quick-from-demo")
PAGE = EXPERIMENTS.parent / "simulations.md"
SEED = 1  # of the resamples
SAMPLES, RESAMPLES = 4000, 1999
FACES = (10, 25, 34, 94, 130, 300, 1000)
TABLES, TABLE_RESAMPLES = 2000, 999
TABLE_FACES = (34, 130, 224, 689)
PAIRS = list(combinations(range(4), 2))
SHIFTS = (0.05, 0.1, 0.2)
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


class Population(NamedTuple):
    """`draw` gives independent errors in percent of the shape that is asked for, `mean` their true mean."""

    draw: Draw
    mean: float


def log_normal(sigma: float) -> Population:
    return Population(lambda rng, shape: rng.lognormal(1.4, sigma, shape), np.exp(1.4 + sigma**2 / 2))


def with_failures(share: float, factor: float) -> Population:
    """Log-normal errors, σ 0.4; a `share` of the faces has errors `factor` times as large."""
    bulk = log_normal(0.4)

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        errors = bulk.draw(rng, shape)
        return np.where(rng.random(shape) < share, factor * errors, errors)

    return Population(draw, bulk.mean * (1 + share * (factor - 1)))


def measured(errors: np.ndarray) -> Population:
    """The errors (N,) of an experiment, drawn with replacement."""
    return Population(lambda rng, shape: rng.choice(errors, shape), errors.mean())


def read(experiment: str) -> np.ndarray:
    return read_face_errors(EXPERIMENTS / experiment / "faces.csv").nme


def at_threshold(population: Population, threshold: float = 8) -> Population:
    """What each face adds to the AUC at a threshold in percent; the true mean is that of two million draws."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.clip(1 - population.draw(rng, shape) / threshold, 0, 1)

    return Population(draw, draw(np.random.default_rng(99), (2_000_000,)).mean())


def populations() -> dict[str, Population]:
    return {
        "log-normal, σ 0.5": log_normal(0.5),
        "log-normal, σ 1": log_normal(1),
        "gamma, shape 2": Population(lambda rng, shape: rng.gamma(2, 2, shape), 4.0),
        "3 % failures × 5": with_failures(0.03, 5),
        "3 % failures × 10": with_failures(0.03, 10),
        "4 % failures × 10": with_failures(0.04, 10),
        "5 % failures × 20": with_failures(0.05, 20),
    }


def bca_intervals(values: np.ndarray, seed: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """The bounds (M,) of BCa intervals (Efron 1987) of the means of values (N, M), for comparison."""
    n, rng = len(values), np.random.default_rng(seed)
    counts = np.array([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(resamples)])
    means = np.sort(counts @ values / n, axis=0)
    bias = norm.ppf((means < values.mean(axis=0)).mean(axis=0).clip(1 / resamples, 1 - 1 / resamples))
    deviation = values - values.mean(axis=0)
    cubes, squares = (deviation**3).sum(axis=0), (deviation**2).sum(axis=0)
    acceleration = cubes / (6 * np.where(squares > 0, squares, 1) ** 1.5)
    bounds = []
    for z in norm.ppf([0.025, 0.975]):
        level = norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        rank = (level * (resamples - 1)).round().astype(int)
        bounds.append(np.take_along_axis(means, rank[None], axis=0)[0])
    return bounds[0], bounds[1]


def coverage(intervals: Callable, population: Population, n: int, samples: int, resamples: int) -> float:
    """The share of `samples` samples of n values whose interval contains the true mean."""
    values = population.draw(np.random.default_rng(n), (n, samples))
    low, high = intervals(values, SEED, resamples)
    return float(((low <= population.mean) & (population.mean <= high)).mean())


def share_coverage(interval: Callable[[int, int], tuple[float, float]], n: int) -> tuple[float, float]:
    """The exact coverage of intervals of a share of n, for true shares from 0.1 % to 20 %: the lowest and the mean."""
    shares, counts = np.linspace(0.001, 0.2, 2000), np.arange(n + 1)
    low, high = np.array([interval(int(count), n) for count in counts]).T
    contained = (low[:, None] <= shares) & (shares <= high[:, None])
    covered = (binom.pmf(counts[:, None], n, shares) * contained).sum(axis=0)
    return float(covered.min()), float(covered.mean())


def wilson_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson's (1927) score interval, for comparison."""
    z = norm.ppf(0.975)
    middle, half = count + z**2 / 2, z * np.sqrt(count * (n - count) / n + z**2 / 4)
    return (middle - half) / (n + z**2), (middle + half) / (n + z**2)


def alike(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """(*shape, 4) the errors of four methods with the same mean on the same faces, hard or easy for all of them."""
    return rng.lognormal(1.4, 0.5, (*shape, 1)) * rng.lognormal(-0.045, 0.3, (*shape, 4))


def failing(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """As `alike`; each fails on 4 % of the faces of its own, with errors ten times as large."""
    errors = alike(rng, shape)
    return np.where(rng.random(errors.shape) < 0.04, 10 * errors, errors)


def unequal_tails(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """The means are equal, the tails are not: the differences are skewed."""
    sigma = np.array([0.1, 0.3, 0.6, 0.9])
    return rng.lognormal(1.4, 0.5, (*shape, 1)) * np.exp(sigma * rng.standard_normal((*shape, 4)) - sigma**2 / 2)


def one_failing(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """As `alike`; one fails on 3 % of the faces, ten times as large, and is better on the rest: the means are equal."""
    errors = alike(rng, shape)
    errors[..., 0] *= np.where(rng.random(shape) < 0.03, 10, 1) / 1.27
    return errors


def measured_methods(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Faces of LFPW drawn with replacement, the errors of its experiments shifted to the same mean."""
    errors = np.stack([read(name) for name in LFPW], axis=1)
    return (errors - errors.mean(axis=0) + errors.mean())[rng.integers(len(errors), size=shape)]


EQUAL = {
    "alike": alike,
    "4 % failures × 10 each": failing,
    "unequal tails": unequal_tails,
    "3 % failures × 10 of one": one_failing,
    "experiments on LFPW": measured_methods,
}


def tables(
    methods: Callable, n: int, count: int, resamples: int, shift: float = 0, block: int = 250
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """`count` tables of all pairs of four methods on n faces: the differences (n, 6), p (6,), critical |t|.

    shift: percentage points that the last method is worse.
    """
    rng = np.random.default_rng(n)
    for _ in range(0, count, block):
        errors = methods(rng, (n, block)) + [0, 0, 0, shift]
        differences = np.stack([errors[..., b] - errors[..., a] for a, b in PAIRS], axis=2)
        flat = differences.reshape(n, -1)
        t = (flat.mean(axis=0) / standard_error(flat)).reshape(block, -1)
        resampled = resampled_t(flat, SEED, resamples).reshape(resamples, block, -1)
        for i in range(block):
            p, critical = adjusted(t[i], resampled[:, i])
            yield differences[:, i], p, critical


def both_tests(differences: np.ndarray, counts: np.ndarray) -> bool:
    """Whether Wilcoxon's test and a percentile bootstrap of the mean both reject any pair at 5 %, uncorrected."""
    beyond = (counts @ differences <= 0).mean(axis=0)
    return bool(((wilcoxon(differences, axis=0).pvalue < 0.05) & (np.minimum(beyond, 1 - beyond) < 0.025)).any())


def false_verdicts(methods: Callable, n: int, count: int, resamples: int) -> float:
    """The share of tables of equal methods in which any pair has a verdict."""
    return float(np.mean([(p < SIGNIFICANCE).any() for _, p, _ in tables(methods, n, count, resamples)]))


def power(n: int, shift: float, count: int, resamples: int) -> float:
    """The share of the three pairs of a method that is worse by `shift` that are found, on faces of LFPW."""
    worse = [i for i, pair in enumerate(PAIRS) if 3 in pair]
    return float(np.mean([p[worse] < SIGNIFICANCE for _, p, _ in tables(measured_methods, n, count, resamples, shift)]))


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def coverage_table(sources: dict[str, Population], intervals: Callable, minimum: int) -> tuple[str, list[float]]:
    """The table, and the coverage of all `intervals` of at least `minimum` faces."""
    rows, promised = [], []
    for name, population in sources.items():
        cells = [name]
        for n in FACES:
            own, bca = (coverage(method, population, n, SAMPLES, RESAMPLES) for method in (intervals, bca_intervals))
            cells.append(f"{percent(own)} · {percent(bca)}")
            promised += [own] if n >= minimum else []
        rows.append(cells)
    return markdown_table(["errors", *(f"{n}{'' if n >= minimum else ' †'}" for n in FACES)], rows), promised


def share_table() -> str:
    rows = []
    for name, interval in (("Clopper–Pearson", share_interval), ("Wilson", wilson_interval)):
        cells = (share_coverage(interval, n) for n in FACES)
        rows.append([name, *(f"{percent(lowest)} ({percent(mean)})" for lowest, mean in cells)])
    return markdown_table(["lowest (mean)", *map(str, FACES)], rows)


def false_verdicts_table() -> str:
    rows = []
    for name, methods in EQUAL.items():
        cells = []
        for n in TABLE_FACES:
            rng = np.random.default_rng(SEED)
            counts = np.array([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(TABLE_RESAMPLES)])
            counts = counts.astype(float)
            found = [
                ((p < SIGNIFICANCE).any(), both_tests(differences, counts))
                for differences, p, _ in tables(methods, n, TABLES, TABLE_RESAMPLES)
            ]
            cells.append(" · ".join(percent(share) for share in np.mean(found, axis=0)))
        rows.append([name, *cells])
    return markdown_table(["methods", *(f"{n}{'' if n >= MINIMUM_FACES else ' †'}" for n in TABLE_FACES)], rows)


def power_table() -> str:
    sizes = [n for n in TABLE_FACES if n >= MINIMUM_FACES]
    rows = [[f"{shift} points", *(percent(power(n, shift, 500, TABLE_RESAMPLES)) for n in sizes)] for shift in SHIFTS]
    return markdown_table(["difference in NME", *map(str, sizes)], rows)


def main() -> None:
    errors = populations() | {name: measured(read(name)) for name in ("lfpw-paper-128", "demo-quick")}
    bounded = {name: at_threshold(population) for name, population in errors.items()}
    nme, promised = coverage_table(errors, mean_intervals, MINIMUM_FACES)
    page = TEXT.format(
        samples=f"{SAMPLES:,}", resamples=f"{RESAMPLES:,}", minimum=MINIMUM_FACES, bounded=MINIMUM_BOUNDED,
        tables=f"{TABLES:,}", nme=nme, lowest=percent(min(promised)), highest=percent(max(promised)),
        auc=coverage_table(bounded, bounded_mean_intervals, MINIMUM_BOUNDED)[0], shares=share_table(),
        false=false_verdicts_table(), power=power_table(), missed_34=f"{100 * 0.97**34:.0f}",
        missed=f"{100 * 0.97**MINIMUM_FACES:.0f}",
    )  # fmt: skip
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


TEXT = """\
# Simulations of the intervals and verdicts

What a "95 %" interval contains and a verdict finds, on simulated test sets whose truth is known.
`python -m tests.simulations` makes this page in about three minutes on one core; do not edit it. Columns are numbers of
faces, figures percentages. † marks a number of faces for which the pages print no interval, or no verdict.

## Intervals of an NME

The share of {samples} samples whose interval contains the true mean: bootstrap-t, as on the pages, · BCa, as on earlier
ones ({resamples} resamples; Monte Carlo error 0.3). *Failures*: log-normal errors (σ 0.4) of which that share is so
many times as large. The last two are drawn from the errors of an experiment's test faces.

{nme}
Gross failures decide: of failures on 3 % of faces, a sample of 34 faces has none in {missed_34} % of cases, and no
method then knows the mean. A sample of {minimum} has none in {missed} %, less than the 2.5 % that an interval may miss
on that side, so an NME has an interval from {minimum} faces on: it contains the mean in {lowest} to {highest} % of the
samples here. With failures rarer than 3 % it still promises too much. Light tails, as of the models trained on LFPW,
would need far fewer faces, but a few faces cannot tell that the tail is light.

## Intervals of an AUC

The same for the AUC at 8 %, whose faces add a value in [0, 1]: no gross failure can hide, and there is an interval from
{bounded} faces on.

{auc}
## Intervals of a failure rate

The exact lowest coverage over true rates from 0.1 % to 20 % (and its mean). Wilson's interval, as on earlier pages,
breaks its promise for some rates at every n; Clopper and Pearson's keeps it and is wider.

{shares}
## False verdicts

Four methods of equal mean error, so six pairs: the share of {tables} tables with any verdict, at most 5 if all is well
(Monte Carlo error 0.5): max T, as on the pages, · Wilcoxon's test and the bootstrap of the mean both below 5 % for one
pair, as on earlier ones.

{false}
*Alike*: errors of the four correlate by their faces. *Unequal tails*: equal means of unlike distributions. Failures of
all methods alike make the verdicts cautious. The worst case is one method that fails grossly and makes up for it on all
other faces: with few faces its failures are missed, as above.

## Power

The experiments on LFPW, their errors shifted to one mean and one of them then made worse: the share of its pairs that
are found, among six.

{power}"""

if __name__ == "__main__":
    main()
