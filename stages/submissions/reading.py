"""Read a file of predictions in any of its forms; the form is recognised from the content.

`csv`, `json` (SPIGA's), `coco` (key-point results), `pts` (a folder with a .pts file per image, named as the image) and
`parquet` (this project's own).
"""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.predictions.table import read_made
from stages.sources.pts import read_pts
from stages.submissions import csv_form, json_forms
from stages.submissions.submission import Submission, require_whole, stack
from stages.system.errors import InputError, refuse

FORMS = ("csv", "json", "coco", "pts", "parquet", "spiga")
# What each form calls the centre of the first pixel, unless the user says; None: as the dataset's annotation does
NUMBERED_FROM = {"csv": 0, "json": 0, "coco": 0, "pts": 1, "parquet": None}


def read(path: Path, form: str | None = None, coco_images: Path | None = None) -> Submission:
    """Raises `InputError` where the file is missing, damaged, or not of the form; and as `require_whole`."""
    if not path.exists():
        raise InputError(f"there is no {path}.")
    if path.is_dir() != (form == "pts" if form else path.is_dir()):
        raise InputError(f"{path}: form pts is a folder of .pts files, and every other form is a file.")
    form = "json" if form == "spiga" else form or _recognise(path)
    if form == "parquet":
        submission = _from_parquet(path)
    elif form == "csv":
        submission = csv_form.read(path)
    elif form == "pts":
        submission = _from_pts(path)
    else:
        content = json_forms.read_json(path)
        if form == "coco" or (form == "json?" and json_forms.is_coco(content)):
            submission = json_forms.from_coco(content, coco_images, path)
        else:
            submission = json_forms.from_faces(content, path)
    if not len(submission):
        raise InputError(f"{path} holds no face.")
    require_whole(submission, str(path))
    return submission


def _recognise(path: Path) -> str:
    """The form by the first bytes; "json?" is either of the two in JSON."""
    if path.is_dir():
        return "pts"
    with open(path, "rb") as file:
        start = file.read(4096)
    if not start.strip():
        raise InputError(f"{path} is empty.")
    if start.startswith(b"PAR1"):
        return "parquet"
    return "json?" if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{") else "csv"


def _from_pts(folder: Path) -> Submission:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".pts" and file.name[0] != ".")
    if not files:
        raise InputError(f"{folder} holds no .pts file.")
    regular = [file for file in files if file.is_file()]  # `read_pts` names the others
    stated = regular and re.search(rb"n_points:\s*(\d{1,6})", regular[0].read_bytes())
    points = [read_pts(file, int(stated[1]) if stated else 0) for file in files]
    refuse(
        [fault for fault in points if isinstance(fault, str)], str(folder), "Correct these files, or write them again."
    )
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    return Submission("pts", names, np.array(points), [file.relative_to(folder).as_posix() for file in files])


def _from_parquet(path: Path) -> Submission:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is no readable parquet file ({error}). Was it cut off?") from None
    missing = [name for name in ("face_id", "landmarks") if name not in table.column_names]
    refuse([f"column {name} is missing" for name in missing], str(path), "The columns are face_id, image, landmarks.")
    ids = [str(face) for face in table["face_id"].to_pylist()]
    try:
        rows = [np.array(row, np.float64).reshape(-1, 2) for row in table["landmarks"].to_pylist()]
    except (ValueError, TypeError):
        raise InputError(f"{path}: landmarks is not a list x0, y0, x1, … in every row.") from None
    images = table["image"].to_pylist() if "image" in table.column_names else ids
    try:
        made = read_made(path)
    except InputError:  # written by somebody else
        made = None
    return Submission(
        "parquet", images, stack(rows, ids, str(path)), ids, face_ids=ids,
        landmarks=made and made.landmarks, dataset=made and made.dataset,
    )  # fmt: skip
