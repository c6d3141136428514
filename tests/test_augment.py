"""Augmentation transforms pixels and landmarks by the same matrices."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.model import augment

STRONG = SimpleNamespace(scale=0.25, rotation=60.0, rotation_share=0.8, shift=0.05, flip=0.5)


def dots(points: np.ndarray, size: int) -> np.ndarray:
    """(n, size, size, 3) uint8 with a soft dot at each of the points (n, 3, 2), one colour channel per point."""
    axis = np.arange(size)
    x = np.exp(-((axis - points[..., :1]) ** 2) / 8)
    y = np.exp(-((axis - points[..., 1:]) ** 2) / 8)
    return (255 * np.einsum("nky,nkx->nyxk", y, x)).round().astype(np.uint8)


def centres(images: torch.Tensor) -> torch.Tensor:
    """The centre of mass of each channel of (n, 3, s, s): (n, 3, 2)."""
    axis = torch.arange(images.shape[-1], dtype=torch.float64)
    weight = images.double()
    total = weight.sum((2, 3))
    return torch.stack([(weight.sum(2) * axis).sum(-1) / total, (weight.sum(3) * axis).sum(-1) / total], -1)


def test_dots_and_their_landmarks_move_together():
    n, crop, size = 64, 112, 64
    points = np.random.default_rng(0).uniform(46, 66, (n, 3, 2))
    changes, mirrored = augment.draw_changes(n, STRONG, size, torch.Generator().manual_seed(1))
    windows = augment.chain(augment.plain_windows(n, crop, 2.1875, size, 1.25), changes)
    images = augment.warp(torch.from_numpy(dots(points, crop)), windows, size)
    moved = augment.to_input(windows, torch.from_numpy(points))
    assert 10 < mirrored.sum() < 54
    assert (centres(images) - moved).abs().max() < 0.05
    np.testing.assert_allclose(augment.from_input(windows, moved), points, atol=1e-9)


def test_an_unaugmented_window_at_the_crops_scale_copies_its_pixels():
    crop = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8))
    images = augment.warp(crop, augment.plain_windows(2, 112, 2.1875, 64, 1.25), 64)
    torch.testing.assert_close(images.permute(0, 2, 3, 1), crop[:, 24:88, 24:88].float(), atol=2e-2, rtol=0)


def test_random_transforms_cover_the_recipes_ranges():
    changes, mirrored = augment.draw_changes(4000, STRONG, 64, torch.Generator().manual_seed(0))
    scale = torch.linalg.det(changes[:, :, :2]).abs().sqrt()
    assert 0.75 <= scale.min() < 0.76
    assert 1.24 < scale.max() <= 1.25
    assert (torch.linalg.det(changes[:, :, :2]) < 0).equal(mirrored)
    sign = torch.where(mirrored, -1, 1)
    angle = torch.atan2(changes[:, 1, 0] * sign, changes[:, 0, 0] * sign)
    assert torch.rad2deg(angle).abs().max() <= 60
    assert 0.77 < (angle != 0).double().mean() < 0.83


@pytest.mark.parametrize(("crop", "size", "factor"), [(448, 256, 1), (448, 128, 2), (448, 64, 4), (224, 128, 1)])
def test_crops_are_downsampled_to_about_the_inputs_scale(crop, size, factor):
    assert augment.pool_factor(crop, 2.1875, size, 1.25) == factor


def test_pooling_averages_blocks():
    image = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    expected = image.astype(float)[:, :2, :2].mean((1, 2)).round()
    np.testing.assert_array_equal(augment.pool(image, 2)[:, 0, 0], expected)
