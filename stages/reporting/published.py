"""Published figures (published.yaml), and, for the terminal, a table of them below ours."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from stages.metrics.schema import Metrics
from stages.reporting.tables import NOTHING, at, at_threshold, error, markdown_table, nme
from stages.system.errors import refuse, validation_faults

FILE = Path(__file__).with_name("published.yaml")

ROUNDING = 0.15  # percent: papers round NME to 0.01 and AUC to 0.1, and NME counts 100/t-fold
_METRIC = r"^(nme|(fr|auc)_[01]\.\d\d)$"

Percent = Annotated[float, Field(ge=0, le=100)]


class Published(NamedTuple):
    """One published figure: `value` in percent on the `n` faces (None: sources differ) of a dataset's subset."""

    method: str
    dataset: str
    subset: str
    metric: str  # nme, or as metrics.json writes it: fr_0.10, auc_0.07
    value: float
    normaliser: str
    n: int | None
    source: str
    secondary: bool  # seen on a results listing only
    judged_by: str = ""  # the faces that its epoch was chosen on, its face box and extra data, where they are known


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Method(_Entry):
    method: str
    source: str | None = None
    secondary: bool = False
    epoch_chosen_on: Literal["val", "last", "test", "unknown"] = "unknown"
    box: str = "unknown"
    extra_data: str = "unknown"
    figures: Annotated[dict[str, dict[str, Percent]], Field(min_length=1)]  # by metric and subset

    @model_validator(mode="before")
    @classmethod
    def _gather_figures(cls, content: dict) -> dict:
        figures = {key: content[key] for key in content if re.match(_METRIC, key)}
        return {key: value for key, value in content.items() if key not in figures} | {"figures": figures}

    @property
    def judged_by(self) -> str:
        facts = {"epoch chosen on": self.epoch_chosen_on, "box:": self.box, "extra data:": self.extra_data}
        return "; ".join(f"{name} {value}" for name, value in facts.items() if value != "unknown")

    def impossible(self) -> list[str]:
        """AUC that no errors of its NME have: a face of error e adds max(0, 1 − e/t) ≥ 1 − e/t, so AUC@t ≥ 1 − NME/t.

        Of a rounded NME and AUC, ROUNDING of a percent may be missing.
        """
        found = []
        for metric, figures in self.figures.items():
            kind, _, threshold = metric.partition("_")
            for subset, value in figures.items() if kind == "auc" else ():
                nme = self.figures.get("nme", {}).get(subset)
                if nme is not None and value < (least := 100 - nme / float(threshold)) - ROUNDING:
                    found.append(f"{subset}: {metric} is {value}, and its NME of {nme} implies at least {least:.1f}")
        return found


class _Benchmark(_Entry):
    normaliser: Literal["inter_ocular", "box_side"]
    n: dict[str, int | None]
    methods: list[_Method]


@cache
def _read() -> dict[str, _Benchmark]:
    """Raises `InputError` naming every wrong key, every figure on a subset that the benchmark does not name, and every
    AUC that contradicts its NME."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    try:
        benchmarks = TypeAdapter(dict[str, _Benchmark]).validate_python(content)
    except ValidationError as error:
        refuse(validation_faults(error), FILE.name, "Correct the file.")
    refuse(
        [
            f"{dataset}: {method.method}: {subset}: unknown subset; known: {', '.join(benchmark.n)}"
            for dataset, benchmark in benchmarks.items()
            for method in benchmark.methods
            for subset in (subset for figures in method.figures.values() for subset in figures)
            if subset not in benchmark.n
        ]
        + [
            f"{dataset}: {method.method}: {fault}"
            for dataset, benchmark in benchmarks.items()
            for method in benchmark.methods
            for fault in method.impossible()
        ],
        FILE.name,
        "Correct the file.",
    )
    return benchmarks


def published(dataset: str) -> list[Published]:
    """All figures published on a dataset, in the file's order; none for one that is no benchmark."""
    benchmark = _read().get(dataset)
    if benchmark is None:
        return []
    return [
        Published(
            method=method.method,
            dataset=dataset,
            subset=subset,
            metric=metric,
            value=value,
            normaliser=benchmark.normaliser,
            n=benchmark.n[subset],
            source=method.source or ("a results listing" if method.secondary else "the method's own repository"),
            secondary=method.secondary,
            judged_by=method.judged_by,
        )
        for method in benchmark.methods
        for metric, figures in method.figures.items()
        for subset, value in figures.items()
    ]


class Measured(NamedTuple):
    """A row of our own figures: metrics and number of faces by subset.

    counts: of the subsets as they are published, where only a sample of the faces was measured.
    """

    name: str
    source: str
    metrics: Mapping[str, Metrics]
    counts: Mapping[str, int | None] | None = None

    def counted(self) -> dict[str, int | None]:
        """The number of faces of each of our subsets, or of that which it is a sample of."""
        if self.counts is None:
            return {name: entry.n for name, entry in self.metrics.items()}
        return {name: self.counts.get(name) for name in self.metrics}


def matching_subset(counts: Mapping[str, int | None], subset: str, n: int | None) -> str | None:
    """Our subset with the n faces of a published one: that of the same name, or the whole test split, if n agrees.

    counts: of our subsets. Papers have other names for some test splits: 300W's usual one is "full".
    """
    if subset in counts and n in (None, counts[subset]):
        return subset
    return "test" if n is not None and n == counts["test"] else None


def other_faces(figures: Sequence[Published]) -> str:
    """That ours are not the faces of these figures; empty where there are none."""
    faces = ", ".join(f"{subset} {n}" for subset, n in dict.fromkeys((f.subset, f.n) for f in figures) if n)
    return f"These are not the faces of the published figures ({faces}), so they are not compared.\n" if faces else ""


def _figure(entry: Metrics, metric: str) -> str:
    if metric == "nme":
        return nme(entry)
    kind, threshold = metric.split("_")
    return at(kind, getattr(entry.at.get(threshold), kind, None))


def _value(value: float | None, metric: str) -> str:
    return error(value) if metric == "nme" else at(metric.split("_")[0], value)


def _name(metric: str) -> str:
    return "NME" if metric == "nme" else at_threshold(*metric.split("_"))


SECONDARY = "† A secondary source: seen on a results listing, neither in the paper nor in its repository.\n"


def comparison_table(rows: Sequence[Measured], figures: Sequence[Published], normaliser: str) -> str:
    """Our rows above those of the published figures of a dataset, on the same faces under the same normaliser.

    A sentence instead where none are published like that; empty where `figures` is.
    """
    if not figures:
        return ""
    dataset, figures = figures[0].dataset, [figure for figure in figures if figure.normaliser == normaliser]
    if not figures:
        return f"No figure on {dataset} has been published under this normaliser.\n"
    columns = list(dict.fromkeys((figure.metric, figure.subset, figure.n) for figure in figures))
    columns.sort(key=lambda column: (("nme", "fr", "auc").index(column[0].split("_")[0]), column[0]))
    cells, differing = [], {}
    for row in rows:
        subsets = [matching_subset(row.counted(), subset, n) for _, subset, n in columns]
        for subset, (_, name, n) in zip(subsets, columns, strict=True):
            if subset and n not in (None, row.metrics[subset].n):
                differing[name] = f"{name} has {row.metrics[subset].n} faces here and {n} there"
        if any(subsets):
            own = [
                _figure(row.metrics[subset], metric) if subset else NOTHING
                for subset, (metric, _, _) in zip(subsets, columns, strict=True)
            ]
            cells.append((row.name, row.source, *own))
    if not cells:
        return other_faces(figures)
    for (method, source, secondary), group in groupby(figures, lambda f: (f.method, f.source, f.secondary)):
        values = {(figure.metric, figure.subset): figure.value for figure in group}
        theirs = [_value(values.get((m, s)), m) for m, s, _ in columns]
        cells.append((method + (" †" if secondary else ""), source, *theirs))
    header = ("method", "source", *(f"{_name(metric)} {subset}" for metric, subset, _ in columns))
    text = markdown_table(header, cells, left=2)
    if any(figure.secondary for figure in figures):
        text += f"\n{SECONDARY}"
    if differing:
        text += f"\nThese do not compare, since the faces differ: {'; '.join(differing.values())}.\n"
    return text
