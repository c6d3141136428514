"""Which file below a folder an annotation file means by an image's name, and whether it is the image it describes."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from PIL import Image

from stages.importing.annotations import Annotations
from stages.sources.pts import IMAGES
from stages.system.processes import cores

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF")  # which fetch reads too: another one may start a program

EXIF_ORIENTATION = 0x0112


class Folder:
    """A folder of images, and the files in it by their bare names (read once, when a name needs it)."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Paths of the images, relative to the folder, by bare name in one Unicode form."""
        found: dict[str, list[str]] = defaultdict(list)
        for parent, folders, files in os.walk(self.path, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in files:
                if os.path.splitext(name)[1].lower() in IMAGES and not name.startswith("."):
                    path = os.path.relpath(os.path.join(parent, name), self.path).replace(os.sep, "/")
                    found[unicodedata.normalize("NFC", name)].append(path)
        return found

    @cached_property
    def by_stem(self) -> dict[str, str]:
        """One path for each bare name without extension and case."""
        return {_stem(path): path for paths in self.by_name.values() for path in paths}

    def find(self, name: str) -> str | list[str]:
        """The path of the image that a file calls `name`, or all that it may be (none, or several).

        It is tried as it is; then ever less of its beginning, for absolute paths, those of other systems, and folders
        that are not there; then its bare name in any folder.
        """
        for text in dict.fromkeys((name, name.replace("\\", "/").strip(), unquote(name.replace("\\", "/")))):
            parts = [part for part in PurePosixPath(text).parts if part not in ("/", ".", "..")]
            for start in range(len(parts)):
                if (end := "/".join(parts[start:])) and self._has(end):
                    return end
        bare = unicodedata.normalize("NFC", re.split(r"[\\/]", unquote(name.strip()))[-1])
        same = self.by_name.get(bare, [])
        return same[0] if len(same) == 1 else same

    def _has(self, name: str) -> bool:
        try:
            return (self.path / name).is_file()
        except (OSError, ValueError):  # a name that no file system allows
            return False


def resolved(part: Annotations, folder: Path) -> tuple[list[str], list[str], list[str]]:
    """The images of the faces as paths within the folder ("" where there is none); remarks; faults."""
    images = Folder(folder)
    paths, faults, moved = {}, [], []
    first: dict[str, str] = {}
    for name, place in zip(part.images, part.places, strict=True):
        first.setdefault(name, place)
    for name, place in first.items():
        match images.find(name):
            case str(path):
                paths[name] = path
                moved += [f"{name} is {path}"] if path != name else []
            case []:
                faults.append(f"{place}: there is no image {name!r} in {folder}{_similar(name, images)}")
            case several:
                faults.append(f"{place}: image {name!r} may be {' or '.join(several[:3])}: write the folder, too")
    names: dict[str, list[str]] = defaultdict(list)
    for name, path in paths.items():
        names[path].append(name)
    for path, same in names.items():
        *shorter, longest = sorted({name.replace("\\", "/").strip() for name in same}, key=len)
        if not all(longest.endswith(f"/{name}") for name in shorter):
            faults.append(f"{folder / path}: images of different names would all be this one: {', '.join(same[:3])}")
    remarks = [f"images found by the end of their names: {len(moved)} ({moved[0]})"] if moved else []
    return [paths.get(name, "") for name in part.images], remarks, faults


def _similar(name: str, images: Folder) -> str:
    if path := images.by_stem.get(_stem(name)):
        return f"; there is {path}. Rename it, or correct the annotation"
    held = sum(map(len, images.by_name.values()))
    return f" (which holds {held} images). Give their folder with --images" if held else ", which holds no image"


def _stem(name: str) -> str:
    return os.path.splitext(re.split(r"[\\/]", name.strip())[-1])[0].lower()


def _headers(folder: Path, images: Iterable[str]) -> Iterator[tuple[str, tuple[int, int], int]]:
    """Name, stored width and height, and EXIF orientation of each image that can be read."""

    def header(name: str):
        if not (folder / name).is_file():  # opening a FIFO may never end; `image_checksums` names it
            return None
        try:
            with Image.open(folder / name, formats=FORMATS) as image:
                return name, image.size, image.getexif().get(EXIF_ORIENTATION, 1)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    with ThreadPoolExecutor(cores()) as pool:
        yield from filter(None, pool.map(header, images))


def sizes(part: Annotations, images: list[str], folder: Path) -> tuple[dict[str, tuple[int, int]], bool, list[str]]:
    """Each image's size as its annotations see it, whether they see it turned by its EXIF orientation, and faults.

    Landmarks that were annotated on a larger or smaller copy would be beside the face.
    """
    stated = {path: part.sizes[name] for name, path in zip(part.images, images, strict=True) if name in part.sizes}
    known, kinds, faults = {}, Counter(), []
    for name, size, orientation in _headers(folder, sorted(set(images) - {""})):
        known[name] = size
        turned = size[::-1] if orientation in (5, 6, 7, 8) else size
        said = stated.get(name, size)
        if turned != size and name in stated and said in (size, turned):
            kinds["turned" if said == turned else "stored"] += 1
        elif said != size:
            faults.append(f"{folder / name}: it is {size[0]}×{size[1]} px, and was annotated as {said[0]}×{said[1]}. "
                          "Give the images that were annotated")  # fmt: skip
    if len(kinds) > 1:
        faults.append(f"{folder}: {kinds['turned']} images were annotated turned as their EXIF orientation says, "
                      f"{kinds['stored']} as they are stored: import them as two datasets")  # fmt: skip
    return known, "turned" in kinds, faults
