"""The network against the published one (names, shapes, output), and its smaller variants."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.model.hrnet import HRNet, HRNetConfig, fuse_for_inference
from stages.system.errors import InputError
from tests.reference import reference_input, reference_state

REFERENCE = Path(__file__).parents[1] / "../shared/reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference values are not available")

SMALL = HRNetConfig(width=6, stem=16, bottlenecks=1, modules=(1, 1, 1), blocks=1)
VARIANTS = [
    HRNetConfig(),
    HRNetConfig(width=32),
    SMALL,
    HRNetConfig(width=8, stem=64, bottlenecks=2, modules=(2, 1, 2), blocks=2),
    HRNetConfig(width=16, stem=4, modules=(1, 2, 1), blocks=1),  # stage 1 as wide as the branch after it
]


@pytest.fixture(scope="module")
def published_tensors() -> list[tuple[str, tuple[int, ...]]]:
    tensors = json.loads((REFERENCE / "hrnetv2_w18_98_state_dict.json").read_text())
    return [(name, tuple(shape)) for name, shape in tensors]


@pytest.fixture(scope="module")
def reference_model(published_tensors) -> HRNet:
    model = HRNet(landmarks=98)
    model.load_state_dict(reference_state(published_tensors))
    return model.eval()


@pytest.fixture(scope="module")
def reference_maps() -> torch.Tensor:
    return torch.from_numpy(np.load(REFERENCE / "hrnetv2_w18_98_forward.npz")["heatmaps"])


@needs_reference
def test_all_tensors_have_the_published_names_shapes_and_order(published_tensors):
    state = HRNet(landmarks=98).state_dict()
    assert [(name, tuple(tensor.shape)) for name, tensor in state.items()] == published_tensors
    assert len(state) == 1839


def test_the_default_network_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in HRNet(landmarks=98).parameters()) == 9_662_528


@needs_reference
@torch.inference_mode()
def test_the_output_equals_the_published_one(reference_model, reference_maps):
    """To 1e-4 of its range; bit for bit on two threads, as many as the reference was computed with."""
    error = (reference_model(reference_input())[0] - reference_maps).abs().max()
    assert error <= 1e-4 * reference_maps.abs().max()


@needs_reference
@torch.inference_mode()
def test_the_fused_network_gives_the_same_output(reference_model, reference_maps):
    """The bound is wider because these artificial weights amplify differences in the order of summation."""
    fast = fuse_for_inference(reference_model).to(memory_format=torch.channels_last)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    error = (fast(reference_input())[0] - reference_maps).abs()
    assert error.max() <= 1e-3 * reference_maps.abs().max()
    assert error.mean() <= 1e-3 * reference_maps.std()


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_every_variant_outputs_maps_of_a_quarter_of_its_input(config):
    model = HRNet(landmarks=5, config=config).eval()
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 64, 96)).shape == (2, 5, 16, 24)


@pytest.mark.parametrize("config", [SMALL, VARIANTS[3]], ids=str)
def test_every_parameter_of_a_variant_gets_a_gradient(config):
    model = HRNet(landmarks=5, config=config)
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_an_input_that_is_not_a_multiple_of_32_px_is_refused():
    with pytest.raises(InputError, match=r"64×80 px.*multiples of 32"):
        HRNet(landmarks=5, config=SMALL)(torch.zeros(1, 3, 64, 80))


def test_the_weights_are_initialised_as_published():
    torch.manual_seed(0)
    model = HRNet(landmarks=98)
    weights = torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, torch.nn.Conv2d)])
    assert weights.mean().abs() < 1e-6
    assert weights.std() == pytest.approx(1e-3, rel=1e-3)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all((n.weight == 1).all() and (n.bias == 0).all() and n.momentum == 0.01 for n in norms)


def test_the_same_seed_draws_the_same_weights():
    torch.manual_seed(3)
    first = HRNet(landmarks=5, config=SMALL).state_dict()
    torch.manual_seed(3)
    second = HRNet(landmarks=5, config=SMALL).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_synchronised_norms_are_fused_too():
    model = HRNet(landmarks=5, config=SMALL)
    model.load_state_dict(reference_state((name, tuple(t.shape)) for name, t in model.state_dict().items()))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = fuse_for_inference(model)(images)
        fused = fuse_for_inference(torch.nn.SyncBatchNorm.convert_sync_batchnorm(model))
        assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in fused.modules())
        assert torch.equal(fused(images), expected)


def test_fusing_leaves_the_original_model_unchanged():
    model = HRNet(landmarks=5, config=SMALL).train()
    names = list(model.state_dict())
    fuse_for_inference(model)
    assert model.training
    assert list(model.state_dict()) == names


def test_speed_of_8_faces(benchmark):
    model = fuse_for_inference(HRNet(landmarks=98)).to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, 256, 256).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        benchmark.pedantic(model, args=(images,), rounds=2, warmup_rounds=1)
