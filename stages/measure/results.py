"""What evaluate and analyse leave of each experiment under reports/experiments/<experiment>/, read and checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stages.errors import InputError, refuse
from stages.measure.per_face import FaceErrors, read_face_errors

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Error = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # an NME in percent, which may pass 100


class Metrics(BaseModel):
    """One subset's entry of metrics.json, in percent; what its n does not define is None."""

    n: Annotated[int, Field(ge=0)]
    nme: Error | None
    nme_ci95: tuple[Error, Error] | None
    fr_008: Percent | None = Field(alias="fr_0.08")
    fr_010: Percent | None = Field(alias="fr_0.10")
    auc_008: Percent | None = Field(alias="auc_0.08")
    auc_010: Percent | None = Field(alias="auc_0.10")
    auc_008_ci95: tuple[Percent, Percent] | None = Field(None, alias="auc_0.08_ci95")
    auc_010_ci95: tuple[Percent, Percent] | None = Field(None, alias="auc_0.10_ci95")
    nme_mean_shape: Error | None = None  # predicting the training faces' mean shape in every box


class Hashes(BaseModel):
    data: str
    params: str
    code: str
    model: str


class Environment(BaseModel):
    """The machine and the packages of one stage."""

    lock: str
    cpu: str
    threads: int
    isa: str


class Training(BaseModel):
    epochs: int
    input_px: int
    seed: int
    device: str
    lock: str | None = None  # the training's own environment, where it was recorded
    cpu: str | None = None
    threads: int | None = None
    isa: str | None = None


class Cost(BaseModel):
    """What a model costs: gflops of one face, a multiplication and an addition being two."""

    parameters: int
    megabytes: float
    gflops: float


class Provenance(BaseModel):
    """provenance.json: what a result was made of, and where."""

    dataset: str
    recipe: str
    protocol: str
    normaliser: str
    run: str | None  # the MLflow run's name
    fingerprint: str
    hashes: Hashes
    environment: Environment
    training: Training
    outside_crop: Annotated[float, Field(ge=0, le=1)]  # share of the test landmarks outside the model's input
    series: str | None = None  # a hash of all parameters but the seed
    cost: Cost | None = None
    workload: str | None = None  # what is computed for a face, by which its time is found


class Crossing(BaseModel):
    """An experiment's model on the test faces of another dataset, by those of its landmarks that both have."""

    dataset: str
    protocol: str
    normaliser: str
    landmarks: list[int]
    of: int  # landmarks of the dataset
    metrics: dict[str, Metrics]


class Bin(BaseModel):
    """The faces between two values of a condition. nme: None where one of them has no prediction."""

    low: float
    high: float | None  # None: no limit
    n: int
    nme: Error | None
    ci95: tuple[Error, Error] | None


class Group(BaseModel):
    nme: Error | None
    ci95: tuple[Error, Error] | None


class Calibration(BaseModel):
    rank_correlation_faces: float | None
    rejected: list[float]  # shares of the faces, the least certain, that are put aside …
    nme_left: list[Error | None]  # … and the NME of the others


class Robustness(BaseModel):
    mean: Group  # over all displacements of the face box


class Details(BaseModel):
    """details.json, as far as the results page shows it; figures of the whole test split in percent."""

    percentiles: dict[str, dict[str, Error | None]]  # per subset
    landmarks: list[Error | None]
    groups: dict[str, Group]
    conditions: dict[str, list[Bin]]  # by yaw (degrees), side (px) and visible (share of the landmarks)
    calibration: Calibration
    robustness: Robustness | None = None


@dataclass(frozen=True)
class Experiment:
    """An experiment's results. ced: per subset NME (M,) in percent, ascending, and share of faces (M,) up to it."""

    name: str
    metrics: dict[str, Metrics]
    ced: dict[str, tuple[np.ndarray, np.ndarray]]
    provenance: Provenance
    pictures: tuple[str, ...]  # the files in its folder `figures`
    faces: FaceErrors | None = None  # of faces.csv, where it has one
    details: Details | None = None
    crossings: tuple[Crossing, ...] = ()


class _Ced(BaseModel):
    model_config = ConfigDict(extra="forbid")

    subset: list[str]
    nme: list[Error]
    share: list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]]


def _ced(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    table = pd.read_csv(path)
    _Ced.model_validate(table.to_dict("list"))
    nothing = np.empty(0), np.empty(0)  # where no face of test has a finite error
    steps = {name: (rows["nme"].to_numpy(), rows["share"].to_numpy()) for name, rows in table.groupby("subset")}
    return {"test": nothing} | steps


READERS = {
    "metrics.json": lambda path: TypeAdapter(dict[str, Metrics]).validate_json(path.read_bytes()),
    "ced.csv": _ced,
    "provenance.json": lambda path: Provenance.model_validate_json(path.read_bytes()),
}
ANALYSED = {
    "faces.csv": read_face_errors,
    "details.json": lambda path: Details.model_validate_json(path.read_bytes()),
}  # made after the others, and absent where an experiment was measured before they were thought of


def _crossing(path: Path) -> Crossing:
    return Crossing.model_validate_json(path.read_bytes())


def _read(folder: Path, readers: Mapping[str, Callable], needed: bool) -> tuple[dict[str, Any], list[str]]:
    """What could be read of an experiment's files, by file, and every fault of them, with the key that is wrong."""
    content, faults = {}, []
    for file, read in readers.items():
        path = folder / file
        try:
            content[file] = read(path)
        except ValidationError as error:
            for fault in error.errors():
                key = ".".join(map(str, fault["loc"]))
                faults.append(f"{path}: {key + ': ' if key else ''}{fault['msg']}")
        except FileNotFoundError:
            faults += [f"{path}: missing"] if needed else []
        except InputError as error:
            faults.append(str(error))
        except (ValueError, KeyError) as error:  # no text, no table
            faults.append(f"{path}: {error}")
    if "test" not in content.get("metrics.json", ("test",)):
        faults.append(f"{folder / 'metrics.json'}: test: missing (the subset that is the whole test split)")
    return content, faults


def _refuse(faults: list[str], folder: Path) -> None:
    refuse(faults, str(folder), "Make these results again with `dvc repro --force evaluate@<experiment>`, or get them "
           "back with `git checkout`.")  # fmt: skip


def _experiment(folder: Path, content: Mapping[str, Any]) -> Experiment:
    pictures = tuple(sorted(path.name for path in folder.glob("figures/*")))
    of = (content[file] for file in READERS)
    return Experiment(folder.name, *of, pictures, *(content.get(file) for file in ANALYSED))


def read_measured(folder: Path) -> Experiment:
    """What evaluate left of one experiment. Raises `InputError` as `read_experiments`."""
    content, faults = _read(folder, READERS, needed=True)
    _refuse(faults, folder)
    return _experiment(folder, content)


def read_experiments(folder: Path) -> list[Experiment]:
    """All experiments under `folder` that have a metrics.json, whether the pipeline lists them or not, by dataset.

    Raises `InputError` naming every damaged or missing file, and the key that is wrong in it.
    """
    found, faults = [], []
    for each in sorted(path.parent for path in folder.glob("*/metrics.json")):
        content, wrong = _read(each, READERS, needed=True)
        more, also_wrong = _read(each, ANALYSED, needed=False)
        names = sorted(f"crossings/{path.name}" for path in each.glob("crossings/*.json"))
        crossed, wrong_too = _read(each, dict.fromkeys(names, _crossing), needed=True)
        faults += wrong + also_wrong + wrong_too
        if not wrong:
            found.append(replace(_experiment(each, content | more), crossings=tuple(crossed.values())))
    _refuse(faults, folder)
    return sorted(found, key=lambda each: (each.provenance.dataset, each.name))
