"""The exact codec: decoding inverts encoding, and is well-defined for maps that are not Gaussians."""

import pytest
import torch

from stages.model import heatmap


def grid_points(size: int, step: float = 0.37) -> torch.Tensor:
    """Points (1, K, 2) all over a square map, up to the outer edges of its border cells."""
    along = torch.arange(-0.499, size - 0.5, step)
    return torch.cartesian_prod(along, along)[None]


def noisy(points: torch.Tensor, noise: float, sigma: float = 1.5) -> torch.Tensor:
    maps = heatmap.encode(points, 64, sigma)
    return maps + noise * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))


def test_a_map_is_the_gaussian_at_the_exact_position():
    maps = heatmap.encode(torch.tensor([[[3.3, 5.8], [-2.0, 9.5]]]), (12, 20), sigma=1.5)
    assert maps.shape == (1, 2, 12, 20)
    for landmark, (px, py) in enumerate([(3.3, 5.8), (-2.0, 9.5)]):  # the second is outside: its tail is inside
        for y, x in [(0, 0), (5, 3), (6, 3), (11, 19)]:
            expected = torch.exp(torch.tensor(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.5**2)))
            torch.testing.assert_close(maps[0, landmark, y, x], expected)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_decoding_a_perfect_map_returns_the_point_anywhere_in_the_map(sigma):
    points = grid_points(32)
    decoded, scores = heatmap.decode(heatmap.encode(points, 32, sigma))
    assert (decoded - points).abs().max() < 1e-4
    assert (scores > 0.7).all()
    assert (scores <= 1).all()


def test_maps_can_be_rectangular():
    points = torch.tensor([[[38.7, 2.2], [0.1, 14.9]]])
    decoded, _ = heatmap.decode(heatmap.encode(points, (16, 40), sigma=1.5))
    torch.testing.assert_close(decoded, points, atol=1e-4, rtol=0)


def test_noise_is_averaged_out():
    """Close to the bound for an unbiased decoder, noise / sqrt(π/2) per axis, and far below the usual rules' error."""
    points = 4 + 55 * torch.rand(4, 500, 2, generator=torch.Generator().manual_seed(1))
    error = (heatmap.decode(noisy(points, noise=0.03))[0] - points).square().mean().sqrt()
    bound = 0.03 / (torch.pi / 2) ** 0.5
    assert bound < error < 1.3 * bound


def test_a_decoded_point_stays_within_one_cell_of_the_maximum():
    maps = torch.randn(2, 50, 16, 16, generator=torch.Generator().manual_seed(2))
    decoded, scores = heatmap.decode(maps)
    index = maps.flatten(2).argmax(-1)
    maximum = torch.stack([index % 16, index // 16], dim=-1)
    assert ((decoded - maximum).abs() <= 1).all()
    assert torch.equal(scores, maps.amax((2, 3)))


@pytest.mark.parametrize("value", [0.0, 0.5, -1.0, float("nan")])
def test_a_constant_map_decodes_to_its_first_cell(value):
    decoded, scores = heatmap.decode(torch.full((1, 1, 16, 16), value))
    assert decoded.tolist() == [[[0, 0]]]
    torch.testing.assert_close(scores, torch.tensor([[value]]), equal_nan=True)


def test_a_single_cell_decodes_to_itself():
    maps = torch.full((1, 1, 16, 16), -0.1)
    maps[0, 0, 3, 15] = 0.8
    decoded, scores = heatmap.decode(maps)
    torch.testing.assert_close(decoded, torch.tensor([[[15.0, 3.0]]]), atol=1e-3, rtol=0)
    assert scores.item() == pytest.approx(0.8)


def test_of_two_equal_peaks_the_first_is_decoded():
    two = heatmap.encode(torch.tensor([[[20.0, 4.0], [4.0, 20.0]]]), 32, sigma=1.5).sum(1, keepdim=True)
    torch.testing.assert_close(heatmap.decode(two)[0], torch.tensor([[[20.0, 4.0]]]), atol=1e-3, rtol=0)


def test_decoding_does_not_depend_on_memory_format_or_precision():
    points = 2 + 59 * torch.rand(2, 98, 2, generator=torch.Generator().manual_seed(3))
    maps = noisy(points, noise=0.01)
    decoded, scores = heatmap.decode(maps)
    for same in (maps.to(memory_format=torch.channels_last), maps.double(), maps.flip(-1).flip(-1)):
        assert torch.equal(heatmap.decode(same)[0], decoded)
        assert torch.equal(heatmap.decode(same)[1], scores)
    assert (heatmap.decode(maps.bfloat16())[0] - points).abs().max() < 0.1


def test_a_cell_has_its_centre_in_the_middle_of_its_pixels():
    cells = torch.tensor([[0.0, 63.0]])
    assert heatmap.to_input(cells).tolist() == [[1.5, 253.5]]
    assert torch.equal(heatmap.to_cells(heatmap.to_input(cells)), cells)


def test_maps_of_a_mirrored_face_flip_back():
    points = torch.tensor([[[4.2, 5.0], [25.9, 6.0], [15.0, 20.5]]])
    mirrored = torch.tensor([1, 0, 2])
    in_mirror_image = points[:, mirrored] * torch.tensor([-1, 1]) + torch.tensor([31, 0])
    flipped = heatmap.flip_maps(heatmap.encode(in_mirror_image, 32, sigma=1.5), mirrored)
    torch.testing.assert_close(flipped, heatmap.encode(points, 32, sigma=1.5), atol=1e-5, rtol=0)


def test_speed_of_decoding_32_faces_on_one_core(benchmark):
    maps = noisy(64 * torch.rand(32, 98, 2, generator=torch.Generator().manual_seed(4)) - 0.5, noise=0.05)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark.pedantic(heatmap.decode, args=(maps,), rounds=10, warmup_rounds=2)
    finally:
        torch.set_num_threads(threads)
