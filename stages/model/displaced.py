"""Landmarks from boxes that are not where the annotation puts them, as those of a face detector never are.

A displacement is of the face box: `shift` in its sides, `scale` a factor of its side. The crops of preprocess are wide
enough for all of them, so no image is read again.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from stages.model.hrnet import HRNet
from stages.model.predict import Batches, predict

SHIFTS = (-15, -10, -5, 5, 10, 15)  # percent of the box's side
SCALES = (-20, -10, 10, 20)  # percent
GOLDEN = np.pi * (3 - np.sqrt(5))  # its multiples spread evenly round the circle


def moves(n: int, size: int, box: float, shift: float, scale: float) -> Tensor:
    """(n, 2, 3) float64 input px → input px: where a displaced box's input lies in that of the box as it is.

    The input is `size` px and `box` face boxes wide. Each face's box is shifted in a direction of its own, all
    directions alike often over the faces.
    """
    angle = GOLDEN * np.arange(n)
    found = torch.zeros(n, 2, 3, dtype=torch.float64)
    found[:, 0, 0] = found[:, 1, 1] = scale
    way = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], 1))
    found[:, :, 2] = (1 - scale) * (size - 1) / 2 + shift * size / box * way
    return found


def displacements(context: float, box: float) -> Iterator[tuple[str, float, float]]:
    """(name, shift, scale) of those whose input of `box` face boxes lies within crops of `context` face boxes."""
    every = [(f"shift_{by}", by / 100, 1.0) for by in SHIFTS] + [(f"scale_{by}", 0.0, 1 + by / 100) for by in SCALES]
    yield from (each for each in every if box * each[2] / 2 + abs(each[1]) <= context / 2)


def predict_displaced(model: HRNet, faces: Batches, **run) -> dict[str, np.ndarray]:
    """Points (N, K, 2) float64 in crop px per displacement, by name (`shift_-15`, `scale_20`); run: as of `predict`."""
    return {
        name: predict(model, faces, moves=moves(len(faces), faces.size, faces.box, shift, scale), **run)[0]
        for name, shift, scale in displacements(faces.context, faces.box)
    }
