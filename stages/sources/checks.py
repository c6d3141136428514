"""Checks of a whole dataset before anything is made of it; each returns all faults, for one message."""

import numpy as np

from stages.data.faces import Faces
from stages.data.scheme import DatasetScheme


def count_faults(faces: Faces, counts, splits: tuple[str, ...]) -> list[str]:
    """Where the numbers of faces differ from `counts` (config.dataset.Counts)."""
    expected = {split: getattr(counts, split) for split in splits if getattr(counts, split) is not None}
    actual = {split: faces.split.count(split) for split in expected}
    if "test" in splits:
        expected |= {f"subset {name}": n for name, n in counts.subsets.items()}
        actual |= {f"subset {name}": sum(name in subsets for subsets in faces.subsets) for name in counts.subsets}
    return [
        f"{name} has {actual[name]} faces, and {n} were published" for name, n in expected.items() if actual[name] != n
    ]


def normaliser_faults(faces: Faces, scheme: DatasetScheme) -> list[str]:
    """The faces whose official normaliser is 0, so that their error cannot be measured."""
    if scheme.normaliser == "box_side":  # the face table allows no box of side 0
        return []
    pair = scheme.normalisers()[scheme.normaliser]
    left, right = (faces.landmarks[:, np.atleast_1d(side)].mean(1) for side in pair)
    return [
        f"face {faces.face_id[i]}: landmarks {pair[0]} and {pair[1]} coincide, so its {scheme.normaliser} distance is 0"
        for i in np.flatnonzero((left == right).all(1))
    ]
