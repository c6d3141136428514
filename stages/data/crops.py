"""Square crops round every face, as one memory-mapped array a split, with the table that says what they show.

`<split>.npy` holds (N, S, S, 3) uint8 RGB; `<split>.parquet` beside it the N rows of the face table, in the same order,
with each face's similarity crop px → image px (column `to_image`, six numbers), in the annotations' own numbering of
pixels (`source.origin`).
"""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from stages.data.faces import Faces, from_table, list_column, read_table, to_table
from stages.data.geometry import apply, invert, window_to_image
from stages.system.errors import InputError
from stages.system.files import atomic

IMAGE_HASH = "image_sha256"  # a column of the table
FAR = 10  # a crop that many times as wide as its image, or a landmark that far away, is wrong
MIN_SIDE = 3  # px; a smaller box holds no face


def cut(image: np.ndarray, to_image: np.ndarray, size: int) -> np.ndarray:
    """The `size`² window of an image (H, W, 3) under the scaling `to_image` (2, 3); black outside the image.

    Where the window is reduced, whole blocks of pixels are averaged first, to avoid aliasing.
    """
    step = to_image[0, 0]
    reduce = max(1, round(step))
    if reduce > 1:
        # Only what the window needs, on a grid of whole blocks; a block's mean is at its centre.
        height, width = image.shape[:2]
        low = np.floor(to_image[:, 2] - step).astype(int)
        high = np.ceil(to_image[:, 2] + step * size).astype(int) + 1
        blocks = -(-(high - low) // reduce)
        x0, y0 = low
        x1, y1 = low + blocks * reduce
        window = image[max(y0, 0) : max(min(y1, height), 0), max(x0, 0) : max(min(x1, width), 0)]
        border = [max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)]
        if window.size == 0:
            return np.zeros((size, size, 3), np.uint8)
        if any(border):
            window = cv2.copyMakeBorder(window, *[int(b) for b in border], cv2.BORDER_CONSTANT)
        image = cv2.resize(window, (int(blocks[0]), int(blocks[1])), interpolation=cv2.INTER_AREA)
        shift = (to_image[:, 2] - low - (reduce - 1) / 2) / reduce
        to_image = np.column_stack([to_image[:, :2] / reduce, shift])
    return cv2.warpAffine(image, to_image, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


@dataclass
class Crops:
    """A split: images (N, S, S, 3) uint8 RGB, memory-mapped; their faces; crop px → image px (N, 2, 3)."""

    images: np.ndarray
    faces: Faces
    to_image: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """The crop's side in px."""
        return self.images.shape[1]

    @property
    def context(self) -> float:
        """The crop's side in sides of the face box."""
        return float(self.to_image[0, 0, 0] * self.size / self.faces.side[0])

    def where(self, rows: np.ndarray) -> "Crops":
        """The faces of an array of indices, copied into memory."""
        return Crops(self.images[rows], self.faces.where(rows), self.to_image[rows])

    def landmarks(self) -> np.ndarray:
        """(N, K, 2) float64, crop px."""
        return apply(invert(self.to_image), self.faces.landmarks)


def windows(faces: Faces, size: int, context: float) -> np.ndarray:
    """(N, 2, 3) crop px → image px for crops of `context` face boxes."""
    return window_to_image(faces.center, faces.side * context, size)


def in_pixels(to_image: np.ndarray, origin: float) -> np.ndarray:
    """Crop px → image px, as `cut` needs it, from crop px → annotations' px, where the first pixel is at `origin`."""
    shifted = to_image.copy()
    shifted[..., 2] -= origin
    return shifted


def window_fault(
    to_image: np.ndarray, landmarks: np.ndarray, size: int, context: float, shape: tuple[int, int]
) -> str | None:
    """Why a crop under `to_image` (2, 3) of `size` px and `context` face boxes cannot show its face, or None.

    Only what cannot be right: faces at the border, partly outside, and boxes that miss some landmarks are real.
    to_image and landmarks (K, 2), NaN where not annotated, in px of the image (height, width) numbered from 0.
    """
    height, width = shape
    span, image = to_image[0, 0] * size, f"image of {width}×{height} px"
    side, center = span / context, to_image[:, 2] + to_image[0, 0] * (size - 1) / 2
    if not side >= MIN_SIDE:
        return f"its box is {side:.3g} px wide, too small for a face: its scale is wrong"
    if span > FAR * max(height, width):
        return f"its crop would be {span:.5g} px wide in an {image}: its scale is wrong"
    if (center + side / 2 < 0).any() or (center - side / 2 > [width - 1, height - 1]).any():
        return f"its box is outside its {image} (centre {center.round(1)}, side {side:.1f})"
    annotated = np.flatnonzero(np.isfinite(landmarks).all(1))
    away = np.abs(landmarks[annotated] - np.array([width, height]) / 2).max(1) > FAR * max(height, width)
    if away.any():
        k = annotated[away][0]
        return f"its landmark {k} is at ({landmarks[k, 0]:.4g}, {landmarks[k, 1]:.4g}), far outside its {image}"
    if (np.abs(landmarks[annotated] - center).max(1) > span / 2).all():
        return f"none of its landmarks is in its crop (centre {center.round(1)}, {span:.1f} px wide)"
    return None


def reserve(path: Path, n: int, size: int) -> None:
    """Make the array of n crops with its space on the disk taken, so that writing into the map cannot fail later."""
    np.lib.format.open_memmap(path, "w+", np.uint8, (n, size, size, 3)).flush()
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def write_index(path: Path, faces: Faces, to_image: np.ndarray) -> None:
    """Write `<split>.parquet`; whole or not at all."""
    table = to_table(faces).append_column("to_image", list_column(to_image.reshape(-1, 6)))
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def read_index(folder: Path, split: str) -> tuple[Faces, np.ndarray]:
    """The faces of a split and their crop px → image px, without the images. Raises `InputError` as `read_crops`."""
    table = read_table(folder / f"{split}.parquet")
    to_image = table["to_image"].combine_chunks().flatten().to_numpy().reshape(-1, 2, 3)
    return from_table(table.drop_columns(["to_image"]), str(folder / f"{split}.parquet")), to_image


def read_crops(folder: Path, split: str) -> Crops:
    """Open a split. Raises `InputError` where a file is absent, damaged, or does not fit the other."""
    faces, to_image = read_index(folder, split)
    images = _open(folder / f"{split}.npy")
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(faces):
        raise InputError(
            f"{folder / split}.npy holds {images.dtype} {images.shape}, and its table {len(faces)} faces: "
            "they are not of one run. Run dvc repro --force on the preprocess stage."
        )
    return Crops(images, faces, to_image)


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run dvc repro (or dvc checkout, where it was made before).") from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is no readable array ({error}): delete it and run dvc repro.") from None
