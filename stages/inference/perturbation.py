"""Landmarks from perturbed face boxes, since a face detector's boxes differ from the annotation's.

A perturbation shifts the face box by a fraction of its side (`shift`) or scales it (`scale`). The crops of preprocess
are wide enough for all of them, so no image is read again; the published protocol reads each image anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stages.data.faces import Faces
from stages.inference.paper_protocol import predict_paper
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, FusedNetwork, predict

SHIFTS = (-15, -10, -5, 5, 10, 15)  # percent of the box's side
SCALES = (-20, -10, 10, 20)  # percent
GOLDEN = np.pi * (3 - np.sqrt(5))  # the golden angle, whose multiples spread evenly round the circle


def directions(n: int) -> np.ndarray:
    """(n, 2) the unit vectors along which the boxes of n faces are shifted, spread evenly round the circle."""
    angle = GOLDEN * np.arange(n)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def moves(n: int, size: int, box: float, shift: float, scale: float) -> Tensor:
    """(n, 2, 3) float64 input px → input px: where the input of a perturbed box is in that of the annotated box.

    The input is `size` px and `box` face boxes wide.
    """
    matrix = torch.zeros(n, 2, 3, dtype=torch.float64)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = (1 - scale) * (size - 1) / 2 + shift * size / box * torch.from_numpy(directions(n))
    return matrix


def perturbed_boxes(faces: Faces, shift: float, scale: float) -> Faces:
    """The faces with perturbed boxes."""
    center = faces.center + shift * faces.side[:, None] * directions(len(faces))
    return replace(faces, center=center, side=faces.side * scale)


def perturbations(context: float = np.inf, box: float = 1.0) -> Iterator[tuple[str, float, float]]:
    """(name, shift, scale) of those whose input of `box` face boxes is inside crops of `context` face boxes."""
    every = [(f"shift_{by}", by / 100, 1.0) for by in SHIFTS] + [(f"scale_{by}", 0.0, 1 + by / 100) for by in SCALES]
    for name, shift, scale in every:
        if box * scale / 2 + abs(shift) <= context / 2:
            yield name, shift, scale


def predict_perturbed(model: HRNet | FusedNetwork, faces: Batches, **run) -> dict[str, np.ndarray]:
    """Points (N, K, 2) float64 in crop px per perturbation, by name (`shift_-15`, `scale_20`); run: as of `predict`."""
    return {
        name: predict(model, faces, moves=moves(len(faces), faces.size, faces.box, shift, scale), **run)[0]
        for name, shift, scale in perturbations(faces.context, faces.box)
    }


def predict_paper_perturbed(
    model: HRNet, read: Callable[[str], np.ndarray], faces: Faces, **run
) -> dict[str, np.ndarray]:
    """Points (N, K, 2) float64 in image px per perturbation, by the published protocol; run: as of `predict_paper`."""
    return {
        name: predict_paper(model, read, perturbed_boxes(faces, shift, scale), **run)[0]
        for name, shift, scale in perturbations()
    }
