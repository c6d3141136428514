"""Where faces come from: one reader per published form, and the faces this project draws; all give one face table.

A reader module has three functions of its form's parameters: `files` (the annotation files, relative to the root),
`folders` (the folders of images that must exist) and `read` (the faces of the sound rows, the faults of the others).
"""

import os
from pathlib import Path

from stages.data.faces import Faces
from stages.data.places import locate, variable
from stages.data.sources import csv_files, drawn, lists, mat, pts
from stages.errors import InputError, refuse

SPLITS = ("train", "test")  # what a source knows; val is carved out of train later
_READERS = {"demo": drawn, "csv": csv_files, "lists": lists, "pts": pts, "mat": mat}


def read(
    name: str, dataset, root: str | Path | None, out: Path, splits: tuple[str, ...] = SPLITS
) -> tuple[Faces, list[str]]:
    """The faces of `splits`, and the faults of the rows that are left out.

    `dataset` holds the sections about, source and landmarks of params.dataset(name, …); `root` is where its files are
    (places.data_root). A form that makes its images writes them to out/images. With source.partial, files of subsets
    may be absent. Raises `InputError` where others are, saying what was found and how to get the rest.
    """
    source, count = dataset.source, dataset.landmarks.count
    folder = locate(name, source, root)
    reader, form = _READERS[source.form], _form(source, folder)
    if folder is not None:
        _require(name, dataset, folder, splits)
    faces, faults = reader.read(form, folder, out, count, splits)
    if not faults:
        empty = [split for split in splits if split not in faces.split and (split == "test" or form.train)]
        refuse([f"split {s} holds no face" for s in empty], name, "Check the dataset's files and its params.")
    return faces, faults


def annotations(name: str, source, root: str | Path | None, splits: tuple[str, ...] = SPLITS) -> tuple[Path, list[str]]:
    """The folder of the dataset's files and, relative to it, the annotation files that `read` reads."""
    folder = locate(name, source, root)
    return folder or Path(), _READERS[source.form].files(_form(source, folder), folder, splits)


def _form(source, folder: Path | None):
    """The form's parameters; of partial data without the subsets whose files are absent."""
    form = getattr(source, source.form)
    if not source.partial or source.form not in ("csv", "lists"):
        return form
    return form.model_copy(update={"subsets": {k: v for k, v in form.subsets.items() if (folder / v).is_file()}})


def _require(name: str, dataset, folder: Path, splits: tuple[str, ...]) -> None:
    source = dataset.source
    reader, form = _READERS[source.form], _form(source, folder)
    missing = [file for file in reader.files(form, folder, splits) if not (folder / file).is_file()]
    missing += [f"{part}/" for part in reader.folders(form, splits) if not (folder / part).is_dir()]
    if not missing:
        return
    found = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder)) if folder.is_dir() else []
    there = f"there is {', '.join(found[:10])}{' …' if len(found) > 10 else ''}" if found else "the folder is empty"
    raise InputError(
        f"{name}: {len(missing)} of its files are missing from {folder}: {', '.join(missing[:20])}; "
        f"{there if folder.is_dir() else 'there is no such folder'}.\n"
        f"Where they lie is set by the environment variable {variable(name)}, or source.root in "
        f"params/datasets/{name}.yaml. How to get them: {dataset.about.obtain}"
    )
