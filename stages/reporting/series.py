"""Experiments that differ in their seed alone: what another seed gives, which intervals over faces do not cover."""

from collections.abc import Sequence
from statistics import fmean, stdev

from stages.metrics.results import Result
from stages.reporting.tables import NOTHING


def group_by_seed(experiments: Sequence[Result]) -> list[list[Result]]:
    """The experiments in their order, grouped where nothing but the seed of their training differs."""
    candidates: dict[object, list[Result]] = {}
    for experiment in experiments:
        made = experiment.provenance
        key = (made.series, made.normaliser, made.hashes.data) if made.series else experiment.name
        candidates.setdefault(key, []).append(experiment)
    groups = []
    for members in candidates.values():
        groups += [members] if _seeds_differ(members) else [[member] for member in members]
    return sorted(groups, key=lambda members: experiments.index(members[0]))


def _seeds_differ(members: Sequence[Result]) -> bool:
    return 1 < len(members) == len({member.training.seed for member in members})


def name(members: Sequence[Result]) -> str:
    """`wflw-modern, wflw-modern2 (seeds 1, 2)`"""
    if len(members) == 1:
        return members[0].name
    seeds = ", ".join(str(member.training.seed) for member in members)
    return f"{', '.join(member.name for member in members)} (seeds {seeds})"


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """`4.05 ± 0.03`: the mean over seeds and the standard deviation of one of them (n − 1)."""
    if any(value is None for value in values):
        return NOTHING
    return f"{fmean(values):.2f} ± {stdev(values):.2f}"
