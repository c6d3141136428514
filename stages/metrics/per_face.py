"""faces.csv: the error of every test face, small enough for git, so that a clone can compare experiments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data.faces import subset_rows
from stages.predictions.table import REMEDY, match_faces
from stages.system.errors import refuse

SEPARATOR = ";"  # between the subsets of a face


@dataclass(frozen=True)
class FaceErrors:
    """N faces. nme: (N,) in percent of the official normaliser, ∞ without a prediction. subsets: of every face."""

    face_id: Sequence[str]
    nme: np.ndarray
    subsets: Sequence[Sequence[str]]

    def rows(self) -> dict[str, np.ndarray]:
        """(N,) bool per subset; `test` is the whole split."""
        return subset_rows(self.subsets)

    def aligned_to(self, other: "FaceErrors", what: str) -> "FaceErrors":
        """These faces in the order of `other`. Raises `InputError` naming, in `what`, those that differ."""
        rows = match_faces(self.face_id, other.face_id, what)
        aligned = FaceErrors(other.face_id, self.nme[rows], [self.subsets[i] for i in rows])
        faults = [
            f"face {name}: in subsets {SEPARATOR.join(own) or 'none'}, and {SEPARATOR.join(others) or 'none'} "
            "in the other"
            for name, own, others in zip(aligned.face_id, aligned.subsets, other.subsets, strict=True)
            if set(own) != set(others)
        ]
        refuse(faults, what, REMEDY)
        return aligned


def table(errors: FaceErrors, **columns: np.ndarray) -> pd.DataFrame:
    """faces.csv; `columns` are further numbers (N,) of the faces."""
    subsets = [SEPARATOR.join(names) for names in errors.subsets]
    return pd.DataFrame({"face_id": errors.face_id, "nme": errors.nme, "subsets": subsets} | columns)


def read_face_errors(path: Path, subsets: bool = True) -> FaceErrors:
    """faces.csv or, without subsets, what train writes of val.

    Raises `InputError` naming the column, or the faces, that are wrong; FileNotFoundError.
    """
    columns = {"face_id": str, "nme": float} | ({"subsets": str} if subsets else {})
    content = pd.read_csv(path, dtype=columns, keep_default_na=False)
    refuse([f"column {name} is missing" for name in columns if name not in content], str(path), REMEDY)
    ids, nme = content["face_id"].tolist(), content["nme"].to_numpy()
    faults = [f"face {ids[i]}: nme is {nme[i]:g}" for i in np.flatnonzero(~(nme >= 0))]
    refuse(faults, str(path), REMEDY)
    match_faces(ids, list(dict.fromkeys(ids)), str(path))  # refuses duplicates
    rows = content["subsets"] if subsets else [""] * len(ids)
    return FaceErrors(ids, nme, [tuple(filter(None, row.split(SEPARATOR))) for row in rows])
