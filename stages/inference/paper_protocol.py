"""Landmarks by the published protocol (model/paper.py), from images; our crops are not used."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from stages.data.faces import Faces
from stages.model import augment, paper
from stages.model.predict import Progress, in_batches
from stages.system.processes import cores

MARGIN = 1.25  # the factor by which the published loader enlarges the annotation's scale


def predict_paper(
    model: nn.Module,
    read: Callable[[str], np.ndarray],
    faces: Faces,
    *,
    shrink_stretches: bool,
    batch: int,
    progress: Progress = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) float64 in image px, whole numbers, and scores (N, K) of `faces`.

    read: gives the pixels (H, W, 3) uint8 RGB of an image by its name. shrink_stretches: as of `paper.crop`.
    """
    device = next(model.parameters()).device
    scale = faces.side / 200 * MARGIN  # in the published order, so that every truncation is the published one
    model.eval()

    def cut(row: int) -> np.ndarray:
        return paper.crop(read(faces.image[row]), faces.center[row], scale[row], shrink_stretches=shrink_stretches)

    @torch.inference_mode()
    def work(part: slice) -> tuple[np.ndarray, np.ndarray]:
        crops = np.stack(list(cutters.map(cut, range(len(faces))[part])))
        pixels = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()  # channels last
        maps = model(augment.normalise(pixels))
        points, peaks = paper.decode(maps, torch.from_numpy(faces.center[part]), torch.from_numpy(scale[part]))
        return points.cpu().numpy(), peaks.double().cpu().numpy()

    with ThreadPoolExecutor(cores()) as cutters:  # decoding a JPEG and resizing release the GIL
        points, scores = zip(*in_batches(len(faces), batch, work, device, progress), strict=True)
    return np.concatenate(points), np.concatenate(scores)
