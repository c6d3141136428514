"""Predictions read back and set against the faces they were made for: what does not match is named and refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.data.faces import Faces, from_table, read_table
from stages.errors import refuse

REMEDY = "They are not of one run. Run dvc repro, or dvc checkout for those of the commit that is checked out."


@dataclass(frozen=True)
class Predictions:
    """What was predicted for N faces of K landmarks, in the order of `faces`.

    points: (N, K, 2) image px. scores: (N, K), the heat maps' peaks. nme: per normaliser (N,) in percent.
    displaced: by name (`shift_-5`, `scale_20`) the official NME (N,) from boxes displaced by so many percent.
    """

    faces: Faces
    points: np.ndarray
    scores: np.ndarray
    nme: Mapping[str, np.ndarray]
    displaced: Mapping[str, np.ndarray] = field(default_factory=dict)


def order(given: Sequence[str], wanted: Sequence[str], what: str, remedy: str = REMEDY) -> np.ndarray:
    """The rows of `given` in the order of `wanted`: names of faces. Raises `InputError` naming every face that is
    missing, stands more than once, or is not wanted."""
    known = set(wanted)
    faults = [f"face {name}: missing" for name in sorted(known - set(given))]
    for name, times in sorted(Counter(given).items()):
        if name not in known:
            faults.append(f"face {name}: not one of the {len(known)} faces measured")
        elif times > 1:
            faults.append(f"face {name}: stands {times} times")
    refuse(faults, what, remedy)
    row = {name: i for i, name in enumerate(given)}
    return np.array([row[name] for name in wanted], int)


def read_test(folder: Path) -> Faces:
    """The test split's faces of data/crops/<dataset>."""
    path = folder / "test.parquet"
    return from_table(read_table(path).drop_columns(["to_image"]), str(path))


def read_predictions(path: Path, faces: Faces) -> Predictions:
    """The predictions for `faces`. Raises `InputError` naming the faces that do not match, and those with another K."""
    table = read_table(path)
    missing = {"face_id", "landmarks", "scores"} - set(table.column_names)
    refuse([f"column {name} is missing" for name in sorted(missing)], str(path), REMEDY)
    ids, k = table["face_id"].to_pylist(), faces.landmarks.shape[1]
    rows = order(ids, faces.face_id, str(path))
    faults, found = [], {}
    for name, length, what in (("landmarks", 2 * k, "coordinates"), ("scores", k, "scores")):
        column = table[name].combine_chunks()
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        faults += [
            f"face {ids[i]}: {lengths[i]} {what}, and its {k} landmarks need {length}"
            for i in np.flatnonzero(lengths != length)
        ]
        found[name] = column
    refuse(faults, str(path), REMEDY)
    points, scores = (column.flatten().to_numpy(zero_copy_only=False) for column in found.values())
    nme, displaced = (
        {name.removeprefix(kind): table[name].to_numpy()[rows] for name in table.column_names if name.startswith(kind)}
        for kind in ("nme_", "displaced_")
    )
    return Predictions(faces, points.reshape(-1, k, 2)[rows], scores.reshape(-1, k)[rows], nme, displaced)


def subset_rows(subsets: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """(N,) bool per subset from the subsets that each face belongs to; `test` is the whole split."""
    names = sorted({name for row in subsets for name in row})
    whole = np.ones(len(subsets), bool)
    return {"test": whole} | {name: np.array([name in row for row in subsets], bool) for name in names}
