"""HRNet's CSV form: image_name, scale, center_w, center_h, original_0_x, original_0_y, … (AFLW adds box_size).

The box is the file's own: centre (center_w, center_h), side 200 × scale. Annotation values are used as they stand.
"""

import csv
from array import array
from functools import partial
from pathlib import Path

import numpy as np

from stages.data.faces import Faces
from stages.data.sources import assemble
from stages.data.sources.assemble import Rows, no_rows

files = assemble.files


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return [form.images]


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """The faces of the sound rows, and the faults of all files; `form` is sections.CsvForm."""
    return assemble.read_files(form, root, splits, partial(read_rows, count=count))


def read_rows(path: Path, count: int) -> Rows:
    """Parse one file of faces with `count` landmarks each."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return _parse(csv.reader(file), path, count)
    except (UnicodeDecodeError, csv.Error) as error:
        return no_rows(count, [f"{path}: it is no CSV file ({error})"])


def _parse(reader, path: Path, count: int) -> Rows:
    header = [name.strip() for name in next(reader, [])]
    if faults := _header_faults(header, path, count):
        return no_rows(count, faults)
    place = header.index("image_name")
    names = header[:place] + header[place + 1 :]
    numbers = array("d")  # (N, names), grown row by row: an array of floats is a quarter of the time of their lists
    images, lines, faults = [], [], []
    for fields in reader:
        if not fields:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(fields) != len(header):
            faults.append(f"{where}: {len(fields)} fields, and the header has {len(header)}")
            continue
        image = fields.pop(place)
        try:
            values = array("d", map(float, fields))
        except ValueError:
            wrong = next(i for i, text in enumerate(fields) if not _is_number(text))
            faults.append(f"{where}: {names[wrong]} is {fields[wrong]!r}, not a number")
            continue
        numbers.extend(values)
        images.append(image)
        lines.append(reader.line_num)
    table = np.array(numbers).reshape(len(images), len(names))
    column = {name: table[:, i] for i, name in enumerate(names)}
    sound = _sound(table, column, [f"{path}, line {line}" for line in lines], faults)

    # 200 × scale as decimals, not as the binary product, so that the side is that of the landmarks to the last bit
    side = np.round(200 * column["scale"], 9)
    return Rows(
        images=[images[i] for i in sound],
        lines=[lines[i] for i in sound],
        landmarks=np.stack([column[name] for name in _points(count)], 1).reshape(-1, count, 2)[sound],
        box=(np.stack([column["center_w"], column["center_h"]], 1)[sound], side[sound]),
        extra={"box_size": column["box_size"][sound]} if "box_size" in column else {},
        faults=faults,
    )


def _header_faults(header: list[str], path: Path, count: int) -> list[str]:
    if not header:
        return [f"{path}: it is empty"]
    expected = ["image_name", "scale", "center_w", "center_h", *_points(count)]
    here = sum(name.startswith("original_") for name in header)
    if here != 2 * count and here % 2 == 0 and {*_points(here // 2)} <= {*header}:
        return [f"{path}: it has {here // 2} landmarks a face, and landmarks.count of its params is {count}"]
    faults = [f"{path}: column {name} is missing" for name in expected if name not in header]
    faults += [f"{path}: column {name!r} is not known" for name in header if name not in [*expected, "box_size"]]
    if len(set(header)) != len(header):
        faults.append(f"{path}: a column stands twice in its header")
    return faults


def _sound(table: np.ndarray, column: dict[str, np.ndarray], where: list[str], faults: list[str]) -> np.ndarray:
    """The indices of the rows without NaN, infinity and boxes without a size; the others are added to `faults`."""
    finite, scale = np.isfinite(table), column["scale"]
    box_size = column.get("box_size", 200 * scale)
    agree = np.abs(box_size - 200 * scale) <= 0.01 * np.abs(box_size)
    sound = finite.all(1) & (scale > 0) & agree
    for i in np.flatnonzero(~sound):
        if not finite[i].all():
            wrong = list(column)[np.argmin(finite[i])]
            faults.append(f"{where[i]}: {wrong} is {column[wrong][i]}")
        elif scale[i] <= 0:
            faults.append(f"{where[i]}: scale is {scale[i]:g}, so the face's box has no size")
        else:
            faults.append(f"{where[i]}: box_size is {box_size[i]:g}, and 200 × scale is {200 * scale[i]:g}")
    return np.flatnonzero(sound)


def _points(count: int) -> list[str]:
    return [f"original_{i}_{axis}" for i in range(count) for axis in "xy"]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
