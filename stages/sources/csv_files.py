"""HRNet's CSV format: image_name, scale, center_w, center_h, original_0_x, original_0_y, … (AFLW adds box_size).

The box is the file's own: centre (center_w, center_h), side 200 × scale. Annotated values are used unchanged. Optional
columns: visible_0, visible_1, … (sources.visibility; where one is 0 the coordinates may be blank), and group (whose
face it is: all faces of a group are put into the same split).
"""

import csv
import io
from array import array
from functools import partial
from pathlib import Path

import numpy as np

from stages.data.faces import Faces
from stages.sources import assemble, csv_faults
from stages.sources.assemble import Rows, no_rows
from stages.sources.visibility import NOT_ANNOTATED, with_visibility

files = assemble.files


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return [form.images]


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """The faces of the valid rows, and the faults of all files; `form` is config.dataset.CsvForm."""
    return assemble.read_files(form, root, splits, partial(read_rows, count=count))


def read_rows(path: Path, count: int) -> Rows:
    """Parse one file of faces with `count` landmarks each."""
    data = path.read_bytes()
    if fault := csv_faults.encoding_fault(data):
        return no_rows(count, [f"{path}: {fault}"])
    try:
        return _parse(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")), path, count)
    except csv.Error as error:
        return no_rows(count, [f"{path}: it is not a CSV file ({error})"])


def _parse(reader, path: Path, count: int) -> Rows:
    header = [name.strip() for name in next(reader, [])]
    if faults := csv_faults.header_faults(header, count):
        return no_rows(count, [f"{path}: {fault}" for fault in faults])
    texts = {name: header.index(name) for name in ("image_name", "group") if name in header}
    names = [name for name in header if name not in texts]
    may_be_blank = "visible_0" in header
    numbers = array("d")  # (N, names), appended to row by row: takes a quarter of the time of lists of floats
    images, groups, lines, faults = [], [], [], []
    for fields in reader:
        if not fields:
            continue
        location = f"{path}, line {reader.line_num}"
        if len(fields) != len(header):
            faults.append(f"{location}: {len(fields)} fields, and the header has {len(header)}")
            continue
        for name, column in sorted(texts.items(), key=lambda item: -item[1]):
            (images if name == "image_name" else groups).append(fields.pop(column))
        try:
            values = array("d", map(float, fields))
        except ValueError:
            if may_be_blank:
                fields = [text if text.strip() or not name.startswith("original_") else "nan"
                          for name, text in zip(names, fields, strict=True)]  # fmt: skip
            if wrong := csv_faults.number_fault(names, fields):
                faults.append(f"{location}: {wrong}")
                images.pop()
                groups[:] = groups[: len(images)]
                continue
            values = array("d", map(float, fields))
        numbers.extend(values)
        lines.append(reader.line_num)
    table = np.array(numbers).reshape(len(images), len(names))
    columns = {name: table[:, i] for i, name in enumerate(names)}
    points = np.stack([columns[name] for name in csv_faults.point_columns(count)], 1).reshape(-1, count, 2)
    visible = None
    locations = [f"{path}, line {line}" for line in lines]
    if may_be_blank:
        v = np.stack([columns[f"visible_{i}"] for i in range(count)], 1)
        landmarks, visible = with_visibility(points, v)
        for i, (x, y) in enumerate(np.moveaxis(np.where((v == NOT_ANNOTATED)[..., None], 0.0, points), 0, -1)):
            columns[f"original_{i}_x"], columns[f"original_{i}_y"] = x, y  # what is not annotated is not checked
        points = landmarks
    valid = csv_faults.valid_rows(columns, locations, faults)
    if "group" in texts:
        valid = csv_faults.grouped_rows(groups, valid, locations, faults)

    # rounded, so that the side equals that of the landmarks to the last bit: 200 × scale is not exact in binary
    side = np.round(200 * columns["scale"], 9)
    extra = {"box_size": columns["box_size"][valid]} if "box_size" in columns else {}
    return Rows(
        images=[images[i] for i in valid],
        lines=[lines[i] for i in valid],
        landmarks=points[valid],
        visible=None if visible is None else visible[valid],
        box=(np.stack([columns["center_w"], columns["center_h"]], 1)[valid], side[valid]),
        extra=extra | ({"group": [groups[i] for i in valid]} if "group" in texts else {}),
        faults=faults,
    )
