"""The rows of tables: experiments and submissions, or several of one entry of params/pipeline.yaml that differ in their
seed alone."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

import numpy as np

from stages.metrics.intervals import mean_interval
from stages.metrics.per_face import FaceErrors
from stages.metrics.remarks import SEED
from stages.metrics.results import Result
from stages.metrics.schema import Metrics
from stages.reporting.tables import Interval


@dataclass(frozen=True)
class Listing:
    """What params/pipeline.yaml lists. experiments: names of results, submissions among them; entries: in the file's
    order; baselines: entries with which others are compared.
    """

    experiments: Collection[str] = ()
    entries: Sequence[str] = ()
    baselines: Sequence[str] = ()


@dataclass(frozen=True)
class Estimate:
    """A figure in percent. interval: of 95 % over faces; deviation: over seeds (n − 1), where there are several."""

    value: float | None
    interval: Interval = None
    deviation: float | None = None


@dataclass(frozen=True)
class Entry:
    """One row: an experiment, or those that share a name in params/pipeline.yaml and differ in their seed alone."""

    name: str
    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def seeds(self) -> list[int | None]:
        return [result.seed for result in self.results]

    @cached_property
    def faces(self) -> FaceErrors:
        """The mean over seeds of every face's NME: what is compared, face by face."""
        if len(self.results) == 1:
            return self.first.faces
        faces = self.first.faces
        aligned = [
            result.faces.aligned_to(faces, f"the faces of {result.name} beside those of {self.first.name}").nme
            for result in self.results
        ]
        return FaceErrors(faces.face_id, np.mean(aligned, axis=0), faces.subsets)

    def _over_seeds(self, subset: str, figure: Callable[[Metrics], float | None]) -> Estimate:
        values = [figure(result.metrics[subset]) for result in self.results if subset in result.metrics]
        if not values or None in values:
            return Estimate(None)
        return Estimate(fmean(values), deviation=stdev(values) if len(values) > 1 else None)

    def n(self, subset: str) -> int:
        """Its number of faces; 0 where it was not measured."""
        return self.first.metrics[subset].n if subset in self.first.metrics else 0

    def mean_nme(self, subset: str) -> float | None:
        """The NME, or its mean over seeds."""
        return self._over_seeds(subset, lambda entry: entry.nme).value

    def nme(self, subset: str) -> Estimate:
        """The NME; of several seeds their mean, with the interval of the faces' means over seeds."""
        estimate = self._over_seeds(subset, lambda entry: entry.nme)
        if len(self.results) == 1:
            return Estimate(estimate.value, self.first.metrics[subset].nme_ci95) if self.n(subset) else estimate
        if estimate.value is None:
            return estimate
        interval = mean_interval(self.faces.nme[self.faces.rows()[subset]], SEED)
        return Estimate(estimate.value, interval, estimate.deviation)

    def at(self, subset: str, kind: str, threshold: str) -> Estimate:
        """fr or auc at a threshold; with its interval where there is one seed."""

        def figure(entry: Metrics) -> float | None:
            return getattr(entry.at.get(threshold), kind, None)

        estimate = self._over_seeds(subset, figure)
        if len(self.results) > 1 or subset not in self.first.metrics:
            return estimate
        return Estimate(estimate.value, getattr(self.first.metrics[subset].at.get(threshold), f"{kind}_ci95", None))

    def mean_shape(self, subset: str) -> float | None:
        """The NME of the mean shape, which no seed changes."""
        return self.first.metrics[subset].nme_mean_shape if subset in self.first.metrics else None


def _series(result: Result) -> object:
    """The same for experiments of which nothing but the seed differs, code and data included."""
    made = result.provenance
    if not made.entry or made.series is None:
        return result.name
    return made.entry, made.series, made.normaliser, made.hashes.data, faces_key(result)


def faces_key(result: Result) -> frozenset:
    """The same for results on the same faces in the same subsets."""
    return frozenset(zip(result.faces.face_id, map(frozenset, result.faces.subsets), strict=True))


def group(experiments: Sequence[Result]) -> list[Entry]:
    """The rows of these experiments, in their order. Seeds that something else sets apart are rows of their own."""
    series: dict[object, list[Result]] = {}
    for experiment in experiments:
        series.setdefault(_series(experiment), []).append(experiment)
    entries = []
    for members in series.values():
        seeds = {member.seed for member in members}
        if 1 < len(members) == len(seeds):
            members = sorted(members, key=lambda member: member.seed)
            entries.append(Entry(members[0].provenance.entry, tuple(members)))
        else:
            entries += [Entry(member.name, (member,)) for member in members]
    names = [entry.name for entry in entries]
    # an entry of which some seeds are older than the others is several rows, so the names of experiments
    return [Entry(entry.first.name, entry.results) if names.count(entry.name) > 1 else entry for entry in entries]


def baseline(entries: Sequence[Entry], listing: Listing) -> tuple[Entry, str]:
    """The row with which the others are compared, and why it: the one that the pipeline names, or the first."""
    by_name = {entry_name(entry): entry for entry in reversed(entries)}
    for name in listing.baselines:
        if name in by_name:
            return by_name[name], "`baseline` in params/pipeline.yaml"
    for name in listing.entries:
        if name in by_name:
            return by_name[name], "the first of them in params/pipeline.yaml"
    return min(entries, key=lambda entry: entry.name), "the first by name"


def entry_name(entry: Entry) -> str:
    """Its name in params/pipeline.yaml."""
    return entry.first.provenance.entry or entry.name
