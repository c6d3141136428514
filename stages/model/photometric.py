"""Changes of light, colour, sharpness and cover, on a batch of images (n, 3, s, s) float32 in 0 … 255, on their device.

What happens to which face is drawn on the CPU from the step's own generator, so no step waits for the GPU, and a change
costs nothing for the faces that do not get it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
GAMMA, GAIN, CONTRAST = 0.5, 0.35, 0.35  # exponents of e^U(-GAMMA, GAMMA); factors of U(1 - x, 1 + x)
BLUR = 0.02  # the largest deviation of a blur, in sides of the image
NOISE = 20.0  # the largest deviation of noise, in grey levels
PATCH = (0.15, 0.45)  # a patch's sides, in sides of the image


def change(images: Tensor, augment, random: torch.Generator) -> Tensor:
    """The images after the changes of a recipe's section `augment`, in 0 … 255."""
    n = len(images)
    drawn = torch.rand(n, 5, generator=random)
    amount = torch.rand(n, 8, generator=random)
    shares = (augment.grey, augment.light, augment.blur, augment.noise, augment.occlusion)
    steps = (_grey, _light, _blur, _noise, _cover)
    for place, (share, step) in enumerate(zip(shares, steps, strict=True)):
        chosen = torch.nonzero(drawn[:, place] < share).flatten()
        if len(chosen):
            rows = chosen.to(images.device, non_blocking=True)
            part = step(images[rows], amount[chosen].to(images.device, non_blocking=True), random)
            images = images.index_copy(0, rows, part)
    return images


def _grey(images: Tensor, amount: Tensor, random: torch.Generator) -> Tensor:
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def _light(images: Tensor, amount: Tensor, random: torch.Generator) -> Tensor:
    spread = 2 * amount[:, :3, None, None, None] - 1  # (n, 3, 1, 1, 1)
    gamma, gain, contrast = (spread[:, i] for i in range(3))
    lit = (images / 255).pow(torch.exp(GAMMA * gamma)) * (255 * (1 + GAIN * gain))
    middle = lit.mean((1, 2, 3), keepdim=True)
    return ((lit - middle) * (1 + CONTRAST * contrast) + middle).clamp(0, 255)


def _blur(images: Tensor, amount: Tensor, random: torch.Generator) -> Tensor:
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


def _noise(images: Tensor, amount: Tensor, random: torch.Generator) -> Tensor:
    return (images + NOISE * amount[:, 4, None, None, None] * _normal(images, random)).clamp(0, 255)


def _cover(images: Tensor, amount: Tensor, random: torch.Generator) -> Tensor:
    n, _, size, _ = images.shape
    low, high = PATCH
    corner = torch.rand(n, 7, generator=random).to(images.device, non_blocking=True)
    sides = (low + (high - low) * corner[:, :2]) * size
    start = corner[:, 2:4] * size - sides / 2
    axis = torch.arange(size, device=images.device)
    inside = (axis >= start[:, :, None]) & (axis < (start + sides)[:, :, None])  # (n, 2, s)
    mask = (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None]
    grain = torch.where(amount[:, 5, None, None, None] < 0.5, 0.0, 60.0) * _normal(images, random)
    return torch.where(mask, (255 * corner[:, 4:7, None, None] + grain).clamp(0, 255), images)


def _normal(images: Tensor, random: torch.Generator) -> Tensor:
    """Normal noise made on the images' device, from a seed that the CPU's generator gives."""
    seed = int(torch.randint(2**62, (), generator=random))
    local = torch.Generator(images.device).manual_seed(seed)
    return torch.randn(images.shape, generator=local, device=images.device)
