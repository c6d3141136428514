"""Landmarks drawn over a picture, as images and as a video."""

from pathlib import Path

import cv2
import numpy as np

from stages.landmarking.output import finish
from stages.system.errors import InputError
from stages.system.files import atomic

POINT, BOX, EDGE = (255, 0, 160), (255, 220, 0), (0, 0, 0)  # RGB: neither is a colour of skin or lips
SHIFT = 4  # bits of a pixel's fraction that OpenCV draws with


def draw(image: np.ndarray, boxes: np.ndarray, points: np.ndarray, labels: list[str]) -> np.ndarray:
    """A copy of an image (H, W, 3) with boxes (n, 4), landmarks (n, K, 2) and a label by each box."""
    canvas = image.copy()
    one = 1 << SHIFT
    for box, face, label in zip(boxes, points, labels, strict=True):
        side = float((box[2:] - box[:2]).max())
        width, radius = max(1, round(side / 150)), max(0.7, side / 110)
        corners = [tuple(int(round(value)) for value in corner) for corner in (box[:2], box[2:])]
        cv2.rectangle(canvas, *corners, BOX, width, cv2.LINE_AA)
        for point in face:
            centre = tuple(int(round(value * one)) for value in point)
            cv2.circle(canvas, centre, int((radius + 0.8) * one), EDGE, -1, cv2.LINE_AA, SHIFT)
            cv2.circle(canvas, centre, int(radius * one), POINT, -1, cv2.LINE_AA, SHIFT)
        if label:
            place = corners[0][0], max(corners[0][1] - 4 * width, 12)
            cv2.putText(canvas, label, place, cv2.FONT_HERSHEY_SIMPLEX, max(0.4, side / 350), BOX, width, cv2.LINE_AA)
    return canvas


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) RGB in the form of the path's ending."""
    written, data = cv2.imencode(path.suffix, np.ascontiguousarray(image[..., ::-1]))
    if not written:
        raise InputError(f"{path}: it cannot be written in that form.")
    with atomic(path) as temporary:
        temporary.write_bytes(data.tobytes())


class VideoFile:
    """An MP4 file of frames of one size, under its name only at the end of the block."""

    def __init__(self, path: Path, rate: float):
        self.path, self.rate, self.writer = path, rate, None
        self.temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")

    def add(self, image: np.ndarray) -> None:
        if self.writer is None:
            size = image.shape[1], image.shape[0]
            self.writer = cv2.VideoWriter(str(self.temporary), cv2.VideoWriter_fourcc(*"mp4v"), self.rate, size)
            if not self.writer.isOpened():
                raise InputError(f"{self.path}: no video can be written here.")
        self.writer.write(np.ascontiguousarray(image[..., ::-1]))

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.writer is not None:
            self.writer.release()
            finish(self.path, self.temporary, kind)
