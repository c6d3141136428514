"""The table of predictions: what `predict` (or anybody else) hands to `evaluate`, written, read and checked here alone.

data/predictions/<name>.parquet holds a row per test face: `face_id`, `image`, `landmarks` (a flat list x0, y0, x1, …)
and `scores`, in some also `expected` (errors, px), and per perturbation of the face box a column `perturbed_<name>`
like `landmarks`. Coordinates are image px in the dataset's own numbering of pixels. The file's metadata say how the
predictions were made (`Made`).

Symbols: N faces, K landmarks of a prediction, which may be fewer than the dataset's (cross-dataset evaluation).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.data.faces import Faces, list_column, read_table
from stages.system.errors import InputError, refuse
from stages.system.files import atomic

REMEDY = "They are not of one run. Run dvc repro, or dvc checkout for those of the commit that is checked out."
PERTURBED = "perturbed_"
_METADATA = b"predictions"


class Submitted(BaseModel):
    """How somebody else's predictions became this table.

    form: of the file. scheme, count: the landmarks that were predicted. origin, annotation_origin: what the file and
    the annotation call the centre of the first pixel. milliseconds: of the method alone for a face, where it ran here,
    on the CPU of that name. warnings: what was noticed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: str
    scheme: str
    count: int
    origin: int
    annotation_origin: int
    milliseconds: float | None = None
    cpu: str = ""
    warnings: list[str] = []


class Made(BaseModel):
    """How a table of predictions was made: by a network of this project, or, with `submission`, by somebody else.

    landmarks: the dataset's landmarks that the K predicted ones are. box: the side of what the model sees, in face
    boxes. model: the MD5 of its weights. cost, workload: as of inference.cost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    landmarks: list[int]
    protocol: str = ""
    flip_test: bool = False
    batch: int = 0
    input_px: int | None = None
    box: float | None = None
    model: str = ""
    cost: dict[str, int | float] | None = None
    workload: str = ""
    bound: float | None = None  # times the expected error: what 90 % of the errors are below
    submission: Submitted | None = None


@dataclass(frozen=True)
class Predictions:
    """What was predicted for N faces, in the order of `faces`.

    points: (N, K, 2) image px, NaN in all of a face's where there is no prediction. scores: (N, K), the heat maps'
    peaks; NaN where the method gives none. perturbed: by name (`shift_-5`, `scale_20`) the
    points (N, K, 2) from face boxes shifted or scaled by so many percent of their side. expected: (N, K) px, the
    error that the method expects of each landmark; None where it says none.
    """

    faces: Faces
    points: np.ndarray
    scores: np.ndarray
    perturbed: Mapping[str, np.ndarray] = field(default_factory=dict)
    made: Made | None = None
    expected: np.ndarray | None = None

    @property
    def truth(self) -> np.ndarray:
        """(N, K, 2) the annotated positions of the landmarks that were predicted."""
        return self.faces.landmarks if self.made is None else self.faces.landmarks[:, self.made.landmarks]

    def where(self, chosen: np.ndarray) -> "Predictions":
        """Those for the faces of a boolean mask."""
        perturbed = {name: points[chosen] for name, points in self.perturbed.items()}
        expected = None if self.expected is None else self.expected[chosen]
        return Predictions(
            self.faces.where(chosen), self.points[chosen], self.scores[chosen], perturbed, self.made, expected
        )


def write_predictions(path: Path, predictions: Predictions, columns: Mapping[str, np.ndarray] | None = None) -> None:
    """Write the table, whole or not at all; `columns` are further numbers (N,) for readers of the file."""
    n = len(predictions.faces)
    table = {
        "face_id": pa.array(predictions.faces.face_id),
        "image": pa.array(predictions.faces.image),
        "landmarks": list_column(predictions.points.reshape(n, -1)),
        "scores": list_column(predictions.scores),
    }
    if predictions.expected is not None:
        table["expected"] = list_column(predictions.expected)
    table |= {name: pa.array(values) for name, values in (columns or {}).items()}
    table |= {PERTURBED + name: list_column(points.reshape(n, -1)) for name, points in predictions.perturbed.items()}
    made = predictions.made and predictions.made.model_dump_json(exclude_none=True)
    metadata = {_METADATA: made.encode()} if made else None
    with atomic(path) as temporary:
        pq.write_table(pa.table(table).replace_schema_metadata(metadata), temporary)


def read_made(path: Path) -> Made:
    """How the predictions of a file were made. Raises `InputError` where it is missing, damaged or does not say."""
    return _made(read_table(path), path)


def read_predictions(path: Path, faces: Faces) -> Predictions:
    """The predictions for `faces`. Raises `InputError` naming the faces that do not match, and those with another K."""
    table = read_table(path)
    missing = {"face_id", "landmarks", "scores"} - set(table.column_names)
    refuse([f"column {name} is missing" for name in sorted(missing)], str(path), REMEDY)
    made = _made(table, path)
    ids, k, known = table["face_id"].to_pylist(), len(made.landmarks), faces.landmarks.shape[1]
    refuse([f"landmark {i}: the faces have {known}" for i in made.landmarks if not 0 <= i < known], str(path), REMEDY)
    rows = match_faces(ids, faces.face_id, str(path))
    perturbed = [name for name in table.column_names if name.startswith(PERTURBED)]
    numbers = [name for name in ("scores", "expected") if name in table.column_names]
    faults, columns = [], {}
    for name in ("landmarks", *numbers, *perturbed):
        length, what = (k, "numbers") if name in numbers else (2 * k, "coordinates")
        column = table[name].combine_chunks()
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        faults += [
            f"face {ids[i]}: {name}: {lengths[i]} {what}, and its {k} landmarks need {length}"
            for i in np.flatnonzero(lengths != length)
        ]
        columns[name] = column
    refuse(faults, str(path), REMEDY)
    flat = {name: column.flatten().to_numpy(zero_copy_only=False) for name, column in columns.items()}
    return Predictions(
        faces,
        flat["landmarks"].reshape(-1, k, 2)[rows],
        flat["scores"].reshape(-1, k)[rows],
        {name.removeprefix(PERTURBED): flat[name].reshape(-1, k, 2)[rows] for name in perturbed},
        made,
        flat["expected"].reshape(-1, k)[rows] if "expected" in flat else None,
    )


def _made(table: pa.Table, path: Path) -> Made:
    try:
        return Made.model_validate_json((table.schema.metadata or {})[_METADATA])
    except (KeyError, ValidationError, json.JSONDecodeError):
        raise InputError(f"{path} does not say how its predictions were made: run dvc repro.") from None


def match_faces(given: Sequence[str], wanted: Sequence[str], what: str, remedy: str = REMEDY) -> np.ndarray:
    """The rows of `given` in the order of `wanted`: names of faces.

    Raises `InputError` naming every face that is missing, duplicated, or not wanted.
    """
    known = set(wanted)
    faults = [f"face {name}: missing" for name in sorted(known - set(given))]
    for name, times in sorted(Counter(given).items()):
        if name not in known:
            faults.append(f"face {name}: not one of the {len(known)} faces measured")
        elif times > 1:
            faults.append(f"face {name}: duplicated ({times} rows)")
    refuse(faults, what, remedy)
    row = {name: i for i, name in enumerate(given)}
    return np.array([row[name] for name in wanted], int)
