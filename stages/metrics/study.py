"""Studies: what a change of a recipe does, from trainings that differ in that change alone, compared face by face."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from stages.metrics.intervals import mean_interval
from stages.metrics.paired_tests import SEED, family
from stages.system.errors import InputError, validation_faults

Interval = tuple[float, float]


class Variant(BaseModel):
    """An experiment or its seeds. differs: from the first one, in short. x: the value of the study's key.

    NME in percent: the mean over faces, over seeds too, its interval over faces, and that of each seed.
    """

    name: str
    differs: str
    init: str
    seeds: list[int]
    x: float | None = None
    nme: float
    ci95: Interval | None
    nme_by_seed: list[float]


class Compared(BaseModel):
    """`second` − `first` on the same faces, as of `paired_tests.Difference`."""

    first: str
    second: str
    mean: float
    ci95: Interval | None
    p: float | None
    better: float  # the share of faces on which `second` has the smaller error


class Study(BaseModel):
    """reports/studies/<name>.json. by: the key of a recipe whose value is on the x-axis of its figure."""

    title: str
    dataset: str
    split: Literal["val", "test"]
    normaliser: str
    faces: int
    recipe: str
    shared: str
    by: str | None
    machine: str
    date: str
    note: str = ""
    variants: list[Variant]
    differences: list[Compared]


def variant(errors: Sequence[np.ndarray], **facts) -> Variant:
    """errors: of each seed the NMEs (N,) in percent of the same faces."""
    of_faces = np.mean(errors, axis=0)
    by_seed = [float(np.mean(nme)) for nme in errors]
    return Variant(nme=float(np.mean(of_faces)), ci95=mean_interval(of_faces, SEED), nme_by_seed=by_seed, **facts)


def compared(errors: Mapping[str, Sequence[np.ndarray]], pairs: Sequence[tuple[str, str]]) -> list[Compared]:
    """The differences of these pairs (first, second), tested as one family. errors: by name, as of `variant`."""
    means = {name: np.mean(nmes, axis=0) for name, nmes in errors.items()}
    rows = np.ones(len(next(iter(means.values()))), bool)
    tested = family({(a, b): (means[a], means[b], rows) for a, b in pairs})
    return [
        Compared(first=a, second=b, mean=d.mean, ci95=d.ci95, p=d.p, better=d.second_better / d.n)
        for (a, b), d in tested.items()
    ]


def read_studies(folder: Path) -> dict[str, Study]:
    """By name. Raises `InputError` where `stages.study` did not write a file."""
    studies = {}
    for path in sorted(folder.glob("*.json")):
        try:
            studies[path.stem] = Study.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise InputError(f"{path}: {validation_faults(error)[0]}. Delete it, and make the study again.") from None
    return studies
