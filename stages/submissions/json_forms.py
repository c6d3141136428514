"""Predictions as JSON: a list of faces as SPIGA writes it, or COCO's key-point results.

    [{"imgpath": "images/0001.jpg", "landmarks": [[x0, y0], …], "bbox": [x, y, width, height]}, …]
    [{"image_id": 17, "keypoints": [x0, y0, score, …], "score": 0.9}, …]

`imgpath` may also be called image, image_name or file_name; bbox is optional. COCO's ids are those of the `images` of
an annotation file.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.submissions.csv_form import IMAGE
from stages.submissions.submission import Submission, stack
from stages.system.errors import InputError, refuse


def read_json(path: Path) -> Any:
    """Raises `InputError` where it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        cut_off = " It is cut off: copy or write it again." if error.pos >= len(error.doc.rstrip()) - 1 else ""
        raise InputError(
            f"{path} is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno}).{cut_off}"
            f"{'' if cut_off else ' If it was copied or is still being written, it may be cut off.'}"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not JSON in UTF-8 ({error}).") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{path} is not valid JSON: {str(error)[:100]}.") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply to be a file of predictions.") from None


def is_coco(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "keypoints" in content[0]


def from_faces(content: Any, path: Path) -> Submission:
    """SPIGA's form."""
    entries = _entries(content, path, "landmarks", IMAGE)
    images = [str(next(entry[name] for name in IMAGE if name in entry)) for entry in entries]
    points = _points([entry["landmarks"] for entry in entries], path, 2)
    return _submission("json", entries, images, points, path)


def from_coco(content: Any, images: Path | None, path: Path) -> Submission:
    """COCO's key-point results; `images` is the annotation file that has the names of the images."""
    entries = _entries(content, path, "keypoints", ("image_id",))
    if images is None:
        raise InputError(
            f"{path} names its images by COCO ids: give the annotation file that has their names as --coco-images FILE."
        )
    known = read_json(images)
    listed = known.get("images") if isinstance(known, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(e, dict) and "file_name" in e and isinstance(e.get("id"), int | str) for e in listed
    ):
        raise InputError(f"{images} is not a COCO annotation file: it needs images: [{{id, file_name}}, …].")
    names = {entry["id"]: str(entry["file_name"]) for entry in listed}
    unknown = [
        f"entry {i}: image_id {entry['image_id']!r}"
        for i, entry in enumerate(entries)
        if not isinstance(entry["image_id"], int | str) or entry["image_id"] not in names
    ]
    refuse(unknown, f"{path}: ids that {images} does not have", "Give the annotation file of the images predicted on.")
    points = _points([entry["keypoints"] for entry in entries], path, 3)
    return _submission("coco", entries, [names[entry["image_id"]] for entry in entries], points, path)


def _entries(content: Any, path: Path, points: str, image: Sequence[str]) -> list[dict]:
    example = f'[{{"{image[0]}": …, "{points}": […]}}, …]'
    if not isinstance(content, list) or not content:
        raise InputError(f"{path}: a list of faces is expected, {example}.")
    faults = []
    for i, entry in enumerate(content):
        if not isinstance(entry, dict):
            faults.append(f"entry {i}: {type(entry).__name__}, not a face")
        elif points not in entry:
            faults.append(f"entry {i}: {points} is missing")
        elif not any(name in entry for name in image):
            faults.append(f"entry {i}: {image[0]} is missing")
    refuse(faults, str(path), f"A face is {example[1:-4]}.")
    return content


def _points(rows: Sequence[Any], path: Path, values: int) -> np.ndarray:
    """(M, K, 2) of lists of K points, or of flat lists of `values` numbers a landmark."""
    points, faults, places = [], [], [f"entry {i}" for i in range(len(rows))]
    for place, row in zip(places, rows, strict=True):
        try:
            array = np.array(row, np.float64)  # null is NaN
            if array.ndim != 2:
                array = array.reshape(-1, values)
            if array.shape[1] not in (2, 3):
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            faults.append(f"{place}: its landmarks are not a list of points")
            continue
        points.append(array[:, :2])
    refuse(faults, str(path), f"K points [x, y], or {values} numbers a landmark in one list.")
    return stack(points, places, str(path))


def _submission(
    form: str, entries: Sequence[dict], images: Sequence[str], points: np.ndarray, path: Path
) -> Submission:
    boxes, faults = np.full((len(entries), 4), np.nan), []
    for i, entry in enumerate(entries):
        if entry.get("bbox") is not None:
            try:
                x, y, width, height = map(float, entry["bbox"])
                boxes[i] = x, y, x + width, y + height
            except (ValueError, TypeError, OverflowError):
                faults.append(f"entry {i}: bbox is not x, y, width, height")
    refuse(faults, str(path), "Correct these boxes, or leave bbox out where an image has one face.")
    ids = [str(entry["face_id"]) for entry in entries] if all("face_id" in entry for entry in entries) else None
    return Submission(form, images, points, [f"entry {i}" for i in range(len(entries))], boxes, ids)
