"""300W's own format: next to every image a .pts file with its landmarks.

    version: 1
    n_points: 68
    {
    268.0 398.882
    …
    }

The values count pixels from 1 and are used unchanged, as by HRNet's CSV files and every published result; but under
`hidden: negative` their signs say what is hidden (sources.visibility). The box is that of the landmarks
(geometry.landmark_box).
"""

import os
import re
from pathlib import Path

import numpy as np

from stages.data.faces import Faces, concatenate
from stages.sources.assemble import split_faces
from stages.sources.images.reading import read_bytes
from stages.sources.visibility import signs_as_visibility, with_visibility

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp")  # the extensions that are read
_FORM = re.compile(rb"\s*version:\s*1\s+n_points:\s*(\d{1,6})\s*\{([^{}]*)\}\s*")


def files(form, root: Path, splits: tuple[str, ...]) -> list[str]:
    """The .pts files, relative to the root; `form` is config.dataset.PtsForm."""
    return [
        f"{form.images}/{name}"
        for split in splits
        for folder in getattr(form, split)
        for name in _pts_files(root / form.images, folder)
    ]


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return [f"{form.images}/{folder}" for split in splits for folder in getattr(form, split)]


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """The faces of the valid files, and the faults of the others."""
    base, faults, parts = root / form.images, [], []
    for split in splits:
        images, landmarks, subsets = [], [], []
        for folder in getattr(form, split):
            images_by_stem = _images_by_stem(base / folder)
            folder_subsets = tuple(
                name for name, members in form.subsets.items() if split == "test" and folder in members
            )
            for name in _pts_files(base, folder):
                points, matches = read_pts(base / name, count), images_by_stem.get(Path(name).stem, [])
                if isinstance(points, str):
                    faults.append(points)
                elif form.hidden == "negative" and not signs_as_visibility(points)[1].any():
                    faults.append(f"{base / name}: none of its landmarks is annotated. Leave the file out")
                elif not matches:
                    faults.append(f"{base / name}: there is no image of the same name next to it{_others(base / name)}")
                elif len(matches) > 1:
                    faults.append(f"{base / name}: {len(matches)} images have its name: {', '.join(matches)}")
                else:
                    images.append(f"{folder}/{matches[0]}")
                    landmarks.append(points)
                    subsets.append(folder_subsets)
        points, visible = np.array(landmarks).reshape(-1, count, 2), None
        if form.hidden == "negative":
            points, visible = with_visibility(*signs_as_visibility(points))
        parts.append(split_faces(split, images, points, visible=visible, subsets=subsets))
    return concatenate(parts), faults


def read_pts(path: Path, count: int) -> np.ndarray | str:
    """(K, 2) landmarks of one file, or its fault."""
    try:
        form = _FORM.fullmatch(read_bytes(path))
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    if form is None:
        return f"{path}: it is not a .pts file (version: 1, n_points: {count}, then the points in braces)"
    stated, points = int(form[1]), [line.split() for line in form[2].splitlines() if line.strip()]
    if (stated, len(points)) != (count, count):
        return f"{path}: n_points is {stated} and {len(points)} points follow, where {count} are needed"
    try:
        landmarks = np.array([[float(value) for value in point] for point in points])
    except ValueError as error:
        return f"{path}: {error}"
    if landmarks.shape != (count, 2) or not np.isfinite(landmarks).all():
        return f"{path}: a point is not two finite numbers"
    return landmarks


def _pts_files(base: Path, folder: str) -> list[str]:
    names = os.listdir(base / folder) if (base / folder).is_dir() else []
    return [f"{folder}/{name}" for name in sorted(names) if name.lower().endswith(".pts") and name[0] != "."]


def _images_by_stem(folder: Path) -> dict[str, list[str]]:
    by_stem: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        stem, extension = os.path.splitext(name)
        if extension.lower() in IMAGES and not name.startswith("."):
            by_stem.setdefault(stem, []).append(name)
    return by_stem


def _others(path: Path) -> str:
    """What lies beside a .pts file under its name and is not read."""
    names = [name for name in sorted(os.listdir(path.parent)) if Path(name).stem == path.stem and name != path.name]
    return f", only {', '.join(names)}; images are read as {', '.join(IMAGES)}" if names else ""
