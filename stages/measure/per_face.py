"""faces.csv: what is known of each test face of an experiment, small enough for git, so that a clone can compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import refuse
from stages.measure.predictions import REMEDY, order, subset_rows

BETWEEN = ";"  # the subsets of a face


@dataclass(frozen=True)
class FaceErrors:
    """N faces. nme: (N,) in percent of the official normaliser, ∞ without a prediction. subsets: those of each face."""

    face_id: Sequence[str]
    nme: np.ndarray
    subsets: Sequence[Sequence[str]]

    def rows(self) -> dict[str, np.ndarray]:
        """(N,) bool per subset; `test` is the whole split."""
        return subset_rows(self.subsets)

    def like(self, other: "FaceErrors", what: str) -> "FaceErrors":
        """These faces in the order of `other`. Raises `InputError` naming, in `what`, those that are not the same."""
        rows = order(self.face_id, other.face_id, what)
        found = FaceErrors(other.face_id, self.nme[rows], [self.subsets[i] for i in rows])
        faults = [
            f"face {name}: in subsets {BETWEEN.join(mine) or 'none'}, and {BETWEEN.join(its) or 'none'} in the other"
            for name, mine, its in zip(found.face_id, found.subsets, other.subsets, strict=True)
            if set(mine) != set(its)
        ]
        refuse(faults, what, REMEDY)
        return found


def table(errors: FaceErrors, **columns: np.ndarray) -> pd.DataFrame:
    """faces.csv; `columns` are further numbers (N,) of the faces."""
    subsets = [BETWEEN.join(names) for names in errors.subsets]
    return pd.DataFrame({"face_id": errors.face_id, "nme": errors.nme, "subsets": subsets} | columns)


def read_face_errors(path: Path) -> FaceErrors:
    """Raises `InputError` naming the column, or the faces, that are wrong; FileNotFoundError."""
    columns = {"face_id": str, "nme": float, "subsets": str}
    given = pd.read_csv(path, dtype=columns, keep_default_na=False)
    refuse([f"column {name} is missing" for name in columns if name not in given], str(path), REMEDY)
    ids, nme = given["face_id"].tolist(), given["nme"].to_numpy()
    wrong = [f"face {ids[i]}: nme is {nme[i]:g}" for i in np.flatnonzero(~(nme >= 0))]
    refuse(wrong, str(path), REMEDY)
    order(ids, list(dict.fromkeys(ids)), str(path))  # none stands twice
    return FaceErrors(ids, nme, [tuple(filter(None, row.split(BETWEEN))) for row in given["subsets"]])
