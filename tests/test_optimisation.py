"""Losses, learning-rate schedules, EMA, photometric augmentation and the training step match papers and parameters."""

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from stages.config.experiment import load_recipe
from stages.config.recipe import Train
from stages.model import distributed, fit, losses, optimisation, photometric
from stages.model.device import device
from stages.system.errors import InputError

PLAIN = {"grey": 0.0, "light": 0.0, "blur": 0.0, "noise": 0.0, "occlusion": 0.0}


def wing(y: float, p: float) -> float:
    """The adaptive wing loss of one cell, by equation 3 of its paper."""
    a, w, e, t = 2.1, 14.0, 1.0, 0.5
    d = abs(y - p)
    if d < t:
        return w * math.log(1 + (d / e) ** (a - y))
    big_a = w * (1 / (1 + (t / e) ** (a - y))) * (a - y) * (t / e) ** (a - y - 1) / e
    return big_a * d - (t * big_a - w * math.log(1 + (t / e) ** (a - y)))


def test_the_adaptive_wing_loss_follows_its_paper():
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
def test_every_loss_is_zero_at_the_target_and_has_finite_gradients(name):
    target = torch.rand(2, 3, 8, 8)
    predicted = target.clone().requires_grad_()
    loss = losses.LOSSES[name](predicted, target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert torch.isfinite(predicted.grad).all()


def test_the_cosine_schedule_warms_up_linearly_and_ends_at_zero():
    train = SimpleNamespace(lr=1.0, warmup=2.0, epochs=10, schedule="cosine", milestones=[], gamma=0.1)
    rates = [optimisation.learning_rate(train, t) for t in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-12)


def test_the_ema_follows_its_formula_with_warm_up_for_weights_and_norm_statistics():
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)).double()
    ema = optimisation.EMA(model, 0.5)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.Generator().manual_seed(0)
    for step in range(1, 13):  # the decay is 2/11 at first and stays 0.5 from step 8 on
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=random).double() + 5)
        ema.update()
        decay = min(0.5, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
    assert model[1].num_batches_tracked != 0
    torch.testing.assert_close(dict(ema.module.state_dict()), expected, rtol=1e-12, atol=0)


def test_a_new_ema_is_the_model_itself():
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    average = optimisation.EMA(model, 0.998).module.state_dict()
    assert all(torch.equal(tensor, average[name]) for name, tensor in model.state_dict().items())


def test_weight_decay_excludes_norms_and_biases():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    groups = optimisation.optimizer(model, SimpleNamespace(optimizer="adamw", lr=1.0, weight_decay=0.1)).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]


@pytest.mark.parametrize("name", PLAIN)
def test_an_augmentation_changes_its_share_of_the_faces_and_is_reproducible(name):
    images = torch.rand(200, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    drawn = photometric.draw(200, torch.Generator().manual_seed(1))
    augment = SimpleNamespace(**PLAIN | {name: 0.3})
    chosen = photometric.choose(drawn, augment)
    changed = photometric.apply(images.clone(), chosen, seed=5)
    touched = (changed != images).any(1).any(1).any(1)
    assert 0.2 < touched.double().mean() < 0.4
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert torch.equal(changed, photometric.apply(images.clone(), chosen, seed=5))
    if name == "grey":
        assert torch.equal(changed[touched, 0], changed[touched, 2])
    if name == "blur":
        steps = (changed.diff(dim=-1).abs().mean((1, 2, 3)), images.diff(dim=-1).abs().mean((1, 2, 3)))
        assert (steps[0][touched] <= steps[1][touched] + 1e-3).all()
    if name == "occlusion":
        covered = (changed != images).any(1)[touched].double().mean((1, 2))
        assert covered.max() < 0.45**2 * 1.2


def test_shares_of_zero_change_nothing():
    images = torch.rand(8, 3, 16, 16) * 255
    drawn = photometric.draw(8, torch.Generator().manual_seed(1))
    chosen = photometric.choose(drawn, SimpleNamespace(**PLAIN))
    assert torch.equal(photometric.apply(images.clone(), chosen, 1), images)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_processes_slices_of_a_batch_cover_it_once(monkeypatch, world_size):
    monkeypatch.setenv("WORLD_SIZE", str(world_size))
    faces = []
    for rank in range(world_size):
        monkeypatch.setenv("RANK", str(rank))
        faces += list(range(8)[distributed.local_slice(8)])
    assert faces == list(range(8))


def test_out_of_memory_reports_the_batch_size_that_fits(monkeypatch):
    network = torch.nn.Conv2d(3, 2, 1)
    train = SimpleNamespace(
        loss="mse", batch=16, precision="fp32", optimizer="adam", lr=0.1, weight_decay=0.0, compile=False
    )
    forward = fit.forward

    def small_memory(network, train, images, maps, annotated=None):
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(network, train, images, maps)

    monkeypatch.setattr(fit, "forward", small_memory)
    images, maps = torch.rand(16, 3, 4, 4), torch.rand(16, 2, 4, 4)
    with pytest.raises(InputError, match=r"a step of 16 faces. 4 would fit: set train.batch to 4"):
        fit.train_step(network, optimisation.optimizer(network, train), train, images, maps)


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_used_only_in_the_steps_of_a_recipe_that_asks_for_it(precision, allowed):
    seen = []

    class Network(torch.nn.Conv2d):
        def forward(self, images):
            seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
            return super().forward(images)

    network = Network(3, 2, 1)
    train = SimpleNamespace(loss="mse", precision=precision, optimizer="adam", lr=0.1, weight_decay=0.0, compile=False)
    images, maps = torch.rand(2, 3, 4, 4), torch.rand(2, 2, 4, 4)
    fit.train_step(network, optimisation.optimizer(network, train), train, images, maps)
    assert seen == [(allowed, allowed)]
    assert not torch.backends.cudnn.allow_tf32, "validation and evaluation are in fp32"


def test_a_gpu_computes_in_fp32_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    assert device().type == "cuda"
    assert not torch.backends.cudnn.allow_tf32


def test_a_warm_up_that_never_ends_is_refused():
    with pytest.raises(ValidationError, match="warmup is 3 of 3 epochs: the full lr would never be reached"):
        Train.model_validate(load_recipe("quick", "demo", "train").train.model_dump() | {"epochs": 3, "warmup": 3.0})
