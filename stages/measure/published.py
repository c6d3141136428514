"""The figures that others have published (published.yaml), to be read beside ours."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stages.errors import refuse

FILE = Path(__file__).with_name("published.yaml")

Percent = Annotated[float, Field(ge=0, le=100)]


class Published(NamedTuple):
    """One published figure: `value` in percent on the `n` faces (None: sources differ) of a dataset's subset."""

    method: str
    dataset: str
    subset: str
    metric: str  # nme, fr_0.10, auc_0.10
    value: float
    normaliser: str
    n: int | None
    source: str
    secondary: bool  # seen on a results listing only


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Method(_Entry):
    method: str
    source: str | None = None
    secondary: bool = False
    nme: dict[str, Percent]
    fr: dict[str, Percent] = Field({}, alias="fr_0.10")
    auc: dict[str, Percent] = Field({}, alias="auc_0.10")


class _Benchmark(_Entry):
    normaliser: Literal["inter_ocular", "box_side"]
    n: dict[str, int | None]
    methods: list[_Method]


@cache
def _read() -> dict[str, _Benchmark]:
    """Raises `InputError` naming every wrong key, and every figure on a subset that the benchmark does not name."""
    try:
        found = TypeAdapter(dict[str, _Benchmark]).validate_python(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        refuse(faults, FILE.name, "Mend the file.")
    refuse(
        [
            f"{dataset}: {method.method}: {subset}: unknown subset; known: {', '.join(benchmark.n)}"
            for dataset, benchmark in found.items()
            for method in benchmark.methods
            for subset in (*method.nme, *method.fr, *method.auc)
            if subset not in benchmark.n
        ],
        FILE.name,
        "Mend the file.",
    )
    return found


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
        )
        for method in benchmark.methods
        for metric, figures in (("nme", method.nme), ("fr_0.10", method.fr), ("auc_0.10", method.auc))
        for subset, value in figures.items()
    ]
