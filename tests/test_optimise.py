"""Losses, schedules, averages and changes of light do what their papers and parameters say."""

import math
from types import SimpleNamespace

import pytest
import torch

from stages.errors import InputError
from stages.model import distributed, fit, losses, optimise, photometric

PLAIN = {"grey": 0.0, "light": 0.0, "blur": 0.0, "noise": 0.0, "occlusion": 0.0}


def wing(y: float, p: float) -> float:
    """The adaptive wing loss of one cell, written out from equation 3 of its paper."""
    a, w, e, t = 2.1, 14.0, 1.0, 0.5
    d = abs(y - p)
    if d < t:
        return w * math.log(1 + (d / e) ** (a - y))
    big_a = w * (1 / (1 + (t / e) ** (a - y))) * (a - y) * (t / e) ** (a - y - 1) / e
    return big_a * d - (t * big_a - w * math.log(1 + (t / e) ** (a - y)))


def test_the_adaptive_wing_loss_is_its_papers():
    target = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    target[0, 0, 1, 1] = 0.9
    predicted = torch.linspace(-0.7, 1.3, 25, dtype=torch.float64).view(1, 1, 5, 5)
    expected = 0.0
    for i in range(5):
        for j in range(5):
            near = i <= 2 and j <= 2  # the 3×3 dilation of the only cell above 0.2
            expected += wing(float(target[0, 0, i, j]), float(predicted[0, 0, i, j])) * (11 if near else 1) / 25
    assert float(losses.adaptive_wing(predicted, target)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_is_zero_at_the_truth_and_has_finite_gradients(name):
    target = torch.rand(2, 3, 8, 8)
    predicted = target.clone().requires_grad_()
    loss = losses.LOSSES[name](predicted, target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert torch.isfinite(predicted.grad).all()


def test_the_cosine_rises_over_the_warm_up_and_ends_at_zero():
    train = SimpleNamespace(lr=1.0, warmup=2.0, epochs=10, schedule="cosine", milestones=[], gamma=0.1)
    assert [optimise.rate(train, t) for t in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-12)


def test_the_average_follows_the_weights_with_its_decay():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    average, expected = optimise.Average(model, 0.5), 1.0
    for step in range(1, 6):
        torch.nn.init.constant_(model.weight, float(step))
        average.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(average.model.weight.detach()) == pytest.approx(expected, rel=1e-6)


def test_weight_decay_leaves_norms_and_biases_alone():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    groups = optimise.optimizer(model, SimpleNamespace(optimizer="adamw", lr=1.0, weight_decay=0.1)).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]


@pytest.mark.parametrize("name", PLAIN)
def test_a_change_happens_to_its_share_of_the_faces_and_is_the_same_again(name):
    images = torch.rand(200, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    drawn = photometric.draw(200, torch.Generator().manual_seed(1))
    augment = SimpleNamespace(**PLAIN | {name: 0.3})
    changed = photometric.change(images.clone(), augment, drawn, seed=5)
    touched = (changed != images).any(1).any(1).any(1)
    assert 0.2 < touched.double().mean() < 0.4
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert torch.equal(changed, photometric.change(images.clone(), augment, drawn, seed=5))
    if name == "grey":
        assert torch.equal(changed[touched, 0], changed[touched, 2])
    if name == "blur":
        steps = (changed.diff(dim=-1).abs().mean((1, 2, 3)), images.diff(dim=-1).abs().mean((1, 2, 3)))
        assert (steps[0][touched] <= steps[1][touched] + 1e-3).all()
    if name == "occlusion":
        covered = (changed != images).any(1)[touched].double().mean((1, 2))
        assert covered.max() < 0.45**2 * 1.2


def test_no_share_changes_nothing():
    images = torch.rand(8, 3, 16, 16) * 255
    drawn = photometric.draw(8, torch.Generator().manual_seed(1))
    assert torch.equal(photometric.change(images.clone(), SimpleNamespace(**PLAIN), drawn, 1), images)


def test_the_parts_of_a_batch_are_all_of_it(monkeypatch):
    for world in (1, 2, 3):
        monkeypatch.setenv("WORLD_SIZE", str(world))
        parts = []
        for rank in range(world):
            monkeypatch.setenv("RANK", str(rank))
            parts += list(range(8)[distributed.share(8)])
        assert parts == list(range(8))


def test_running_out_of_memory_says_which_batch_would_fit(monkeypatch):
    network = torch.nn.Conv2d(3, 2, 1)
    train = SimpleNamespace(loss="mse", batch=16, precision="fp32", optimizer="adam", lr=0.1, weight_decay=0.0)
    real = fit.forward

    def small_memory(net, section, images, maps):
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(net, section, images, maps)

    monkeypatch.setattr(fit, "forward", small_memory)
    images, maps = torch.rand(16, 3, 4, 4), torch.rand(16, 2, 4, 4)
    with pytest.raises(InputError, match=r"a step of 16 faces. 4 would fit: set train.batch to 4"):
        fit.train_step(network, optimise.optimizer(network, train), train, images, maps)
