"""Landmarks from a detector's face boxes, which are what a model gets in use; the benchmark's come from annotation.

data/detections/<dataset>.parquet, written by `detect`, has a row per test face: face_id, center_x, center_y and side of
the detected box, mapped to a face box and in the annotation's numbering of pixels (NaN where the face was not found),
and score. Its metadata say which detector, and with none the table is empty.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from stages.data.faces import Faces, read_table
from stages.inference.paper_protocol import predict_paper
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, predict
from stages.system.errors import InputError
from stages.system.files import atomic

DETECTOR = b"detector"
NAME = "detector"  # of these predictions among those from perturbed boxes


@dataclass(frozen=True)
class Detections:
    """The boxes of N test faces. center: (N, 2), side: (N,) image px, NaN for a face that was not found."""

    center: np.ndarray
    side: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(N,) bool"""
        return np.isfinite(self.side)


def write_detections(path: Path, detector: str, faces: Faces, detections: Detections, scores: np.ndarray) -> None:
    """Write the table, whole or not at all."""
    columns = {
        "face_id": pa.array(faces.face_id), "center_x": pa.array(detections.center[:, 0]),
        "center_y": pa.array(detections.center[:, 1]), "side": pa.array(detections.side), "score": pa.array(scores),
    }  # fmt: skip
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata({DETECTOR: detector.encode()}), temporary)


def read_detections(path: Path, faces: Faces) -> Detections | None:
    """Those of `faces`; None where no detector was run. Raises `InputError` where the file is of other faces."""
    if not path.exists():  # a stage was run by hand: DVC runs `detect` first
        return None
    table = read_table(path)
    if not table.schema.metadata.get(DETECTOR):
        return None
    if table["face_id"].to_pylist() != list(faces.face_id):
        raise InputError(f"{path} is not of the faces of the crops: run dvc repro.")
    x, y, side = (table[name].to_numpy() for name in ("center_x", "center_y", "side"))
    return Detections(np.stack([x, y], 1), side)


def _of_all(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(N, K, 2) with NaN for the faces that were not found."""
    whole = np.full((len(found), *points.shape[1:]), np.nan)
    whole[found] = points
    return whole


def predict_detected(model: HRNet, images: np.ndarray, faces: Faces, detections: Detections, **run) -> np.ndarray:
    """Points (N, K, 2) in crop px, NaN for faces that were not found, from crops around the annotated boxes.

    What a detected box shows beyond the crop is black: crops reach half a face box further than the input. run: as of
    `model.predict`, with context and model_input, as of Batches.
    """
    found = np.flatnonzero(detections.found)
    batches = Batches(images[found], run.pop("context"), run.pop("model_input"))
    scale = detections.side[found] / faces.side[found]
    shift = (detections.center[found] - faces.center[found]) / faces.side[found, None]
    matrix = torch.zeros(len(found), 2, 3, dtype=torch.float64)
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.from_numpy(scale)
    middle = (1 - scale[:, None]) * (batches.size - 1) / 2 + shift * batches.size / batches.box
    matrix[:, :, 2] = torch.from_numpy(middle)
    return _of_all(predict(model, batches, moves=matrix, **run)[0], detections.found)


def predict_paper_detected(
    model: HRNet, read: Callable[[str], np.ndarray], faces: Faces, detections: Detections, **run
) -> np.ndarray:
    """Points (N, K, 2) in image px by the published protocol; run: as of `predict_paper`."""
    detected = replace(faces, center=detections.center, side=detections.side).where(detections.found)
    return _of_all(predict_paper(model, read, detected, **run)[0], detections.found)
