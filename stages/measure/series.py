"""Trainings that differ in their seed alone: what another seed gives, which no interval over faces can tell."""

from collections.abc import Sequence
from statistics import fmean, stdev

from stages.measure.cells import NOTHING
from stages.measure.results import Experiment


def series(experiments: Sequence[Experiment]) -> list[list[Experiment]]:
    """The experiments in their order, those together that differ in nothing but the seed of their training."""
    found: dict[object, list[Experiment]] = {}
    for each in experiments:
        made = each.provenance
        key = (made.series, made.normaliser, made.hashes.data) if made.series else each.name
        found.setdefault(key, []).append(each)
    alone = [[each] for members in found.values() if not _differ(members) for each in members]
    together = [members for members in found.values() if _differ(members)]
    return sorted(alone + together, key=lambda members: experiments.index(members[0]))


def _differ(members: Sequence[Experiment]) -> bool:
    """Whether there are several, each with a seed of its own."""
    return 1 < len(members) == len({each.provenance.training.seed for each in members})


def name(members: Sequence[Experiment]) -> str:
    """`wflw-modern, wflw-modern2 (seeds 1, 2)`"""
    if len(members) == 1:
        return members[0].name
    seeds = ", ".join(str(each.provenance.training.seed) for each in members)
    return f"{', '.join(each.name for each in members)} (seeds {seeds})"


def spread(values: Sequence[float | None]) -> str:
    """`4.05 ± 0.03`: the mean over seeds and the standard deviation of one of them (n − 1)."""
    if any(value is None for value in values):
        return NOTHING
    return f"{fmean(values):.2f} ± {stdev(values):.2f}"
