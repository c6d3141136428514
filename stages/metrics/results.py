"""The results under reports/experiments/<name>/, read and checked: what evaluate writes there."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stages.metrics.per_face import FaceErrors, read_face_errors
from stages.metrics.provenance_schema import Provenance, Training
from stages.metrics.schema import Details, Error, Metrics, Share
from stages.system.errors import InputError, refuse, validation_faults

REMEDY = (
    "Make these results again with `dvc repro --force evaluate@<name>` (evaluate_cross@<name> for a cross-dataset "
    "evaluation, evaluate_submission@<name> for a submission), or restore them with `git checkout`."
)


@dataclass(frozen=True)
class Result:
    """The results of one set of predictions: an experiment's, a cross-dataset evaluation's or a submission's.

    ced: per subset NME (M,) in percent, ascending, and share of faces (M,) up to it. training, history: of the
    experiment whose model it is; history has a row per epoch (epoch, train/loss, lr, val/nme where there is a val
    split). pictures: the files in its folder `pictures`.
    """

    name: str
    provenance: Provenance
    metrics: Mapping[str, Metrics]
    ced: Mapping[str, tuple[np.ndarray, np.ndarray]]
    faces: FaceErrors
    details: Details
    training: Training | None = None
    history: pd.DataFrame | None = None
    pictures: tuple[str, ...] = ()

    @property
    def is_experiment(self) -> bool:
        return self.provenance.kind == "experiment"

    @property
    def is_cross_dataset(self) -> bool:
        return self.provenance.kind == "cross_dataset"

    @property
    def seed(self) -> int | None:
        """Of its training, or of the run of a submitted method."""
        if self.provenance.submission:
            return self.provenance.submission.seed
        return self.training and self.training.seed


class _Ced(BaseModel):
    model_config = ConfigDict(extra="forbid")

    subset: list[str]
    nme: list[Error]
    share: list[Share]


def _read_ced(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    table = pd.read_csv(path)
    _Ced.model_validate(table.to_dict("list"))
    nothing = np.empty(0), np.empty(0)  # where no face of test has a finite error
    steps = {name: (rows["nme"].to_numpy(), rows["share"].to_numpy()) for name, rows in table.groupby("subset")}
    return {"test": nothing} | steps


def _read_metrics(path: Path) -> dict[str, Metrics]:
    metrics = TypeAdapter(dict[str, Metrics]).validate_json(path.read_bytes())
    if "test" not in metrics:
        raise InputError(f"{path}: test: missing (the subset that is the whole test split)")
    return metrics


def _read_history(path: Path) -> pd.DataFrame | None:
    """None where it was not kept, as of models that were trained before it was."""
    if not path.exists():
        return None
    history = pd.read_csv(path, dtype=float)
    missing = [name for name in ("epoch", "train/loss", "lr") if name not in history]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)}: missing")
    return history


EVALUATED: dict[str, Callable[[Path], Any]] = {
    "provenance.json": lambda path: Provenance.model_validate_json(path.read_bytes()),
    "metrics.json": _read_metrics,
    "ced.csv": _read_ced,
    "faces.csv": read_face_errors,
    "details.json": lambda path: Details.model_validate_json(path.read_bytes()),
}
TRAINED: dict[str, Callable[[Path], Any]] = {
    "training.json": lambda path: Training.model_validate_json(path.read_bytes()),
    "history.csv": _read_history,
}


def _read(folder: Path, readers: Mapping[str, Callable[[Path], Any]]) -> tuple[list[Any], list[str]]:
    """The content of files of a folder, and every fault in them with its key; None for a file that has faults."""
    contents, faults = [], []
    for file, read in readers.items():
        path, content = folder / file, None
        try:
            content = read(path)
        except ValidationError as error:
            faults += [f"{path}: {fault}" for fault in validation_faults(error)]
        except FileNotFoundError:
            faults.append(f"{path}: missing")
        except InputError as error:
            faults.append(str(error))
        except (ValueError, KeyError) as error:  # not text, or not a table
            faults.append(f"{path}: {error}")
        contents.append(content)
    return contents, faults


def require_training(folder: Path) -> None:
    """Raise `InputError` listing the faults of what train wrote to `folder`."""
    (_, history), faults = _read(folder, TRAINED)
    faults += [f"{folder / 'history.csv'}: missing"] if history is None and not faults else []
    refuse(faults, str(folder), f"Restore it with dvc checkout {folder}, or train again: dvc repro.")


def read_all(folder: Path) -> tuple[list[Result], dict[str, list[str]]]:
    """All results under `folder` that can be read, whether the pipeline lists them or not, by dataset and name; and by
    name the faults of the others: every damaged or missing file, and the key that is wrong in it.

    A folder without any file that evaluate writes holds no results.
    """
    results, faults = {}, {}
    for path in sorted({path.parent for file in EVALUATED for path in folder.glob(f"*/{file}")}):
        contents, evaluation_faults = _read(path, EVALUATED)
        if evaluation_faults:
            faults[path.name] = evaluation_faults
            continue
        pictures = tuple(sorted(file.name for file in path.glob("pictures/*")))
        result = Result(path.name, *contents, pictures=pictures)
        if result.is_experiment:
            (training, history), training_faults = _read(path, TRAINED)
            if training_faults:
                faults[path.name] = training_faults
                continue
            result = replace(result, training=training, history=history)
        results[path.name] = result
    for name, result in results.items():
        model = results.get(result.provenance.experiment)
        if model is not None:
            results[name] = replace(result, training=model.training, history=model.history)
    return sorted(results.values(), key=lambda result: (result.provenance.dataset, result.name)), faults


def read_results(folder: Path, names: Collection[str] | None = None) -> list[Result]:
    """The results of these names, or all, as `read_all`. Raises `InputError` naming the faults of those asked for."""
    results, faults = read_all(folder)
    wanted = [found for name, found in faults.items() if names is None or name in names]
    refuse([fault for found in wanted for fault in found], str(folder), REMEDY)
    return [result for result in results if names is None or result.name in names]
