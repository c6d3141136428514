"""Perturbed boxes: the same pixels of the same faces, seen through another window; and what a model costs."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.data.faces import Faces
from stages.data.geometry import window_to_image
from stages.inference import protocol
from stages.inference.cost import cost
from stages.inference.perturbation import (
    moves,
    perturbations,
    perturbed_boxes,
    predict_paper_perturbed,
    predict_perturbed,
)
from stages.metrics import breakdown
from stages.model import augment
from stages.model.checkpoint import ModelInput
from stages.model.predict import Batches, predict

INPUT = ModelInput(size=64, box=1.25, stretch=False)


class Peak(nn.Module):
    """Its heat map has its peak at the brightest spot of the image."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4) + 3


def bright(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, 112, 112, 3) with a bright spot each, and where it is, crop px."""
    rng = np.random.default_rng(3)
    spots = rng.uniform(45, 67, (n, 1, 2))
    y, x = np.mgrid[:112, :112]
    away = (x - spots[..., :1, None][:, 0]) ** 2 + (y - spots[..., 1:, None][:, 0]) ** 2
    return np.repeat((255 * np.exp(-away / 72)).astype(np.uint8)[..., None], 3, -1), spots


def test_a_perturbed_box_is_shifted_by_its_share_and_scaled_about_its_centre():
    window = augment.chain(augment.plain_windows(5, 112, 2.1875, 64, 1.25), moves(5, 64, 1.25, 0.1, 1.2))
    corners = torch.tensor([[-0.5, -0.5], [63.5, 63.5]]).double().expand(5, 2, 2)
    shown = augment.from_input(window, corners).numpy()
    box = 112 / 2.1875  # its side in crop px
    np.testing.assert_allclose(shown[:, 1] - shown[:, 0], 1.2 * 1.25 * box)
    shift = shown.mean(1) - 55.5
    np.testing.assert_allclose(np.hypot(*shift.T), 0.1 * box)
    assert len(np.unique(shift.round(6), axis=0)) == 5


def test_all_directions_are_equally_frequent():
    way = moves(2000, 64, 1.25, 0.1, 1.0)[:, :, 2].numpy()
    assert np.hypot(*way.mean(0)) < 0.01 * np.hypot(*way.T).mean()


def test_ten_perturbations_fit_into_the_crops_of_every_dataset():
    assert len(list(perturbations(2.1875, 1.25))) == 10
    assert [name for name, *_ in perturbations(1.4, 1.25)] == [
        "shift_-5",
        "shift_5",
        "scale_-20",
        "scale_-10",
        "scale_10",
    ]


def test_both_protocols_perturb_the_boxes_alike():
    n, side = 5, np.array([80.0, 100, 120, 140, 160])
    center = 200 + np.arange(10.0).reshape(n, 2)
    nothing = [("",)] * n
    faces = Faces(list("abcde"), ["test"] * n, list("abcde"), center, side, np.zeros((n, 1, 2)), np.ones((n, 1), bool),
                  nothing)  # fmt: skip
    size, box = 64, 1.25
    for _, shift, scale in perturbations():
        found = perturbed_boxes(faces, shift, scale)
        window = window_to_image(found.center, found.side * box, size)
        moved = moves(n, size, box, shift, scale)
        plain = torch.from_numpy(window_to_image(center, side * box, size))
        np.testing.assert_allclose(window, augment.chain(plain, moved).numpy(), atol=1e-9)
    assert len(list(perturbations())) == 10


def test_the_published_protocol_uses_the_perturbed_boxes(monkeypatch):
    monkeypatch.setattr(
        "stages.inference.perturbation.predict_paper", lambda model, read, faces, **run: (faces.side, None)
    )
    faces = Faces(["a"], ["test"], ["a"], np.zeros((1, 2)), np.array([100.0]), np.zeros((1, 1, 2)),
                  np.ones((1, 1), bool), [()])  # fmt: skip
    found = predict_paper_perturbed(None, None, faces, batch=1)
    assert {name: float(side[0]) for name, side in found.items() if name.startswith("scale")} == {
        "scale_-20": 80, "scale_-10": 90, "scale_10": pytest.approx(110), "scale_20": 120}  # fmt: skip


@pytest.mark.parametrize("origin", [0.0, 1.0])
def test_the_published_protocol_predicts_in_the_numbering_of_the_annotations(monkeypatch, origin):
    points = np.array([[[3.0, 4.0]]])
    monkeypatch.setattr(protocol, "predict_paper", lambda *arguments, **options: (points, np.ones((1, 1))))
    monkeypatch.setattr(protocol, "predict_paper_perturbed", lambda *arguments, **options: {"shift_5": points + 10})
    options = {"origin": origin, "shrink_stretches": True, "batch": 1}
    predicted, _, perturbed = protocol.predict_from_images(None, None, None, **options, perturbed=True)
    np.testing.assert_array_equal(predicted, points + origin)
    np.testing.assert_array_equal(perturbed["shift_5"], points + 10 + origin)
    assert protocol.predict_from_images(None, None, None, **options, perturbed=False)[2] == {}


def test_landmarks_are_predicted_where_they_are_from_any_box(monkeypatch):
    monkeypatch.setattr("stages.model.predict.fuse_for_inference", lambda model: model)
    images, spots = bright(6)
    faces = Batches(images, 2.1875, INPUT)
    plain, _ = predict(Peak(), faces, batch=4)
    assert np.abs(plain - spots).max() < 0.5
    found = predict_perturbed(Peak(), faces, batch=4)
    assert len(found) == 10
    for points in found.values():
        assert np.abs(points - spots).max() < 0.8
        assert np.abs(points - plain).max() > 0


def test_the_error_from_perturbed_boxes_is_summarised_by_the_size_of_the_perturbation():
    perturbed = {f"shift_{by}": np.array([abs(by), abs(by) + (by > 0)], float) for by in (-10, -5, 5, 10)}
    perturbed |= {"scale_-10": np.array([2.0, 4]), "scale_20": np.array([6.0, 8])}
    found = breakdown.robustness(np.array([1.0, 2]), perturbed)
    assert [(entry["by"], entry["nme"]) for entry in found["shift"]] == [(0, 1.5), (5, 5.25), (10, 10.25)]
    assert [(entry["by"], entry["nme"]) for entry in found["scale"]] == [(-10, 3), (0, 1.5), (20, 7)]
    assert found["mean"]["nme"] == np.mean([10, 10, 5, 5, 5, 6, 10, 11, 2, 4, 6, 8])
    assert breakdown.robustness(np.array([1.0, 2]), {}) is None


def test_the_cost_is_that_of_an_explicit_count():
    model = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1))
    found = cost(model, 32)
    assert found["parameters"] == 3 * 5 * 9 + 5 + 5 + 5 * 2 + 2
    # two operations for each weight of a filter at each of the 16² places
    assert found["gflops"] == 2 * 16 * 16 * (3 * 9 * 5 + 5 * 2) / 1e9
    assert found["megabytes"] == (4 * (found["parameters"] + 5 + 5) + 8) / 1e6  # means, variances, one counter
