"""What annotation tools write, in one form: the faces of files as they name and number them, before any check of them.

Symbols: N faces, K landmarks. v is COCO's (sources.visibility): 2 visible, 1 hidden, 0 not annotated.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.sources.visibility import HIDDEN, NOT_ANNOTATED, VISIBLE

NO_BOX = (np.nan, np.nan, np.nan)


@dataclass
class Annotations:
    """The N faces of one or more files, and what was left out of them."""

    images: list[str]  # as the files name them
    places: list[str]  # of each face: file and annotation, for messages
    points: np.ndarray  # (N, K, 2)
    v: np.ndarray  # (N, K)
    boxes: np.ndarray  # (N, 3) centre x, y and side of a square; NaN where the file gives none
    names: list[str] = field(default_factory=list)  # of the K landmarks; empty where the files name none
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # image: width and height, where stated
    left_out: Counter = field(default_factory=Counter)  # what kind of thing: how many
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def where(self, rows: Sequence[int]) -> "Annotations":
        """The faces of these rows."""
        return Annotations(
            [self.images[i] for i in rows], [self.places[i] for i in rows], self.points[rows], self.v[rows],
            self.boxes[rows], self.names, self.sizes, self.left_out, self.remarks, self.faults,
        )  # fmt: skip


def nothing(fault: str) -> Annotations:
    """The result for a file that cannot be read at all."""
    return Annotations([], [], np.empty((0, 0, 2)), np.empty((0, 0), int), np.empty((0, 3)), faults=[fault])


def tidy(part: Annotations) -> Annotations:
    """Without faces that have no landmark or are there twice; the landmarks of a file that knows no v = 2 visible."""
    kept, seen = [], set()
    for i, image in enumerate(part.images):
        key = image, part.points[i].tobytes(), part.v[i].tobytes()
        if not (part.v[i] != NOT_ANNOTATED).any():
            part.left_out["faces without an annotated landmark"] += 1
        elif key in seen:
            part.left_out["faces that repeat another one (same image and landmarks)"] += 1
        else:
            seen.add(key)
            kept.append(i)
    given = part.points.any(-1) & (part.v == NOT_ANNOTATED)
    if given.any():
        part.remarks.append(f"coordinates of landmarks with v = 0 (not annotated), not used: {given.sum()}")
    part = part.where(kept)
    if len(part) and (part.v == HIDDEN).any() and not (part.v == VISIBLE).any():
        part.v = np.where(part.v == HIDDEN, VISIBLE, part.v)
        part.remarks.append("no landmark has v = 2 and the annotated ones have v = 1: all are taken as visible")
    return part


def joined(parts: Sequence[Annotations]) -> Annotations:
    """The faces of several files in their order. Those whose landmarks are others are a fault."""
    sound = [part for part in parts if len(part)]
    faults, remarks = [fault for part in parts for fault in part.faults], [r for part in parts for r in part.remarks]
    left_out = sum((part.left_out for part in parts), Counter())
    if not sound:
        empty = nothing("")
        empty.faults, empty.left_out, empty.remarks = faults, left_out, remarks
        return empty
    first = sound[0]
    for part in sound[1:]:
        if part.v.shape[1] != first.v.shape[1]:
            faults.append(
                f"{part.places[0]}: {part.v.shape[1]} landmarks, and {first.places[0]} has {first.v.shape[1]}. "
                "Import files of one scheme"
            )
        elif part.names and first.names and part.names != first.names:
            k = next(k for k, names in enumerate(zip(part.names, first.names, strict=True)) if len(set(names)) > 1)
            faults.append(
                f"{part.places[0]}: landmark {k} is named {part.names[k]!r}, and in {first.places[0]} "
                f"{first.names[k]!r}. Import files of one scheme"
            )
    same = [part for part in sound if part.v.shape[1] == first.v.shape[1]]
    return Annotations(
        [image for part in same for image in part.images],
        [place for part in same for place in part.places],
        np.concatenate([part.points for part in same]),
        np.concatenate([part.v for part in same]),
        np.concatenate([part.boxes for part in same]),
        next((part.names for part in same if part.names), []),
        {image: size for part in same for image, size in part.sizes.items()},
        left_out, remarks, faults,
    )  # fmt: skip


def read_json(path: Path) -> object:
    """The content of a JSON file. Raises `ValueError` saying what is wrong with it and what to do."""
    if not path.is_file():
        raise ValueError("it is a folder; name the file in it" if path.is_dir() else "there is no such file")
    data = path.read_bytes()
    start = data[:200].lstrip(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"image_name,"):
        raise ValueError("it is a CSV file of HRNet's form, which needs no import: see README, Your own faces")
    if not start.startswith((b"{", b"[", b"\xff\xfe", b"\xfe\xff")):
        what = "a CSV file" if b"," in start.partition(b"\n")[0] and path.suffix == ".csv" else "no JSON"
        begins = f" (it begins with {start[:20].decode(errors='replace')!r})" if start else " (it is empty)"
        raise ValueError(f"it is {what}{begins}. Export the annotations as JSON")
    try:
        return json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except json.JSONDecodeError as error:
        if not error.doc[error.pos :].strip() or "Unterminated" in error.msg:
            raise ValueError(f"it ends too early (line {error.lineno}): get or export the file again") from None
        raise ValueError(f"it is not valid JSON ({error}). Export the file again") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON ({str(error)[:100]}). Export the file again") from None


def is_number(value: object) -> bool:
    """A finite number that is not a bool."""
    return type(value) in (int, float) and abs(value) < 1e300
