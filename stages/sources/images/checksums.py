"""Checksums of a dataset's files: recorded by fetch, compared by every stage that reads an image later."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from stages.data.faces import Faces
from stages.sources.images import jpeg
from stages.sources.images.reading import damage, lacks_pixels, orientation, read_bytes
from stages.system.errors import InputError, refuse
from stages.system.files import digest
from stages.system.processes import cores

Checksum = tuple[str, int, str]  # name, bytes, SHA-256


class Remarks(NamedTuple):
    """Images that are read, and of which a person should know something; by name, sorted."""

    turned: list[str]  # with an EXIF orientation other than 1
    no_end_marker: list[str]  # JPEG files that lack their last two bytes and no pixel

    def sentences(self, setting: str) -> list[str]:
        """What to print of them; setting: `source.orientation`."""
        lines = []
        if self.turned:
            done = "turned as it says" if setting == "exif" else "read as they are stored"
            lines.append(
                f"{_images(self.turned)} with an EXIF orientation other than upright, {done} (source.orientation: "
                f"{setting}; exif is right where the landmarks were annotated in a viewer that turns them)"
            )
        if self.no_end_marker:
            lines.append(f"{_images(self.no_end_marker)} in JPEG without its end marker; no pixel is missing")
        return lines


def _images(names: list[str]) -> str:
    return f"{len(names)} image{'s' * (len(names) > 1)} ({names[0]}{', …' * (len(names) > 1)})"


def checksums(folder: Path, names: list[str]) -> list[Checksum]:
    """Of files under the folder, of whatever size."""
    return [(name, (folder / name).stat().st_size, digest(folder / name)) for name in sorted(names)]


def image_checksums(folder: Path, names: list[str], decode: bool = True) -> tuple[list[Checksum], list[str], Remarks]:
    """The same for images, on all cores; the faults of those that are missing or damaged; remarks on the others.

    decode: False judges an image by its head and end alone, which is enough where its checksum is known.
    """
    entries = cache(lambda parent: sorted(os.listdir(parent)) if parent.is_dir() else [])

    def checked(name: str) -> tuple[Checksum, bool, bool] | str:
        path, parts = folder / name, PurePosixPath(name).parts
        if ".." in parts or PurePosixPath(name).is_absolute():
            return f"{name}: an image is named by its path within {folder}"
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            return f"{path}: missing{_similar(path, entries(path.parent))}"
        except (OSError, ValueError) as error:  # ValueError: a name that no file system allows
            return f"{path}: cannot be read ({getattr(error, 'strerror', error)})"
        if fault := damage(data) or (lacks_pixels(data) if decode else None):
            return f"{path}: {fault}"
        row = name, len(data), hashlib.sha256(data).hexdigest()
        return row, orientation(data) != 1, jpeg.lacks_end(data)

    names = sorted(set(names))
    with ThreadPoolExecutor(cores()) as pool:
        results = list(tqdm(pool.map(checked, names), "checking images", len(names), unit="image", disable=None))
    sound = [result for result in results if not isinstance(result, str)]
    remarks = Remarks([row[0] for row, turned, _ in sound if turned], [row[0] for row, _, lacking in sound if lacking])
    return [row for row, _, _ in sound], [result for result in results if isinstance(result, str)], remarks


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
    present, faults, _ = image_checksums(images, faces.image, decode=False)
    faults += [f"{images / name}: changed since it was fetched" for name, _, sha in present if recorded[name] != sha]
    refuse(faults, f"the images in {images}", "Restore them, or run dvc repro to fetch them again.")
