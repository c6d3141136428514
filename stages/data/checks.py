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
        except (OSError, ValueError) as error:  # of a name that no file system allows
            return f"{path}: cannot be read ({getattr(error, 'strerror', error)})"
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
    """The landmarks that `normalisers` (sections.Normalisers) names and no face has; the faces that cannot be measured.

    Those whose official normaliser lies between two points that are one.
    """
    count, faults = faces.landmarks.shape[1], []
    for name, pair in normalisers.definitions().items():
        named = [int(i) for one in pair for i in np.atleast_1d(one)] if name != "box_side" else []
        faults += [f"normalisers.{name} of its params names landmark {i}, and there are {count} (0 to {count - 1})"
                   for i in named if not 0 <= i < count]  # fmt: skip
    if faults or normalisers.official == "box_side":  # the face table allows no box without a side
        return faults
    pair = getattr(normalisers, normalisers.official)
    left, right = (faces.landmarks[:, np.atleast_1d(one)].mean(1) for one in pair)
    return [
        f"face {faces.face_id[i]}: landmarks {pair[0]} and {pair[1]} lie at one point, so its {normalisers.official} "
        "distance is 0"
        for i in np.flatnonzero((left == right).all(1))
    ]
