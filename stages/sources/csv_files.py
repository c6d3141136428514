"""HRNet's CSV format: image_name, scale, center_w, center_h, original_0_x, original_0_y, … (AFLW adds box_size).

The box is the file's own: centre (center_w, center_h), side 200 × scale. Annotated values are used unchanged.
"""

import csv
from array import array
from functools import partial
from pathlib import Path

import numpy as np

from stages.data.faces import Faces
from stages.sources import assemble
from stages.sources.assemble import Rows, no_rows

files = assemble.files


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return [form.images]


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """The faces of the valid rows, and the faults of all files; `form` is config.dataset.CsvForm."""
    return assemble.read_files(form, root, splits, partial(read_rows, count=count))


def read_rows(path: Path, count: int) -> Rows:
    """Parse one file of faces with `count` landmarks each."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return _parse(csv.reader(file), path, count)
    except (UnicodeDecodeError, csv.Error) as error:
        return no_rows(count, [f"{path}: it is not a CSV file ({error})"])


def _parse(reader, path: Path, count: int) -> Rows:
    header = [name.strip() for name in next(reader, [])]
    if faults := _header_faults(header, path, count):
        return no_rows(count, faults)
    image_column = header.index("image_name")
    names = header[:image_column] + header[image_column + 1 :]
    numbers = array("d")  # (N, names), appended to row by row: takes a quarter of the time of lists of floats
    images, lines, faults = [], [], []
    for fields in reader:
        if not fields:
            continue
        location = f"{path}, line {reader.line_num}"
        if len(fields) != len(header):
            faults.append(f"{location}: {len(fields)} fields, and the header has {len(header)}")
            continue
        image = fields.pop(image_column)
        try:
            values = array("d", map(float, fields))
        except ValueError:
            first = next(i for i, text in enumerate(fields) if not _is_number(text))
            faults.append(f"{location}: {names[first]} is {fields[first]!r}, not a number")
            continue
        numbers.extend(values)
        images.append(image)
        lines.append(reader.line_num)
    table = np.array(numbers).reshape(len(images), len(names))
    columns = {name: table[:, i] for i, name in enumerate(names)}
    valid = _valid_rows(table, columns, [f"{path}, line {line}" for line in lines], faults)

    # rounded, so that the side equals that of the landmarks to the last bit: 200 × scale is not exact in binary
    side = np.round(200 * columns["scale"], 9)
    return Rows(
        images=[images[i] for i in valid],
        lines=[lines[i] for i in valid],
        landmarks=np.stack([columns[name] for name in _point_columns(count)], 1).reshape(-1, count, 2)[valid],
        box=(np.stack([columns["center_w"], columns["center_h"]], 1)[valid], side[valid]),
        extra={"box_size": columns["box_size"][valid]} if "box_size" in columns else {},
        faults=faults,
    )


def _header_faults(header: list[str], path: Path, count: int) -> list[str]:
    if not header:
        return [f"{path}: it is empty"]
    expected = ["image_name", "scale", "center_w", "center_h", *_point_columns(count)]
    points = sum(name.startswith("original_") for name in header)
    if points != 2 * count and points % 2 == 0 and {*_point_columns(points // 2)} <= {*header}:
        return [
            f"{path}: it has {points // 2} landmarks per face, and the dataset's scheme (params/schemes) has {count}"
        ]
    faults = [f"{path}: column {name} is missing" for name in expected if name not in header]
    faults += [f"{path}: unknown column {name!r}" for name in header if name not in [*expected, "box_size"]]
    if len(set(header)) != len(header):
        faults.append(f"{path}: a column of its header is duplicated")
    return faults


def _valid_rows(
    table: np.ndarray, columns: dict[str, np.ndarray], locations: list[str], faults: list[str]
) -> np.ndarray:
    """The indices of the rows that are finite and whose box has a size; the faults of the others go to `faults`."""
    finite, scale = np.isfinite(table), columns["scale"]
    box_size = columns.get("box_size", 200 * scale)
    consistent = np.abs(box_size - 200 * scale) <= 0.01 * np.abs(box_size)
    valid = finite.all(1) & (scale > 0) & consistent
    for i in np.flatnonzero(~valid):
        if not finite[i].all():
            name = list(columns)[np.argmin(finite[i])]
            faults.append(f"{locations[i]}: {name} is {columns[name][i]}")
        elif scale[i] <= 0:
            faults.append(f"{locations[i]}: scale is {scale[i]:g}, so the face's box has no size")
        else:
            faults.append(f"{locations[i]}: box_size is {box_size[i]:g}, and 200 × scale is {200 * scale[i]:g}")
    return np.flatnonzero(valid)


def _point_columns(count: int) -> list[str]:
    return [f"original_{i}_{axis}" for i in range(count) for axis in "xy"]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
