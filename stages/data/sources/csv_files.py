"""HRNet's CSV form: image_name, scale, center_w, center_h, original_0_x, original_0_y, … (AFLW adds box_size).

The box is the file's own: centre (center_w, center_h), side 200 × scale. Annotation values are used as they stand.
"""

import csv
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.data.faces import Faces, join
from stages.data.sources.assemble import find_faces, split_faces

_BOX = ("scale", "center_w", "center_h")


@dataclass
class Rows:
    """The N sound rows of one file, and what is wrong with the others."""

    images: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # in the file, from 1
    numbers: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))  # (N, columns)
    columns: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def landmarks(self, count: int) -> np.ndarray:
        """(N, K, 2)"""
        if not self.images:
            return np.empty((0, count, 2))
        return self.numbers[:, [self.columns[name] for name in _points(count)]].reshape(-1, count, 2)

    def column(self, name: str) -> np.ndarray:
        """(N,)"""
        return self.numbers[:, self.columns[name]] if self.images else np.empty(0)


def files(form, root: Path, splits: tuple[str, ...]) -> list[str]:
    """The annotation files, relative to the root; `form` is params.CsvForm."""
    train = [form.train] if form.train and "train" in splits else []
    return train + ([form.test, *form.subsets.values()] if "test" in splits else [])


def folders(form) -> list[str]:
    return [form.images]


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """The faces of the sound rows, and the faults of all files."""
    faults: list[str] = []
    parts = []
    for split, name in (("train", form.train), ("test", form.test)):
        if not name or split not in splits:
            continue
        rows = read_rows(root / name, count)
        faults += rows.faults
        subsets: list[list[str]] = [[] for _ in rows.images]
        for subset, subset_name in form.subsets.items() if split == "test" else ():
            members = read_rows(root / subset_name, count)
            faults += members.faults
            found = find_faces(members.images, members.landmarks(count), rows.images, rows.landmarks(count))
            for row, line in zip(found, members.lines, strict=True):
                if row is not None:
                    subsets[row].append(subset)
                elif not rows.faults:  # else it may be the row that is at fault
                    faults.append(f"{root / subset_name}, line {line}: no row of {name} has this image and landmarks")
        # 200 × scale as decimals, not as the binary product, so that the side is that of the landmarks to the last bit
        side = np.round(200 * rows.column("scale"), 9)
        center = np.stack([rows.column("center_w"), rows.column("center_h")], 1)
        extra = {"box_size": rows.column("box_size")} if "box_size" in rows.columns else {}
        parts.append(
            split_faces(
                split, rows.images, rows.landmarks(count), box=(center, side), subsets=map(tuple, subsets), extra=extra
            )
        )
    common = set.intersection(*(set(part.extra) for part in parts))  # a file at fault has none
    for part in parts:
        part.extra = {name: part.extra[name] for name in common}
    return join(parts), faults


def read_rows(path: Path, count: int) -> Rows:
    """Parse one file of faces with `count` landmarks each."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return _parse(csv.reader(file), path, count)
    except (UnicodeDecodeError, csv.Error) as error:
        return Rows(faults=[f"{path}: it is no CSV file ({error})"])


def _parse(reader, path: Path, count: int) -> Rows:
    header = [name.strip() for name in next(reader, [])]
    if faults := _header_faults(header, path, count):
        return Rows(faults=faults)
    place = header.index("image_name")
    names = header[:place] + header[place + 1 :]
    rows, numbers = Rows(columns={name: i for i, name in enumerate(names)}), array("d")
    for fields in reader:
        if not fields:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(fields) != len(header):
            rows.faults.append(f"{where}: {len(fields)} fields, and the header has {len(header)}")
            continue
        image = fields.pop(place)
        try:
            values = array("d", map(float, fields))
        except ValueError:
            wrong = next(i for i, text in enumerate(fields) if not _is_number(text))
            rows.faults.append(f"{where}: {names[wrong]} is {fields[wrong]!r}, not a number")
            continue
        numbers.extend(values)
        rows.images.append(image)
        rows.lines.append(reader.line_num)
    rows.numbers = np.array(numbers).reshape(len(rows.images), len(names))
    return _drop_faulty(rows, names, path)


def _header_faults(header: list[str], path: Path, count: int) -> list[str]:
    if not header:
        return [f"{path}: it is empty"]
    expected = ["image_name", *_BOX, *_points(count)]
    here = sum(name.startswith("original_") for name in header)
    if here != 2 * count and here % 2 == 0 and {*_points(here // 2)} <= {*header}:
        return [f"{path}: it has {here // 2} landmarks a face, and landmarks.count of its params is {count}"]
    faults = [f"{path}: column {name} is missing" for name in expected if name not in header]
    faults += [f"{path}: column {name!r} is not known" for name in header if name not in [*expected, "box_size"]]
    if len(set(header)) != len(header):
        faults.append(f"{path}: a column stands twice in its header")
    return faults


def _drop_faulty(rows: Rows, names: list[str], path: Path) -> Rows:
    """Report and leave out the rows with NaN, infinity or a box without a size."""
    finite = np.isfinite(rows.numbers)
    scale = rows.column("scale")
    sound = finite.all(1) & (scale > 0)
    if "box_size" in rows.columns:
        sound &= np.abs(rows.column("box_size") - 200 * scale) < 0.01 * 200 * np.abs(scale)
    for i in np.flatnonzero(~sound):
        wrong = names[np.argmin(finite[i])]
        if not finite[i].all():
            what = f"{wrong} is {rows.numbers[i, rows.columns[wrong]]}"
        elif scale[i] <= 0:
            what = f"scale is {scale[i]:g}, so the face's box has no size"
        else:
            what = f"box_size is {rows.column('box_size')[i]:g}, and 200 × scale is {200 * scale[i]:g}"
        rows.faults.append(f"{path}, line {rows.lines[i]}: {what}")
    kept = np.flatnonzero(sound)
    rows.images = [rows.images[i] for i in kept]
    rows.lines = [rows.lines[i] for i in kept]
    rows.numbers = rows.numbers[kept]
    return rows


def _points(count: int) -> list[str]:
    return [f"original_{i}_{axis}" for i in range(count) for axis in "xy"]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
