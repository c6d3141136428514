"""What a model needs in use besides its weights: from a detector's boxes to its face boxes, and its expected errors.

`predict` writes data/calibration/<experiment>.json; an ONNX file has the same in its metadata, and an MLflow model as
calibration.json beside its weights.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.inference.uncertainty import Uncertainty
from stages.predictions.detections import BoxMap
from stages.system.errors import InputError

FILE = "calibration.json"


class Calibration(BaseModel):
    """boxes: fitted on the training faces of the model's dataset. errors: fitted on its val faces. None: not fitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    boxes: BoxMap | None = None
    errors: Uncertainty | None = None


def read(path: Path) -> Calibration:
    """Nothing is fitted where there is no such file. Raises `InputError` where it is damaged."""
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Calibration()
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: run dvc repro ({type(error).__name__}).") from None


def of_model(folder: Path) -> Calibration:
    """That of models/<experiment>, or of a folder that has it beside the weights."""
    beside = folder / FILE
    return read(beside if beside.exists() else Path("data/calibration") / f"{folder.name}.json")
