"""Face boxes as a detector finds them: data/detections/<dataset>.parquet, written and read here alone, and the map to
the face boxes that models are trained with, which `detect` fits and writes beside it.

A row per test face: face_id, center_x, center_y and side of the detected box, mapped to a face box and in the
annotation's numbering of pixels (NaN where the face was not found), and score. The file's metadata say which detector,
and without one the table is empty.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.faces import Faces, read_table
from stages.system.errors import InputError, refuse
from stages.system.files import atomic

DETECTOR = b"detector"


@dataclass(frozen=True)
class Detections:
    """The boxes of N test faces. center: (N, 2), side: (N,) image px, NaN for a face that was not found."""

    center: np.ndarray
    side: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(N,) bool"""
        return np.isfinite(self.side)


@dataclass(frozen=True)
class BoxMap:
    """From a detector's box to a face box: the centre moves by (x, y) sides of the detector's box (the longer of width
    and height), and the side is `scale` times that."""

    x: float
    y: float
    scale: float

    def apply(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres (n, 2) and sides (n,) of the face boxes of boxes (n, 4: x_min, y_min, x_max, y_max)."""
        side = (boxes[:, 2:] - boxes[:, :2]).max(1)
        return (boxes[:, :2] + boxes[:, 2:]) / 2 + side[:, None] * [self.x, self.y], side * self.scale


def read_box_map(path: Path) -> BoxMap | None:
    """That of data/detections/<dataset>.json; None where none was fitted. Raises `InputError` where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return BoxMap(**content["map"]) if content.get("fitted") else None
    except FileNotFoundError:  # a stage was run by hand
        return None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: run dvc repro ({type(error).__name__}).") from None


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
    if not (table.schema.metadata or {}).get(DETECTOR):
        return None
    missing = {"face_id", "center_x", "center_y", "side"} - set(table.column_names)
    refuse([f"column {name} is missing" for name in sorted(missing)], str(path), "Delete it and run dvc repro.")
    if table["face_id"].to_pylist() != list(faces.face_id):
        raise InputError(f"{path} is not of the faces of the crops: run dvc repro.")
    x, y, side = (table[name].to_numpy() for name in ("center_x", "center_y", "side"))
    return Detections(np.stack([x, y], 1), side)
