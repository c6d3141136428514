"""What lies among a dataset's files and was not read, in numbers: images without annotation, folders of no split."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stages.data.faces import Faces
from stages.sources.pts import IMAGES

_OTHER = (".gif", ".heic", ".heif")  # images that own data may hold and rows cannot name, or seldom do


def unread(source, folder: Path, faces: Faces) -> list[str]:
    """One line each; `source` is config.dataset.Source. Hidden files do not count."""
    if source.form in ("csv", "lists"):
        names = set(faces.image)
        images = (name for name in _walk(folder / source.files.images) if _extension(name) in (*IMAGES, *_OTHER))
        return _counted("images that no row names", [name for name in images if name not in names])
    return _beside_pts(source.files, folder, faces) if source.form == "pts" else []


def _beside_pts(form, folder: Path, faces: Faces) -> list[str]:
    base, named = folder / form.images, {*form.train, *form.test}
    annotated = {os.path.splitext(image)[0] for image in faces.image}
    images, others, elsewhere = [], [], Counter()
    for name in _walk(base):
        parent, extension = os.path.dirname(name), _extension(name)
        if parent not in named:
            elsewhere[parent] += extension == ".pts"
        elif extension in IMAGES and os.path.splitext(name)[0] not in annotated:
            images.append(name)
        elif extension not in IMAGES and extension != ".pts":
            others.append(name)
    mirrored = [image for image in faces.image if os.path.splitext(image)[0].endswith("_mirror")]
    return [
        *_counted("images without a .pts file", images),
        *_counted("files that are neither an image that is read nor a .pts file", others),
        *_counted("folders with .pts files that no split names", [name or "." for name, n in elsewhere.items() if n]),
        *_counted("faces that by their names (_mirror) are mirrored copies, read like others", mirrored),
    ]


def _counted(what: str, names: list[str]) -> list[str]:
    return [f"{what}: {len(names)} ({min(names)}{', …' * (len(names) > 1)})"] if names else []


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _walk(folder: Path) -> Iterator[str]:
    """The files below, relative to the folder, also those of linked folders, but each folder once."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if not name.startswith(".")]
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in files:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
