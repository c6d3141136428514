"""The published HRNet protocol with its roundings (`protocol: paper`), so that a released model gets its published NME.

Used only where an experiment asks for it: nothing else in this project rounds a coordinate. The steps are those of the
published loader and decoder (Wang et al., github.com/HRNet/HRNet-Facial-Landmark-Detection).

Symbols: N faces, K landmarks. A face has a centre (x, y; image px, as annotated) and a scale (the annotation's × 1.25);
its box has the side h = 200·scale px. T(p) = (p − centre)·s/h + s/2 takes image px to an output s px wide (256: the
crop, 64: the heat map). trunc is truncation towards zero.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.model.heatmap import first_maximum

CROP, MAP = 256, 64  # px, cells


def crop(image: np.ndarray, center: np.ndarray, scale: float, *, shrink_stretches: bool) -> np.ndarray:
    """The network's input (256, 256, 3) uint8 RGB, before standardisation, from an `image` (H, W, 3) uint8 RGB.

    center: (2,) image px. shrink_stretches: whether shrinking stretches the contrast too. In the published loader it
    did for the datasets read from CSV files, whose images were floats by then, but not for COFW, whose images were
    still bytes.
    """
    center = np.asarray(center, np.float64)
    shrink = 200 * scale / CROP
    if shrink >= 2:
        height, width = (int(side // shrink) for side in image.shape[:2])
        image = _resize(_stretch(image, np.float32) if shrink_stretches else image, max(width, 1), max(height, 1))
        center, scale = center / shrink, scale / shrink
    step = 200 * scale / CROP  # T⁻¹(q) = (q − 128)·step + centre
    low, high = (np.trunc((corner - CROP / 2) * step + center).astype(int) + 1 for corner in (-1, CROP - 1))
    return _resize(_stretch(_window(image, low, high), np.float64), CROP, CROP)


def _window(image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """`image` from corner `low` to `high` (x, y; exclusive), zero outside the image."""
    size = np.array(image.shape[1::-1])
    (left, top), (right, bottom) = np.clip(low, 0, size), np.clip(high, 0, size)
    window = np.zeros((*(high - low)[::-1], 3), image.dtype)
    x, y = np.array([left, top]) - low
    window[y : y + bottom - top, x : x + right - left] = image[top:bottom, left:right]
    return window


def _stretch(image: np.ndarray, precision: type) -> np.ndarray:
    """The contrast of a uint8 image stretched linearly to 0 … 255, and rounded.

    The loader used single `precision` when shrinking and double when cropping; ties round differently.
    """
    low, high = int(image.min()), int(image.max())
    levels = (np.arange(256, dtype=precision) - low) * precision(255 / (high - low or 1))
    return np.clip(np.floor(levels + precision(0.5)), 0, 255).astype(np.uint8)[image]


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def stretch(images: Tensor) -> Tensor:
    """`images` (N, 3, H, W) with the contrast of each stretched linearly to 0 … 255; a constant image becomes 0."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    span = high - low
    return (images - low) * (255 / torch.where(span > 0, span, 1))


def targets(landmarks: Tensor, center: Tensor, scale: Tensor, sigma: float, size: int = MAP) -> Tensor:
    """The training targets (N, K, size, size) float32 of `landmarks` (N, K, 2; image px, as annotated).

    center: (N, 2) image px; scale: (N,); sigma: cells. A landmark whose y is not above 0 has an empty map.
    """
    side = 200 * scale[:, None, None]
    maps = targets_at((landmarks - center[:, None]) * size / side + size / 2, sigma, size)
    return maps * (landmarks[..., 1] > 0)[..., None, None]


def targets_at(cells: Tensor, sigma: float, size: int = MAP) -> Tensor:
    """The training targets (N, K, size, size) float32 of landmarks at `cells` = T(p) (N, K, 2), half a cell above ours.

    A target is a Gaussian patch of 2a+1 samples, a = 3·sigma, with its peak of 1 at sample ⌊(2a+1)/2⌋, placed with its
    first sample at trunc(m − a), m = trunc(T(p)), and cut before trunc(m + a + 1) and at the map's borders. For sigma
    1.5 and m from 0 to 4 this puts the peak one cell too far.
    """
    radius = 3 * sigma
    first = torch.trunc(torch.trunc(cells) - radius)[..., None]
    end = torch.trunc(torch.trunc(cells) + radius + 1)[..., None]
    grid = torch.arange(size, device=cells.device)
    peak = first + (2 * radius + 1) // 2
    profile = torch.exp(-((grid - peak) ** 2) / (2 * sigma**2)) * ((grid >= first) & (grid < end))
    across, down = profile.float().unbind(-2)
    return down[..., :, None] * across[..., None, :]


def decode(maps: Tensor, center: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Landmarks (N, K, 2) float64 in image px, integers, and scores (N, K) of heat maps (N, K, 64, 64).

    The score is the map's maximum. The position is the first maximum, shifted by a quarter of a cell towards the larger
    neighbour in x and in y unless it is at the border; (0, 0), in cells numbered from 1, where no value is above 0.
    center: (N, 2) image px; scale: (N,).
    """
    maps = maps.detach().float().contiguous()
    height, width = maps.shape[-2:]
    maximum = first_maximum(maps)
    y = maximum // width
    x = maximum - y * width
    flat = maps.flatten(2)
    scores = flat.gather(2, maximum[..., None]).squeeze(-1)

    inside = (scores > 0) & (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    neighbours = torch.tensor([-1, 1, -width, width], device=maps.device)
    index = torch.where(inside, maximum, width + 1)[..., None] + neighbours  # at a border some would not exist
    left, right, above, below = flat.gather(2, index).unbind(-1)
    shift = 0.25 * torch.stack([right - left, below - above], dim=-1).sign() * inside[..., None]

    peak = torch.where((scores > 0)[..., None], torch.stack([x, y], dim=-1) + 1, 0)  # numbered from 1, as published
    position = peak + shift.double() + 0.5
    center, scale = (torch.as_tensor(box, dtype=torch.float64, device=maps.device) for box in (center, scale))
    step = 200 * scale[:, None, None] / width
    return torch.trunc((position - 1 - width / 2) * step + center[:, None]) + 1, scores
