"""The square windows that faces are shown in: their crops, or plain ones where a dataset's images are not at hand.

Window px are crop px. A face fills less than half of its crop, so thumbnails show the window's middle.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.data.crops import read_crops, windows
from stages.data.faces import Faces
from stages.data.geometry import apply, invert
from stages.system.errors import InputError

PLAIN_SIZE, PLAIN_CONTEXT = 448, 2.0  # px, and sides of the face box


@dataclass(frozen=True)
class Windows:
    """The N test faces of a dataset, each in a square of `size` px, `context` sides of its box wide.

    to_image: (N, 2, 3) window px → image px. images: (N, S, S, 3) uint8 RGB, memory-mapped; None without images.
    """

    faces: Faces
    to_image: np.ndarray
    size: int
    context: float
    images: np.ndarray | None

    @property
    def scale(self) -> np.ndarray:
        """(N,) image px in a window px."""
        return self.to_image[:, 0, 0]

    def to_window(self, points: np.ndarray) -> np.ndarray:
        """(N, K, 2) window px of image px."""
        return apply(invert(self.to_image), points)


def read_windows(folder: Path) -> Windows:
    """The test faces of data/crops/<dataset>. Raises `InputError` where they are not at hand, or there are none."""
    crops = read_crops(folder, "test")
    if not len(crops):
        raise InputError(f"{folder} has no test faces: give the dataset a test split in params/datasets.")
    if not crops.size:  # its annotation alone is at hand
        to_image = windows(crops.faces, PLAIN_SIZE, PLAIN_CONTEXT)
        return Windows(crops.faces, to_image, PLAIN_SIZE, PLAIN_CONTEXT, None)
    return Windows(crops.faces, crops.to_image, crops.size, crops.context, crops.images)
