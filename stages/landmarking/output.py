"""The table of landmarks that were found, as CSV and as JSON lines."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.system.errors import Stopped

TABLE, LINES = "landmarks.csv", "landmarks.jsonl"


@dataclass(frozen=True)
class Found:
    """A face: where it is, and its landmarks.

    image: the file's path. frame, seconds, track: of a video, else None. face: its number in the picture, from 0. box:
    (4,) x_min, y_min, x_max, y_max of the square face box. detected: the detector's score, None for a given box.
    points: (K, 2) px, the centre of the first pixel at 0. scores: (K,) the heat maps' peaks. expected: (K,) px, the
    expected errors, NaN where they are not known.
    """

    image: str
    frame: int | None
    seconds: float | None
    face: int
    track: int | None
    box: np.ndarray
    detected: float | None
    points: np.ndarray
    scores: np.ndarray
    expected: np.ndarray


class Tables:
    """Writes both files row by row under other names, and gives them theirs at the end of the block.

    landmarks: the numbers of the K landmarks in their scheme.
    """

    def __init__(self, folder: Path, landmarks: Sequence[int]):
        folder.mkdir(parents=True, exist_ok=True)
        self.files = {folder / name: folder / f".{name}.tmp" for name in (TABLE, LINES)}
        # open until the end, since a video's rows come one by one
        self.table, self.lines = [path.open("w", newline="", encoding="utf-8") for path in self.files.values()]
        self.writer = csv.writer(self.table, lineterminator="\n")
        names = [f"{name}{k}" for k in landmarks for name in ("x", "y", "confidence", "expected_error")]
        header = ("image", "frame", "seconds", "face", "track", "x_min", "y_min", "x_max", "y_max", "detector_score")
        self.writer.writerow((*header, *names))
        self.landmarks = list(landmarks)

    def add(self, found: Found) -> None:
        def number(value: float | None, places: int) -> str:
            return "" if value is None else f"{value:.{places}f}"

        values = [
            "" if np.isnan(value) else number(value, places)
            for row in np.column_stack([found.points, found.scores, found.expected])
            for value, places in zip(row, (3, 3, 4, 3), strict=True)
        ]
        self.writer.writerow((
            found.image, "" if found.frame is None else found.frame, number(found.seconds, 4), found.face,
            "" if found.track is None else found.track, *(number(edge, 2) for edge in found.box),
            number(found.detected, 4), *values,
        ))  # fmt: skip
        line = {
            "image": found.image, "frame": found.frame, "seconds": found.seconds, "face": found.face,
            "track": found.track, "box": found.box.round(2).tolist(), "detector_score": found.detected,
            "landmarks": found.points.round(3).tolist(), "confidence": found.scores.round(4).tolist(),
            "expected_error": None if np.isnan(found.expected).any() else found.expected.round(3).tolist(),
            "indices": self.landmarks,
        }  # fmt: skip
        self.lines.write(json.dumps(line) + "\n")

    def __enter__(self) -> "Tables":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        for file, (path, temporary) in zip((self.table, self.lines), self.files.items(), strict=True):
            file.close()
            finish(path, temporary, kind)


def finish(path: Path, temporary: Path, kind: type | None) -> None:
    """Give a file its name; after an error of type `kind` remove it, but after Ctrl-C keep what there is."""
    if kind is None or issubclass(kind, KeyboardInterrupt | Stopped):
        temporary.replace(path)
    else:
        temporary.unlink()
