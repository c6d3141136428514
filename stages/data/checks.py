"""Checks of a whole dataset before anything is made of it; each gives all of its faults, for one message."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from stages.data.faces import Faces
from stages.data.images import damage


def checksums(folder: Path, names: list[str], are_images: bool = True) -> tuple[list[tuple[str, int, str]], list[str]]:
    """(name, bytes, SHA-256) of each file under the folder, sorted; and what is missing or, as an image, damaged."""

    def one(name: str) -> tuple[str, int, str] | str:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            return f"{name}: an image is named by its path within {folder}"
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            return f"{folder / name}: missing{near(folder / name)}"
        except OSError as error:
            return f"{folder / name}: cannot be read ({error.strerror})"
        fault = damage(data) if are_images else None
        return f"{folder / name}: {fault}" if fault else (name, len(data), hashlib.sha256(data).hexdigest())

    @cache
    def entries(parent: Path) -> list[str]:
        return os.listdir(parent) if parent.is_dir() else []

    def near(path: Path) -> str:
        same = [entry for entry in entries(path.parent) if entry.lower() == path.name.lower()]
        other = [entry for entry in entries(path.parent) if Path(entry).stem.lower() == path.stem.lower()]
        if same:
            return f"; there is {same[0]}, in another case. Rename it"
        return f"; there is {other[0]}, with another extension. Rename it or mend the row" if other else ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(one, sorted(set(names))), "hashing", len(set(names)), unit="file", disable=None))
    return [each for each in found if not isinstance(each, str)], [each for each in found if isinstance(each, str)]


def count_faults(faces: Faces, counts, splits: tuple[str, ...]) -> list[str]:
    """Where the numbers of faces differ from `counts` (params.Counts)."""
    expected = {split: getattr(counts, split) for split in splits if getattr(counts, split) is not None}
    found = {split: faces.split.count(split) for split in expected}
    if "test" in splits:
        expected |= {f"subset {name}": n for name, n in counts.subsets.items()}
        found |= {f"subset {name}": sum(name in each for each in faces.subsets) for name in counts.subsets}
    return [f"{name} has {found[name]} faces, and {n} were published" for name, n in expected.items()
            if found[name] != n]  # fmt: skip


def normaliser_faults(faces: Faces, normalisers) -> list[str]:
    """The faces that cannot be measured: the two points between which the official normaliser lies are one.

    `normalisers` is params.Normalisers.
    """
    if normalisers.official == "box_side":
        return []  # the face table allows no box without a side
    pair = getattr(normalisers, normalisers.official)
    left, right = (faces.landmarks[:, np.atleast_1d(one)].mean(1) for one in pair)
    return [
        f"face {faces.face_id[i]}: landmarks {pair[0]} and {pair[1]} lie at one point, so its {normalisers.official} "
        "distance is 0"
        for i in np.flatnonzero((left == right).all(1))
    ]
