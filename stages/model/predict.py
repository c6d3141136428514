"""Landmarks from a model: crops in, points in crop px and scores out. The batch is fixed, so that results are too."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from stages.model import augment, heatmap, paper

Progress = Callable[[range], object]


class Batches:
    """Faces as the network reads them: crops reduced once to about the input's scale, and their plain windows."""

    def __init__(self, images: np.ndarray, context: float, of):
        """`of` is a recipe's section `input`: size in px, box in face boxes, stretch."""
        self.times = augment.pool_times(images.shape[1], context, of.size, of.box)
        self.images = augment.pool(images, self.times)
        self.context, self.size, self.box, self.stretch = context, of.size, of.box, of.stretch

    def __len__(self) -> int:
        return len(self.images)

    def windows(self, n: int) -> Tensor:
        """(n, 2, 3) float64 input px → px of `images`, not augmented."""
        return augment.plain_windows(n, self.images.shape[1], self.context, self.size, self.box)

    def sample(self, pixels: Tensor, windows: Tensor) -> Tensor:
        """(n, 3, size, size) float32 as the network reads it: `pixels` (n, S, S, 3) uint8 seen through `windows`."""
        images = augment.warp(pixels, windows, self.size)
        images = augment.normalise(paper.stretch(images) if self.stretch else images)
        return images.contiguous(memory_format=torch.channels_last)

    def to_pooled(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks from crop px to px of `images`."""
        return (landmarks - (self.times - 1) / 2) / self.times

    def from_pooled(self, points: np.ndarray) -> np.ndarray:
        """Points from px of `images` to crop px."""
        return points * self.times + (self.times - 1) / 2


@torch.inference_mode()
def predict(
    model: nn.Module,
    faces: Batches,
    *,
    batch: int,
    flip_order: np.ndarray | None = None,
    progress: Progress = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) float64 in crop px and scores (N, K), the heat maps' peaks.

    flip_order: (K,) also asks the model about the mirrored face and averages the heat maps.
    """
    device = next(model.parameters()).device
    model.eval()
    points, scores = [], []
    for start in progress(range(0, len(faces), batch)):
        pixels = torch.from_numpy(np.array(faces.images[start : start + batch])).to(device)
        windows = faces.windows(len(pixels))
        images = faces.sample(pixels, windows)
        maps = model(images).float()
        if flip_order is not None:
            mirrored = model(images.flip(-1)).float()
            maps = (maps + heatmap.flip_maps(mirrored, torch.as_tensor(flip_order, device=device))) / 2
        cells, peaks = heatmap.decode(maps)
        found = augment.from_input(windows, heatmap.to_input(cells.double().cpu()))
        points.append(faces.from_pooled(found.numpy()))
        scores.append(peaks.double().cpu().numpy())
    return np.concatenate(points), np.concatenate(scores)
