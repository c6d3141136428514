"""The landmark model as MLflow serves it: rows of images in, a row for every face out.

A row of the input: `image`, a file's bytes (JPEG, PNG, …) in base64, and optionally the face's box `x_min`, `y_min`,
`x_max`, `y_max`; without a box the detector looks for faces, and an image without any has no row in the answer. Of the
output: `image`, the number of the input's row; `face`, its number there; the square face box and `detector_score`; and
K×2 `landmarks`, K `confidence` and `expected_error`, as `stages.landmarks` finds them. All in px of the upright image,
the centre of its first pixel at 0.
"""

import base64
import binascii
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from stages.data.geometry import corners
from stages.landmarking.detector import FaceBoxes
from stages.landmarking.landmarker import Landmarker
from stages.sources.images.reading import decode
from stages.system.errors import InputError

EDGES = ("x_min", "y_min", "x_max", "y_max")
REAL, WHOLE, LIST = DataType.double, DataType.long, Array(DataType.double)
SIGNATURE = ModelSignature(
    Schema([ColSpec(DataType.string, "image"), *(ColSpec(REAL, edge, required=False) for edge in EDGES)]),
    Schema([
        ColSpec(WHOLE, "image"), ColSpec(WHOLE, "face"), *(ColSpec(REAL, edge) for edge in EDGES),
        ColSpec(REAL, "detector_score", required=False), ColSpec(Array(LIST), "landmarks"),
        ColSpec(LIST, "confidence"), ColSpec(LIST, "expected_error"),
    ]),
)  # fmt: skip
# 8×8 grey pixels, as PNG, and a box of them
EXAMPLE = pd.DataFrame({
    "image": [
        "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVQI12NsYIAAJgaKGAAmCACQllnLhAAAAABJRU5ErkJggg=="
    ],
    "x_min": [0.0], "y_min": [0.0], "x_max": [7.0], "y_max": [7.0],
})  # fmt: skip


class LandmarkModel(PythonModel):
    """artifacts: `model`, a folder of weights, description and calibration; `detector`, YuNet's file."""

    def load_context(self, context) -> None:
        self.landmarker = Landmarker(Path(context.artifacts["model"]))
        self.face_boxes = FaceBoxes(self.landmarker.calibration.boxes, file=Path(context.artifacts["detector"]))
        self.lock = Lock()  # a server answers in several threads, and the detector serves one at a time

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Raises `MlflowException` (HTTP status 400) naming the row of an image or box that is none."""
        rows = []
        for number, row in enumerate(model_input.to_dict("records")):
            try:
                rows += self.faces(number, decoded(row["image"]), given_box(row))
            except InputError as error:
                raise MlflowException.invalid_parameter_value(f"row {number}: {error}") from None
        return pd.DataFrame(rows, columns=[column.name for column in SIGNATURE.outputs], dtype=object)

    def faces(self, number: int, image: np.ndarray, box: np.ndarray | None) -> list[dict]:
        """The output's rows of one image (H, W, 3)."""
        if box is None:
            with self.lock:
                center, side, scores = self.face_boxes(image)
        else:
            center, side, scores = (box[None, :2] + box[None, 2:]) / 2, (box[None, 2:] - box[None, :2]).max(1), [None]
        faces = zip(corners(center, side), scores, *self.landmarker.predict(image, center, side), strict=True)
        return [
            {"image": number, "face": i, **dict(zip(EDGES, edges.tolist(), strict=True)), "detector_score": score,
             "landmarks": points.tolist(), "confidence": plain(confidences), "expected_error": plain(expected)}
            for i, (edges, score, points, confidences, expected) in enumerate(faces)
        ]  # fmt: skip


def decoded(text: object) -> np.ndarray:
    """(H, W, 3) of a file in base64, also of a data URL; turned as its EXIF tag says."""
    try:
        data = base64.b64decode(text.rpartition(",")[2], validate=True)
    except (AttributeError, binascii.Error, ValueError):  # it is no text, not of that alphabet, or cut off
        raise InputError("image: it is not the bytes of an image file in base64.") from None
    return decode(data, Path("image"), "exif", whole=True)


def given_box(row: dict) -> np.ndarray | None:
    """(4,) x_min, y_min, x_max, y_max; None where no edge is given."""
    edges = np.array([row.get(edge, np.nan) for edge in EDGES], float)
    if np.isnan(edges).all():
        return None
    if not np.isfinite(edges).all() or (edges[2:] <= edges[:2]).any():
        raise InputError(f"it is no box: {', '.join(EDGES)} with x_max > x_min and y_max > y_min, or none of them.")
    return edges


def plain(values: np.ndarray) -> list[float | None]:
    """JSON has no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]
