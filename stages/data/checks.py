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


def checksums(folder: Path, names: list[str]) -> list[tuple[str, int, str]]:
    """(name, bytes, SHA-256) of files under the folder, of whatever size."""
    rows = []
    for name in sorted(names):
        with open(folder / name, "rb") as file:
            rows.append((name, os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()))
    return rows


def image_checksums(folder: Path, names: list[str]) -> tuple[list[tuple[str, int, str]], list[str]]:
    """The same for images, on all cores; and the faults of what is missing or, by its head and end, damaged."""
    listed = cache(lambda parent: sorted(os.listdir(parent)) if parent.is_dir() else [])

    def one(name: str) -> tuple[str, int, str] | str:
        path, parts = folder / name, PurePosixPath(name).parts
        if ".." in parts or PurePosixPath(name).is_absolute():
            return f"{name}: an image is named by its path within {folder}"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return f"{path}: missing{_near(path, listed(path.parent))}"
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror})"
        fault = damage(data)
        return f"{path}: {fault}" if fault else (name, len(data), hashlib.sha256(data).hexdigest())

    names = sorted(set(names))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(one, names), "checking images", len(names), unit="image", disable=None))
    return [each for each in found if not isinstance(each, str)], [each for each in found if isinstance(each, str)]


def _near(path: Path, entries: list[str]) -> str:
    """What a missing file may have been meant for."""
    for entry in entries:
        if entry.lower() == path.name.lower():
            return f"; there is {entry}, in another case. Rename it"
    for entry in entries:
        if Path(entry).stem.lower() == path.stem.lower():
            return f"; there is {entry}, with another extension. Rename it or mend the row"
    return ""


def count_faults(faces: Faces, counts, splits: tuple[str, ...]) -> list[str]:
    """Where the numbers of faces differ from `counts` (sections.Counts)."""
    expected = {split: getattr(counts, split) for split in splits if getattr(counts, split) is not None}
    found = {split: faces.split.count(split) for split in expected}
    if "test" in splits:
        expected |= {f"subset {name}": n for name, n in counts.subsets.items()}
        found |= {f"subset {name}": sum(name in each for each in faces.subsets) for name in counts.subsets}
    return [f"{name} has {found[name]} faces, and {n} were published" for name, n in expected.items()
            if found[name] != n]  # fmt: skip


def normaliser_faults(faces: Faces, normalisers) -> list[str]:
    """The faces that cannot be measured: the two points between which the official normaliser lies are one.

    `normalisers` is sections.Normalisers.
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
