"""Landmarks whose annotation is suspect: reports/label-suspects/<dataset>.csv, a row for each."""

from pathlib import Path

import pandas as pd

from stages.data.faces import Faces
from stages.system.errors import refuse

COLUMNS = ("landmark", "distance_px", "distance_percent", "spread_percent", "score")


def read_suspects(path: Path, faces: Faces) -> dict[int, list[list[float]]] | None:
    """By row of `faces` the COLUMNS of its suspect landmarks, highest score first; None where there is no such file.

    Raises `InputError` naming the columns that are missing, and the rows of other faces or landmarks.
    """
    if not path.exists():
        return None
    remedy = "Make the file again with the command that wrote it."
    table = pd.read_csv(path, dtype={"face_id": str})
    refuse([f"column {name} is missing" for name in ("face_id", *COLUMNS) if name not in table], str(path), remedy)
    row, count = {name: i for i, name in enumerate(faces.face_id)}, faces.landmarks.shape[1]
    refuse(
        [f"face {name}: not one of the {len(row)} test faces" for name in table["face_id"].unique() if name not in row]
        + [f"landmark {k}: the faces have {count}" for k in table["landmark"].unique() if not 0 <= k < count],
        str(path), remedy,
    )  # fmt: skip
    table = table.sort_values("score", ascending=False, kind="stable")
    suspects: dict[int, list[list[float]]] = {}
    for name, *values in table[["face_id", *COLUMNS]].itertuples(index=False):
        suspects.setdefault(row[name], []).append([int(values[0]), *(round(float(value), 4) for value in values[1:])])
    return dict(sorted(suspects.items()))
