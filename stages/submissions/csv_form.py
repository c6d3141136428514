"""Predictions as CSV: a column of image names and two columns a landmark.

    image_name,x0,y0,x1,y1,…                      or HRNet's   image_name,original_0_x,original_0_y,…

Landmarks are numbered from 0 or from 1. Where an image has several faces a box says which one is meant, x_min, y_min,
x_max, y_max or HRNet's center_w, center_h, scale; or a column face_id, the face's id in this project.
"""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from stages.sources.csv_faults import encoding_fault
from stages.submissions.submission import Submission
from stages.system.errors import InputError, refuse

IMAGE = ("image_name", "image", "file_name", "imgpath", "path")
_NAMES = (re.compile(r"(?:original_|landmark_|p)?(?P<axis>[xy])_?(?P<index>\d{1,6})"),
          re.compile(r"(?:original_|landmark_|p)?_?(?P<index>\d{1,6})_(?P<axis>[xy])"))  # fmt: skip
CORNERS, SCALED = ("x_min", "y_min", "x_max", "y_max"), ("center_w", "center_h", "scale")


def read(path: Path) -> Submission:
    """Raises `InputError` naming what is wrong with the header, or the rows that hold no numbers."""
    data = path.read_bytes()
    if fault := encoding_fault(data):
        raise InputError(f"{path}: {fault}")
    try:
        names = dict.fromkeys((*IMAGE, "face_id"), str)  # 0001 is a name, not a number
        table = pd.read_csv(io.BytesIO(data), encoding="utf-8-sig", skipinitialspace=True, index_col=False, dtype=names)
    except ValueError as error:  # pandas' own among them
        raise InputError(f"{path}: it is not a CSV file ({str(error).strip()}). Was it cut off?") from None
    table.columns = [str(name).strip() for name in table.columns]
    image = next((name for name in IMAGE if name in table), None)
    columns = point_columns(list(table.columns))
    faults = [] if image else [f"column {IMAGE[0]} is missing"]
    faults += [] if columns else ["columns x0, y0, x1, y1, … (or original_0_x, original_0_y, …) are missing"]
    found = ", ".join(map(str, table.columns[:6]))
    refuse(faults, str(path), f"Its first line is the header; it begins with: {found}. Values are separated by commas.")
    names = table[image]
    blank = [f"row {i + 1}: {image} is blank" for i in np.flatnonzero(names.isna())]
    refuse(blank, str(path), "Every row names its image. Was the file cut off?")
    images = names.astype(str).tolist()
    points = _numbers(table, columns, path).reshape(len(table), len(columns) // 2, 2)
    boxes = None
    if set(CORNERS) <= set(table):
        boxes = _numbers(table, list(CORNERS), path)
    elif set(SCALED) <= set(table):
        x, y, scale = _numbers(table, list(SCALED), path).T
        boxes = np.stack([x - 100 * scale, y - 100 * scale, x + 100 * scale, y + 100 * scale], 1)
    ids = table["face_id"].astype(str).tolist() if "face_id" in table else None
    return Submission("csv", images, points, [f"row {i + 1}" for i in range(len(table))], boxes, ids)


def point_columns(header: list[str]) -> list[str]:
    """The 2K columns of the landmarks, x before y, in their order; none where one of them is missing."""
    found = {}
    for name in header:
        if match := next(filter(None, (form.fullmatch(name) for form in _NAMES)), None):
            found[int(match["index"]), match["axis"]] = name
    first = min((index for index, _ in found), default=0)
    wanted = [(index, axis) for index in range(first, first + len(found) // 2) for axis in "xy"]
    return [found[key] for key in wanted] if found and first in (0, 1) and set(wanted) == set(found) else []


def _numbers(table: pd.DataFrame, columns: list[str], path: Path) -> np.ndarray:
    """(M, columns) float64. Raises `InputError` naming what is no number; a blank is NaN."""
    faults, table = [], table.copy()
    for name in columns:
        if table[name].dtype.kind not in "iuf":
            # as text, since pandas fails on whole numbers that no float can hold
            numbers = pd.to_numeric(table[name].astype(str).where(table[name].notna()), errors="coerce")
            faults += [
                f"row {i + 1}: {name} is {table[name][i]!r}, not a number"
                for i in np.flatnonzero(numbers.isna() & table[name].notna())
            ]
            table[name] = numbers
    refuse(faults, str(path), "Write numbers with a decimal point, and commas between them.")
    return table[columns].to_numpy(np.float64)
