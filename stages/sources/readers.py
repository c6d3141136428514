"""One reader per published form, and the faces this project draws; all give the same face table.

A reader module has three functions of its form's parameters: `files` (the annotation files, relative to the dataset's
folder), `folders` (the folders of images that must exist) and `read` (the faces of the sound rows, the faults of the
others).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.data.faces import Faces
from stages.sources import csv_files, drawn, lists, mat, pts
from stages.sources.archives import unpack
from stages.sources.groups import read_groups
from stages.system.errors import InputError, refuse

SPLITS = ("train", "test")  # of a source; val is carved out of train later
_READERS = {"demo": drawn, "csv": csv_files, "lists": lists, "pts": pts, "mat": mat}


@contextmanager
def opened(source, location: Path, out: Path) -> Iterator[Path]:
    """The folder of a dataset's files: `location` itself, or what its archive holds, unpacked under `out` for a time.

    source: config.dataset.Source, here and below. The images of an archive stay, as out/images. Raises `InputError`
    where the archive is damaged.
    """
    if not location.is_file():
        yield location
        return
    unpacked = out / "unpacked"
    unpack(location, unpacked)
    folder = locate(source, unpacked, nested=True)
    try:
        yield folder
    except InputError as error:  # paths in the archive, not where it is unpacked
        raise InputError(str(error).replace(str(folder), str(location))) from None
    if source.form != "mat":  # whose images are in the .mat file
        os.replace(folder / source.files.images, out / "images")
    shutil.rmtree(unpacked, ignore_errors=True)  # gone where the images are not in a folder of their own


def locate(source, folder: Path, nested: bool = False) -> Path:
    """The folder that holds the dataset's files: `folder`, its `source.folder`, or, if nested, any folder in it."""
    inner = [folder / source.folder] if source.folder else []
    inner += [entry for entry in sorted(folder.glob("*/")) if nested and entry.is_dir()]
    return next((place for place in (folder, *inner) if _holds(place, source)), folder)


def _holds(folder: Path, source) -> bool:
    """Whether an annotation file is there, or a folder of .pts files."""
    if source.form == "demo":
        return True
    if source.form == "pts":
        return any((folder / source.files.images / part).is_dir() for part in source.files.train + source.files.test)
    return any((folder / file).is_file() for file in (source.files.train, source.files.test) if file)


def read(
    name: str, source, count: int, folder: Path, out: Path, splits: tuple[str, ...] = SPLITS
) -> tuple[Faces, list[str]]:
    """The faces of `splits` with `count` landmarks each, and the faults of the rows that are left out.

    A form that makes its images writes them to out/images. With source.partial, files of subsets may be absent. Raises
    `InputError` where a split holds no face.
    """
    files = _present(source, folder)
    faces, faults = _READERS[source.form].read(files, folder, out, count, splits)
    if not faults:
        needed = {"train": files.train, "test": source.test_share is None}
        empty = [split for split in splits if split not in faces.split and needed[split]]
        refuse([f"split {split} holds no face" for split in empty], name, "Check the dataset's files and parameters.")
    return faces, faults + read_groups(faces, source.group)


def annotations(source, folder: Path, splits: tuple[str, ...] = SPLITS) -> list[str]:
    """The annotation files that `read` reads, relative to the folder."""
    return _READERS[source.form].files(_present(source, folder), folder, splits)


def _present(source, folder: Path):
    """The form's parameters; of partial data without the subsets whose files are absent."""
    files = source.files
    if not source.partial or source.form not in ("csv", "lists"):
        return files
    present = {subset: file for subset, file in files.subsets.items() if (folder / file).is_file()}
    return files.model_copy(update={"subsets": present})


def require_files(name: str, about, source, folder: Path, splits: tuple[str, ...] = SPLITS) -> None:
    """Raise `InputError` unless the dataset's files are in `folder`: what is missing, and how to get it."""
    if source.form == "demo":
        return
    if splits == ("test",) and not source.files.test:
        raise InputError(
            f"{name} has no test files: its test faces are cut from its training faces (source.test_share). Measure on "
            f"them by an experiment of params/pipeline.yaml, or name files in source.{source.form}.test."
        )
    reader, files = _READERS[source.form], _present(source, folder)
    missing = [file for file in reader.files(files, folder, splits) if not (folder / file).is_file()]
    missing += [f"{part}/" for part in reader.folders(files, splits) if not (folder / part).is_dir()]
    if not missing:
        return
    if folder.is_dir():
        entries = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
        present = f"it holds {', '.join(entries[:10])}{' …' if len(entries) > 10 else ''}" if entries else "it is empty"
    else:
        present = "there is no such folder"
    raise InputError(
        f"{name}: {len(missing)} of its files are missing from {folder} ({present}): {', '.join(missing[:20])}.\n"
        f"How to get them: {about.obtain.strip()}\n"
        f"Put them into {folder}, or make it a link to where they are: ln -s FOLDER {folder}"
    )
