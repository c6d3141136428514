"""The test faces of a dataset, from its annotation files alone: no image is read to measure predictions."""

from collections.abc import Callable
from pathlib import Path

from stages.data.faces import Faces
from stages.data.scheme import DatasetScheme
from stages.sources import checks, readers
from stages.system.errors import refuse


def choose_dataset(name: str, root: Path | None, source_of: Callable[[str], object]) -> tuple[str, str | None]:
    """The dataset that is measured, `name` or the one whose test files `root` holds instead, and a warning if so.

    source_of: gives the section `source` of a dataset.
    """
    instead = source_of(name).instead
    if instead is None or root is None or has_test_files(source_of(name), root):
        return name, None
    if not has_test_files(source_of(instead), root):
        return name, None
    return instead, f"{root} holds the test files of {instead}, not of {name}"


def has_test_files(source, root: Path) -> bool:
    """Whether the annotation files of its test faces are in `root`; source: config.dataset.Source, here and below."""
    folder = readers.locate(source, root)
    files = readers.annotations(source, folder, ("test",))
    return bool(files) and all((folder / file).is_file() for file in files)


def require_test_files(name: str, about, source, root: Path) -> None:
    """Raise `InputError` unless the annotation files of the test faces are in `root`: what is missing."""
    if not has_test_files(source, root):
        partial = source.model_copy(update={"partial": True})
        readers.require_files(name, about, partial, readers.locate(source, root), ("test",))


def read_annotation(
    name: str, about, source, scheme: DatasetScheme, location: Path, out: Path
) -> tuple[Faces, list[str]]:
    """The test faces, and where their numbers differ from the published ones.

    out: for what a source unpacks. Raises `InputError` where files are missing or a face cannot be measured.
    """
    source = source.model_copy(update={"partial": True})
    with readers.opened(source, location, out) as folder:
        require_test_files(name, about, source, folder)
        faces, faults = readers.read(name, source, scheme.count, folder, out, ("test",))
    faults += checks.face_faults(faces, scheme)
    refuse(faults, f"the test faces of {name}", "Fix these, then run the same command again.")
    return faces, checks.count_faults(faces, source.counts, ("test",))
