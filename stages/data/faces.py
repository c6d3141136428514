"""The face table: one row per face, one schema for every dataset, checked on write and on read.

Symbols: N faces, K landmarks. Coordinates are image px with pixel centres at integers. A landmark is annotated and
visible, annotated and hidden, or not annotated: its coordinates are then NaN, it is neither trained on nor measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.system.errors import InputError, refuse
from stages.system.files import atomic

SPLITS = ("train", "val", "test")


@dataclass
class Faces:
    """N faces with K landmarks each.

    face_id: N unique names, stable over runs.
    split: N of train, val, test.
    image: N paths relative to the dataset's images folder.
    center: (N, 2) the face box's centre. side: (N,) its side (200 × the scale of HRNet's CSV files).
    landmarks: (N, K, 2) float64, NaN where not annotated. visible: (N, K) bool, True where nothing hides the point or
    the source does not say, False where it is not annotated.
    subsets: N tuples of the subsets a face belongs to.
    extra: what the source adds, a sequence of N numbers or strings per name.
    """

    face_id: Sequence[str]
    split: Sequence[str]
    image: Sequence[str]
    center: np.ndarray
    side: np.ndarray
    landmarks: np.ndarray
    visible: np.ndarray
    subsets: Sequence[Sequence[str]]
    extra: Mapping[str, Sequence] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.face_id)

    @property
    def annotated(self) -> np.ndarray:
        """(N, K) bool: which landmarks have a position."""
        return np.isfinite(self.landmarks).all(-1)

    def where(self, chosen: np.ndarray) -> "Faces":
        """The faces of a boolean mask or of an array of indices, in that order."""
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Faces(
            face_id=[self.face_id[i] for i in index],
            split=[self.split[i] for i in index],
            image=[self.image[i] for i in index],
            center=self.center[index],
            side=self.side[index],
            landmarks=self.landmarks[index],
            visible=self.visible[index],
            subsets=[self.subsets[i] for i in index],
            extra={name: [values[i] for i in index] for name, values in self.extra.items()},
        )

    def of(self, split: str) -> "Faces":
        """The faces of one split, in the table's order."""
        return self.where(np.array([name == split for name in self.split], bool))


def subset_rows(subsets: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """(N,) bool per subset from the subsets that each face belongs to; `test` is the whole split."""
    names = sorted({name for row in subsets for name in row})
    whole = np.ones(len(subsets), bool)
    return {"test": whole} | {name: np.array([name in row for row in subsets], bool) for name in names}


def concatenate(parts: Sequence[Faces]) -> Faces:
    """One table of several that have the same K and the same extras."""
    return Faces(
        face_id=[x for part in parts for x in part.face_id],
        split=[x for part in parts for x in part.split],
        image=[x for part in parts for x in part.image],
        center=np.concatenate([part.center for part in parts]),
        side=np.concatenate([part.side for part in parts]),
        landmarks=np.concatenate([part.landmarks for part in parts]),
        visible=np.concatenate([part.visible for part in parts]),
        subsets=[x for part in parts for x in part.subsets],
        extra={name: [x for part in parts for x in part.extra[name]] for name in parts[0].extra},
    )


def check(faces: Faces, what: str) -> None:
    """Raise `InputError` listing every face that breaks the schema; `what` names the table."""
    n = len(faces)
    shapes = {
        "split": len(faces.split),
        "image": len(faces.image),
        "center": len(faces.center),
        "side": len(faces.side),
        "landmarks": len(faces.landmarks),
        "visible": len(faces.visible),
        "subsets": len(faces.subsets),
    }
    faults = [f"{name} has {length} rows, face_id has {n}" for name, length in shapes.items() if length != n]
    refuse(faults, what, "The table is damaged: make it again (dvc repro --force with the stage that wrote it).")
    if n == 0:
        raise InputError(f"{what}: it holds no face. Check that the dataset's files are those of its README.")
    seen: set[str] = set()
    for i, face in enumerate(faces.face_id):
        if face in seen:
            faults.append(f"face {face}: is duplicated")
        seen.add(face)
        if faces.split[i] not in SPLITS:
            faults.append(f"face {face}: its split is {faces.split[i]!r}, not one of {', '.join(SPLITS)}")
    absent = np.isnan(faces.landmarks)
    for i in np.flatnonzero(np.isinf(faces.landmarks).any((1, 2)) | (absent[..., 0] != absent[..., 1]).any(1)):
        faults.append(f"face {faces.face_id[i]}: a landmark is infinite, or has one coordinate alone")
    for i in np.flatnonzero(absent.all((1, 2))):
        faults.append(f"face {faces.face_id[i]}: none of its landmarks is annotated")
    for i in np.flatnonzero((faces.visible & absent.any(-1)).any(1)):
        faults.append(f"face {faces.face_id[i]}: a landmark that is not annotated is marked as visible")
    for i in np.flatnonzero(~(np.isfinite(faces.center).all(1) & np.isfinite(faces.side) & (faces.side > 0))):
        faults.append(f"face {faces.face_id[i]}: its box has no size (centre {faces.center[i]}, side {faces.side[i]})")
    refuse(faults, what, "Fix these rows in the dataset's own files, then run the same command again.")


def list_column(values: np.ndarray) -> pa.Array:
    """(N, M) as N lists of M, without a Python loop."""
    n, m = values.shape
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * m), flat)


def to_table(faces: Faces) -> pa.Table:
    """The face table as it is stored: `landmarks` a flat list x0, y0, x1, y1, … of 2K numbers per face."""
    n, k, _ = faces.landmarks.shape
    columns = {
        "face_id": pa.array(faces.face_id, pa.string()),
        "split": pa.array(faces.split, pa.string()),
        "image": pa.array(faces.image, pa.string()),
        "center_x": pa.array(faces.center[:, 0]),
        "center_y": pa.array(faces.center[:, 1]),
        "side": pa.array(faces.side),
        "landmarks": list_column(faces.landmarks.reshape(n, 2 * k)),
        "visible": list_column(faces.visible),
        "subsets": pa.array([list(names) for names in faces.subsets], pa.list_(pa.string())),
    }
    return pa.table(columns | {name: pa.array(list(values)) for name, values in faces.extra.items()})


def from_table(table: pa.Table, what: str) -> Faces:
    """The inverse of `to_table`. Raises `InputError` where a column is missing or lists differ in length."""
    missing = [name for name in _COLUMNS if name not in table.column_names]
    refuse([f"column {name} is missing" for name in missing], what, "Make the file again with the stage that wrote it.")
    flat = {name: table[name].combine_chunks() for name in ("landmarks", "visible")}
    lengths = {name: np.unique(column.value_lengths().to_numpy(zero_copy_only=False)) for name, column in flat.items()}
    if len(lengths["landmarks"]) > 1 or len(lengths["visible"]) > 1:
        raise InputError(f"{what}: faces differ in their number of landmarks. Make the file again.")
    n, k = table.num_rows, int(lengths["visible"][0]) if table.num_rows else 0
    return Faces(
        face_id=table["face_id"].to_pylist(),
        split=table["split"].to_pylist(),
        image=table["image"].to_pylist(),
        center=np.stack([table["center_x"].to_numpy(), table["center_y"].to_numpy()], 1),
        side=table["side"].to_numpy(),
        landmarks=flat["landmarks"].flatten().to_numpy().reshape(n, k, 2).copy(),
        visible=flat["visible"].flatten().to_numpy(zero_copy_only=False).reshape(n, k).copy(),
        subsets=[tuple(names) for names in table["subsets"].to_pylist()],
        extra={name: table[name].to_pylist() for name in table.column_names if name not in _COLUMNS},
    )


_COLUMNS = ("face_id", "split", "image", "center_x", "center_y", "side", "landmarks", "visible", "subsets")


def write_faces(faces: Faces, path: Path) -> None:
    """Check and write the table; whole or not at all. Raises `InputError` listing all faults."""
    check(faces, str(path))
    with atomic(path) as temporary:
        pq.write_table(to_table(faces), temporary)


def read_table(path: Path) -> pa.Table:
    """Any parquet file of ours. Raises `InputError` where it is absent or damaged."""
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run dvc repro (or dvc checkout, where it was made before).") from None
    except MemoryError:  # pyarrow's own is one of both
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the file system
            raise
        raise InputError(f"{path} is no readable parquet file ({error}): delete it and run dvc repro.") from None


def read_faces(path: Path) -> Faces:
    """Read and check a face table. Raises `InputError` where it is absent, damaged or breaks the schema."""
    faces = from_table(read_table(path), str(path))
    check(faces, str(path))
    return faces


def landmark_frame(faces: Faces) -> pd.DataFrame:
    """The table without its arrays, for a person to look at (notebooks)."""
    return pd.DataFrame(
        {
            "face_id": faces.face_id,
            "split": faces.split,
            "image": faces.image,
            "side": faces.side,
            "visible": faces.visible.mean(1),
            "subsets": [", ".join(names) for names in faces.subsets],
        }
    )
