"""WFLW's own lists, one face per line: 2K numbers x0 y0 x1 y1 …, then the image's path; lists with attributes have the
face's rectangle (4 numbers) and the flags (0 or 1) in between.

The box is that of the landmarks (geometry.landmark_box); the lists' own rectangle is not used.
"""

from functools import partial
from pathlib import Path

import numpy as np

from stages.data.faces import Faces
from stages.sources import assemble
from stages.sources.assemble import Rows

files = assemble.files


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return [form.images]


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """The faces of the valid lines, and the faults of all lists; `form` is config.dataset.ListsForm."""
    return assemble.read_files(form, root, splits, partial(read_list, count=count, attributes=form.attributes))


def read_list(path: Path, count: int, attributes: list[str]) -> Rows:
    """Parse one list of faces with `count` landmarks each; the names of the flags that are set become subsets."""
    images, lines, points, subsets, faults = [], [], [], [], []
    plain, full = 2 * count + 1, 2 * count + 4 + len(attributes) + 1
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        location = f"{path}, line {number}"
        if len(fields) not in (plain, full):
            faults.append(
                f"{location}: {len(fields)} fields; {count} landmarks and an image make {plain}, with a rectangle and "
                f"{len(attributes)} attributes {full}"
            )
            continue
        try:
            values = np.array([float(text) for text in fields[: 2 * count]])
            flags = [int(text) for text in fields[2 * count + 4 : -1]]
            image = fields[-1].decode()
        except ValueError as error:
            faults.append(f"{location}: {error}")
            continue
        if not np.isfinite(values).all():
            faults.append(
                f"{location}: number {np.argmin(np.isfinite(values)) + 1} is {values[~np.isfinite(values)][0]}"
            )
        elif not {0, 1}.issuperset(flags):
            faults.append(f"{location}: its attributes are {flags}, and must be 0 or 1")
        else:
            images.append(image)
            lines.append(number)
            points.append(values)
            subsets.append([name for name, flag in zip(attributes, flags, strict=False) if flag])
    return Rows(images, lines, np.array(points).reshape(-1, count, 2), subsets=subsets, faults=faults)
