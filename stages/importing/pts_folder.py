"""A folder of .pts files beside their images (sources.pts), with the folders in it."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from stages.config.dataset import PtsForm
from stages.importing.annotations import NO_BOX, Annotations, nothing, tidy
from stages.sources import pts
from stages.sources.visibility import HIDDEN, NOT_ANNOTATED, VISIBLE

_COUNT = re.compile(rb"n_points:\s*(\d{1,6})")


def read(folder: Path, hidden: str = "none") -> Annotations:
    """The faces of all .pts files. hidden: what a negative coordinate means, as in config.dataset.PtsForm."""
    if not folder.is_dir():
        return nothing(f"{folder}: there is no such folder")
    parents = sorted(os.path.relpath(parent, folder) for parent, _, _ in os.walk(folder, followlinks=True))
    form = PtsForm(images=".", train=parents, test=[], hidden=hidden)
    files = pts.files(form, folder, ("train",))
    if not files:
        return nothing(f"{folder}: it holds no .pts file")
    regular = [folder / file for file in files if (folder / file).is_file()]  # `pts.read` names the others
    stated = (_COUNT.search(file.read_bytes()[:1000]) for file in regular)
    count = Counter(int(match[1]) for match in stated if match).most_common(1)
    if not count or not count[0][0]:
        return nothing(f"{folder / files[0]}: it is not a .pts file (version: 1, n_points: …, the points in braces)")
    faces, faults = pts.read(form, folder, folder, count[0][0], ("train",))
    v = np.where(faces.annotated, np.where(faces.visible, VISIBLE, HIDDEN), NOT_ANNOTATED)
    images = [os.path.normpath(image).replace(os.sep, "/") for image in faces.image]
    return tidy(
        Annotations(
            images=images,
            places=[str(folder / image) for image in images],
            points=np.nan_to_num(faces.landmarks),
            v=v,
            boxes=np.full((len(faces), 3), NO_BOX),
            faults=[fault.replace("/./", "/") for fault in faults],
        )
    )
