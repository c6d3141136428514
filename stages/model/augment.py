"""Geometric augmentation and sampling of the network's input from crops, a whole batch at once, on the device.

Symbols: N faces, S the crop's side in px, s the input's. A window is a similarity input px → crop px, (N, 2, 3); the
same matrices transform pixels and landmarks.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.model.device import constant

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB, as the published weights expect


def pool(images: np.ndarray, factor: int) -> np.ndarray:
    """(N, S, S, 3) uint8 → (N, S/factor, S/factor, 3): block means, in chunks that fit in memory."""
    if factor == 1:
        return images
    n, size = len(images), images.shape[1] // factor
    pooled = np.empty((n, size, size, 3), np.uint8)
    for start in range(0, n, 64):
        blocks = images[start : start + 64].reshape(-1, size, factor, size, factor, 3)
        pooled[start : start + 64] = np.rint(blocks.mean((2, 4), dtype=np.float32))
    return pooled


def pool_factor(crop_size: int, context: float, input_size: int, box: float) -> int:
    """The factor by which to downsample crops so that sampling neither aliases nor blurs: crop px per input px."""
    step = box / context * crop_size / input_size
    return max(factor for factor in range(1, max(1, round(step)) + 1) if crop_size % factor == 0)


def plain_windows(n: int, crop_size: int, context: float, input_size: int, box: float) -> Tensor:
    """(n, 2, 3) float64, not augmented: the central square of `box` face boxes in crops of `context` face boxes."""
    step = box / context * crop_size / input_size
    window = torch.zeros(n, 2, 3, dtype=torch.float64)
    window[:, 0, 0] = window[:, 1, 1] = step
    window[:, :, 2] = (crop_size - 1) / 2 - step * (input_size - 1) / 2
    return window


def draw_changes(n: int, augment, input_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random similarities (n, 2, 3) float64, input px → input px, and which faces (n,) bool are mirrored.

    Scale, rotation and flip are those of the published training. The scale is that of the box, as there: a factor
    above 1 shows more of the image.
    """
    uniform = torch.rand(n, 6, generator=generator, dtype=torch.float64)
    scale = 1 + augment.scale * (2 * uniform[:, 0] - 1)
    angle = torch.deg2rad(augment.rotation * (2 * uniform[:, 1] - 1)) * (uniform[:, 2] < augment.rotation_share)
    shift = augment.shift * (2 * uniform[:, 3:5] - 1) * input_size
    mirrored = uniform[:, 5] < augment.flip

    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    sign = torch.where(mirrored, -1.0, 1.0)  # mirror, then rotate: the input's x runs opposite to the crop's
    linear = torch.stack([torch.stack([cos * sign, -sin], 1), torch.stack([sin * sign, cos], 1)], 1)
    middle = torch.full((2,), (input_size - 1) / 2, dtype=torch.float64)
    return torch.cat([linear, (middle + shift - linear @ middle)[:, :, None]], 2), mirrored


def chain(outer: Tensor, inner: Tensor) -> Tensor:
    """The composition of two affine maps (n, 2, 3), of which `inner` is applied first."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    return torch.cat([linear, outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], 2)


def to_input(window: Tensor, landmarks: Tensor) -> Tensor:
    """Landmarks (n, K, 2) from crop px to input px, by the inverse of the window."""
    linear = torch.linalg.inv(window[:, :, :2])
    return (landmarks - window[:, None, :, 2]) @ linear.transpose(1, 2)


def from_input(window: Tensor, points: Tensor) -> Tensor:
    """Points (n, K, 2) from input px to crop px."""
    return points @ window[:, :, :2].transpose(1, 2) + window[:, None, :, 2]


def warp(crops: Tensor, window: Tensor, size: int) -> Tensor:
    """Sample crops (n, S, S, 3) uint8 through the windows: (n, 3, size, size) float32 in 0 … 255, black outside."""
    if crops.device.type != "cpu":
        return warp_by_grid(crops, window, size)
    images = np.empty((len(crops), size, size, 3), np.float32)
    for crop, to_crop, image in zip(
        crops.numpy(), window.numpy(), images, strict=True
    ):  # four times as fast as the grid
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(crop.astype(np.float32), to_crop, (size, size), dst=image, flags=flags)
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def warp_by_grid(crops: Tensor, window: Tensor, size: int) -> Tensor:
    """`warp` by one `grid_sample` for the whole batch."""
    crop_size = crops.shape[1]
    window = window.to(crops.device, non_blocking=True)
    # with align_corners=False, -1 and 1 are the outer edges of the border pixels
    axis = torch.arange(size, dtype=torch.float64, device=crops.device)
    linear, offset = window[:, :, :2] * (2 / crop_size), (2 * window[:, :, 2] + 1) / crop_size - 1
    columns = axis[None, :, None] * linear[:, None, :, 0]
    rows = axis[None, :, None] * linear[:, None, :, 1] + offset[:, None, :]
    grid = (rows[:, :, None, :] + columns[:, None, :, :]).float()
    # a channels-last view of the crops' own memory layout: no copy
    images = crops.permute(0, 3, 1, 2).float()
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def normalise(images: Tensor) -> Tensor:
    """RGB in 0 … 255, standardised by ImageNet's mean and standard deviation."""

    def channels(values: tuple[float, ...]) -> Tensor:
        # expanded to a whole image in its memory format: four times as fast as broadcasting three numbers
        column = constant(values, images.device).view(1, 3, 1, 1)
        return column.expand(1, *images.shape[1:]).contiguous(memory_format=torch.channels_last)

    return (images / 255 - channels(MEAN)) / channels(STD)
