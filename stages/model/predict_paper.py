"""Landmarks by the published protocol (paper.py): images in, points in image px out; no crop of ours is used."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.data.faces import Faces
from stages.data.images import read_image
from stages.model import augment, paper
from stages.model.predict import Progress, in_batches

MARGIN = 1.25  # what the published loader multiplies the annotation's scale by


def predict_paper(
    model: nn.Module, images: Path, faces: Faces, *, shrink_stretches: bool, batch: int, progress: Progress = iter
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) float64 in image px, whole numbers, and scores (N, K) of `faces`, whose images lie in `images`.

    shrink_stretches: as of `paper.crop`. Raises `InputError` naming an image that cannot be read.
    """
    device = next(model.parameters()).device
    scale = faces.side / 200 * MARGIN  # in the published order, so that no truncation falls on another side
    model.eval()

    def cut(row: int) -> np.ndarray:
        image = read_image(images / faces.image[row])
        return paper.crop(image, faces.center[row], scale[row], shrink_stretches=shrink_stretches)

    @torch.inference_mode()
    def work(part: slice) -> tuple[np.ndarray, np.ndarray]:
        crops = np.stack(list(cutters.map(cut, range(len(faces))[part])))
        pixels = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()  # channels last, as the network likes
        maps = model(augment.normalise(pixels))
        points, peaks = paper.decode(maps, torch.from_numpy(faces.center[part]), torch.from_numpy(scale[part]))
        return points.cpu().numpy(), peaks.double().cpu().numpy()

    with ThreadPoolExecutor(os.cpu_count()) as cutters:  # decoding a JPEG and resizing hold no lock of Python's
        points, scores = zip(*in_batches(len(faces), batch, work, device, progress), strict=True)
    return np.concatenate(points), np.concatenate(scores)
