"""Photometric augmentation: grey, light, blur, noise, occlusion, of images (n, 3, s, s) float32 in 0 … 255.

Which faces an augmentation changes is drawn on the CPU, so that no step waits for the GPU; it computes only those.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.model.device import constant

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
GAMMA, GAIN, CONTRAST = 0.5, 0.35, 0.35  # exponents of e^U(-GAMMA, GAMMA); factors of U(1 - x, 1 + x)
BLUR = 0.02  # the largest standard deviation of the blur, in sides of the image
NOISE = 20.0  # the largest standard deviation of the noise, in grey levels
PATCH = (0.15, 0.45)  # range of an occluding patch's sides, in sides of the image
ROUGH = 60.0  # the standard deviation of a patch of noise, in grey levels


def draw(n: int, random: torch.Generator) -> Tensor:
    """(n, 20) from U(0, 1): the random numbers for n faces, except for the noise's pixels."""
    return torch.rand(n, 20, generator=random)


def choose(drawn: Tensor, augment) -> list[tuple[Tensor, Tensor]]:
    """Of each augmentation in turn, the faces (m,) that get it, by its share in a recipe's section `augment`, and their
    amounts (m, 15). drawn: (n, 20), from `draw`."""
    shares = (augment.grey, augment.light, augment.blur, augment.noise, augment.occlusion)
    faces = [torch.nonzero(drawn[:, column] < share).flatten() for column, share in enumerate(shares)]
    return [(rows, drawn[rows, len(shares) :]) for rows in faces]


def apply(images: Tensor, chosen: list[tuple[Tensor, Tensor]], seed: int) -> Tensor:
    """The images, augmented in place; they stay in 0 … 255.

    chosen: from `choose`, on the images' device. seed: of the noise, which is generated there.
    """
    noise = torch.Generator(images.device).manual_seed(seed)
    for step, (rows, amount) in zip((_grey, _light, _blur, _noise, _occlusion), chosen, strict=True):
        if len(rows):
            images.index_copy_(0, rows, step(images[rows], amount, noise))
    return images


def _grey(images: Tensor, amount: Tensor, noise: torch.Generator) -> Tensor:
    weights = constant(LUMA, images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def _light(images: Tensor, amount: Tensor, noise: torch.Generator) -> Tensor:
    spread = 2 * amount[:, :3, None, None, None] - 1  # (n, 3, 1, 1, 1)
    gamma, gain, contrast = (spread[:, i] for i in range(3))
    lit = (images / 255).pow(torch.exp(GAMMA * gamma)) * (255 * (1 + GAIN * gain))
    mean = lit.mean((1, 2, 3), keepdim=True)
    return ((lit - mean) * (1 + CONTRAST * contrast) + mean).clamp(0, 255)


def _blur(images: Tensor, amount: Tensor, noise: torch.Generator) -> Tensor:
    n, channels, size, _ = images.shape
    reach = max(1, round(2 * BLUR * size))
    sigma = (0.1 + 0.9 * amount[:, 3:4]) * BLUR * size
    axis = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-((axis / sigma) ** 2) / 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (3n, 2 reach + 1)
    flat = images.reshape(1, n * channels, size, size)
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "replicate"), kernel[:, None, None, :], groups=n * channels)
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), "replicate"), kernel[:, None, :, None], groups=n * channels)
    return flat.reshape(images.shape)


def _noise(images: Tensor, amount: Tensor, noise: torch.Generator) -> Tensor:
    return (images + NOISE * amount[:, 4, None, None, None] * _normal(images, noise)).clamp(0, 255)


def _occlusion(images: Tensor, amount: Tensor, noise: torch.Generator) -> Tensor:
    size = images.shape[-1]
    low, high = PATCH
    sides = (low + (high - low) * amount[:, 5:7]) * size
    start = amount[:, 7:9] * size - sides / 2
    axis = torch.arange(size, device=images.device)
    inside = (axis >= start[:, :, None]) & (axis < (start + sides)[:, :, None])  # (n, 2, s)
    mask = (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None]
    rough = torch.where(amount[:, 9, None, None, None] < 0.5, 0.0, ROUGH) * _normal(images, noise)
    return torch.where(mask, (255 * amount[:, 10:13, None, None] + rough).clamp(0, 255), images)


def _normal(images: Tensor, noise: torch.Generator) -> Tensor:
    return torch.randn(images.shape, generator=noise, device=images.device)
