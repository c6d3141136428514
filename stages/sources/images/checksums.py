"""Checksums of a dataset's files: recorded by fetch, compared by every stage that reads an image later."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd
from tqdm import tqdm

from stages.data.faces import Faces
from stages.sources.images.reading import damage
from stages.system.errors import InputError, refuse
from stages.system.files import digest

Checksum = tuple[str, int, str]  # name, bytes, SHA-256


def checksums(folder: Path, names: list[str]) -> list[Checksum]:
    """Of files under the folder, of whatever size."""
    return [(name, (folder / name).stat().st_size, digest(folder / name)) for name in sorted(names)]


def image_checksums(folder: Path, names: list[str]) -> tuple[list[Checksum], list[str]]:
    """The same for images, on all cores; and the faults of those that are missing or, by head and end, damaged."""
    entries = cache(lambda parent: sorted(os.listdir(parent)) if parent.is_dir() else [])

    def checked(name: str) -> Checksum | str:
        path, parts = folder / name, PurePosixPath(name).parts
        if ".." in parts or PurePosixPath(name).is_absolute():
            return f"{name}: an image is named by its path within {folder}"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return f"{path}: missing{_similar(path, entries(path.parent))}"
        except (OSError, ValueError) as error:  # ValueError: a name that no file system allows
            return f"{path}: cannot be read ({getattr(error, 'strerror', error)})"
        fault = damage(data)
        return f"{path}: {fault}" if fault else (name, len(data), hashlib.sha256(data).hexdigest())

    names = sorted(set(names))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(tqdm(pool.map(checked, names), "checking images", len(names), unit="image", disable=None))
    return [row for row in results if not isinstance(row, str)], [row for row in results if isinstance(row, str)]


def _similar(path: Path, entries: list[str]) -> str:
    """Which file may be meant instead of a missing one."""
    for entry in entries:
        if entry.lower() == path.name.lower():
            return f"; there is {entry}, in another case. Rename it"
    for entry in entries:
        if Path(entry).stem.lower() == path.stem.lower():
            return f"; there is {entry}, with another extension. Rename it or correct the row"
    return ""


def read_checksums(raw: Path, faces: Faces) -> dict[str, str]:
    """The SHA-256 of every image of the faces, as fetch recorded it. Raises `InputError` where the file lacks one."""
    path = raw / "checksums.csv"
    try:
        recorded = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("image")["sha256"].to_dict()
        return {image: recorded[image] for image in faces.image}
    except (FileNotFoundError, KeyError, ValueError):
        raise InputError(
            f"{path} is missing, damaged or of other faces: run dvc repro --force on the fetch stage."
        ) from None


def require_unchanged(faces: Faces, images: Path, raw: Path) -> None:
    """Raise `InputError` listing the images of `faces` that are missing or differ from what fetch recorded in `raw`."""
    recorded = read_checksums(raw, faces)
    present, faults = image_checksums(images, faces.image)
    faults += [f"{images / name}: changed since it was fetched" for name, _, sha in present if recorded[name] != sha]
    refuse(faults, f"the images in {images}", "Restore them, or run dvc repro to fetch them again.")
