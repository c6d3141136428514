"""Where a dataset's files and images lie. Knows no reader, so that what needs the images alone depends on none."""

import os
from pathlib import Path

from stages.data import download
from stages.errors import InputError

_MAKES_IMAGES = ("demo", "mat")


def variable(name: str) -> str:
    """The environment variable that says where the dataset lies."""
    return f"DATA_{name.upper().replace('-', '_')}"


def data_root(name: str, source) -> Path | str | None:
    """Where the dataset's files lie: the environment variable DATA_<NAME>, else the parameter `source.root`.

    `source` is sections.Source, here and below. A folder or an archive, or a URL as text. A relative path starts from
    the repository that owns the pipeline, so that experiments that DVC runs elsewhere (dvc exp run --temp, queues) find
    it too.
    """
    given = os.environ.get(variable(name)) or source.root
    if not given or download.is_url(given):
        return given or None
    return Path(os.environ.get("DVC_ROOT", "")) / Path(given).expanduser()


def locate(name: str, source, root: str | Path | None) -> Path | None:
    """The folder that holds the dataset's files; None where it needs none. Raises `InputError` where none is named.

    An archive or a URL is unpacked under data/downloads once, of the repository that owns the pipeline.
    """
    if source.form == "demo":
        return None
    if root is None:
        raise InputError(
            f"{name}: nobody has said where its files lie. Set the environment variable {variable(name)}, or "
            f"source.root in params/datasets/{name}.yaml, to their folder, their archive or its URL."
        )
    store = Path(os.environ.get("DVC_ROOT", "")) / "data/downloads" / name
    folder = download.obtain(root, store, source.sha256)
    inner = [folder / source.folder] if source.folder else []
    inner += [entry for entry in folder.glob("*/") if entry.is_dir()] if folder.parent == store else []
    return next((each for each in inner if _holds(each, source)), folder)


def _holds(folder: Path, source) -> bool:
    """Whether an annotation file is there, or a folder of .pts files."""
    form = getattr(source, source.form)
    if source.form == "pts":
        return any((folder / form.images / part).is_dir() for part in form.train + form.test)
    return any((folder / file).is_file() for file in (form.train, form.test) if file)


def images_folder(name: str, root: str | Path | None, source) -> Path:
    """The folder that the face table's image names start from."""
    if source.form in _MAKES_IMAGES:
        return Path("data/raw") / name / "images"
    return locate(name, source, root) / getattr(source, source.form).images
