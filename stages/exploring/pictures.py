"""Pictures of faces as JPEG: a large one of each, and thumbnails in sheets, since thousands of files load slowly."""

from pathlib import Path

import cv2
import numpy as np

THUMB = 128  # px
COLUMNS = 16  # a sheet has as many rows; 2048 px square is what any browser decodes at once
THUMB_CONTEXT = 1.5  # face boxes
LARGE_QUALITY, SHEET_QUALITY = 82, 80


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    """The same bytes whenever it is encoded by the same library."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def thumb_window(size: int, context: float) -> tuple[int, int]:
    """(first px, side in px) of the middle of a crop of `size` px and `context` face boxes that a thumbnail shows."""
    side = min(size, round(size * THUMB_CONTEXT / context))
    return (size - side) // 2, side


def write_pictures(images: np.ndarray, context: float, folder: Path) -> int:
    """Write faces/<row>.jpg and sheets/<number>.jpg of the crops (N, S, S, 3) uint8 RGB; returns the number of sheets.

    Each crop is read once, as it is memory-mapped.
    """
    for name in ("faces", "sheets"):
        (folder / name).mkdir()
    first, side = thumb_window(images.shape[1], context)
    middle, per_sheet = slice(first, first + side), COLUMNS**2
    for sheet, start in enumerate(range(0, len(images), per_sheet)):
        part = images[start : start + per_sheet]
        rows = -(-len(part) // COLUMNS)
        thumbs = np.zeros((rows * THUMB, COLUMNS * THUMB, 3), np.uint8)
        for i, crop in enumerate(part):
            (folder / "faces" / f"{start + i:05d}.jpg").write_bytes(_jpeg(crop, LARGE_QUALITY))
            y, x = THUMB * (i // COLUMNS), THUMB * (i % COLUMNS)
            small = cv2.resize(crop[middle, middle], (THUMB, THUMB), interpolation=cv2.INTER_AREA)
            thumbs[y : y + THUMB, x : x + THUMB] = small
        (folder / "sheets" / f"{sheet:03d}.jpg").write_bytes(_jpeg(thumbs, SHEET_QUALITY))
    return -(-len(images) // per_sheet)
