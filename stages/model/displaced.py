"""Landmarks from boxes that are not where the annotation puts them, as those of a face detector never are.

A displacement is of the face box: `shift` in its sides, `scale` a factor of its side. The crops of preprocess are wide
enough for all of them, so no image is read again; the published protocol, which uses no crops, reads each image anew.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.data.faces import Faces
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, predict
from stages.model.predict_paper import predict_paper

SHIFTS = (-15, -10, -5, 5, 10, 15)  # percent of the box's side
SCALES = (-20, -10, 10, 20)  # percent
GOLDEN = np.pi * (3 - np.sqrt(5))  # its multiples spread evenly round the circle


def directions(n: int) -> np.ndarray:
    """(n, 2) the unit vectors along which the boxes of n faces are shifted, all directions alike often."""
    angle = GOLDEN * np.arange(n)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def moves(n: int, size: int, box: float, shift: float, scale: float) -> Tensor:
    """(n, 2, 3) float64 input px → input px: where a displaced box's input lies in that of the box as it is.

    The input is `size` px and `box` face boxes wide.
    """
    found = torch.zeros(n, 2, 3, dtype=torch.float64)
    found[:, 0, 0] = found[:, 1, 1] = scale
    found[:, :, 2] = (1 - scale) * (size - 1) / 2 + shift * size / box * torch.from_numpy(directions(n))
    return found


def boxes(faces: Faces, shift: float, scale: float) -> Faces:
    """The faces with displaced boxes."""
    center = faces.center + shift * faces.side[:, None] * directions(len(faces))
    return replace(faces, center=center, side=faces.side * scale)


def displacements(context: float = np.inf, box: float = 1.0) -> Iterator[tuple[str, float, float]]:
    """(name, shift, scale) of those whose input of `box` face boxes lies within crops of `context` face boxes."""
    every = [(f"shift_{by}", by / 100, 1.0) for by in SHIFTS] + [(f"scale_{by}", 0.0, 1 + by / 100) for by in SCALES]
    yield from (each for each in every if box * each[2] / 2 + abs(each[1]) <= context / 2)


def predict_displaced(model: HRNet, faces: Batches, **run) -> dict[str, np.ndarray]:
    """Points (N, K, 2) float64 in crop px per displacement, by name (`shift_-15`, `scale_20`); run: as of `predict`."""
    return {
        name: predict(model, faces, moves=moves(len(faces), faces.size, faces.box, shift, scale), **run)[0]
        for name, shift, scale in displacements(faces.context, faces.box)
    }


def predict_paper_displaced(model: HRNet, images: Path, faces: Faces, **run) -> dict[str, np.ndarray]:
    """Points (N, K, 2) float64 in image px per displacement, by the published protocol; run: as of `predict_paper`."""
    return {
        name: predict_paper(model, images, boxes(faces, shift, scale), **run)[0]
        for name, shift, scale in displacements()
    }
