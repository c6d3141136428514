"""The network against the published one: names, shapes, output; and its smaller variants."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import InputError
from stages.model.hrnet import HRNet, HRNetConfig, fuse_for_inference
from tests.reference import reference_input, reference_state

REFERENCE = Path(__file__).parents[1] / "../shared/reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference figures are not beside the project")

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
    listed = json.loads((REFERENCE / "hrnetv2_w18_98_state_dict.json").read_text())
    return [(name, tuple(shape)) for name, shape in listed]


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
def test_the_output_is_the_published_one(reference_model, reference_maps):
    """To 1e-4 of its range. On as many threads as the reference was made with (two) the outputs are the same bits."""
    error = (reference_model(reference_input())[0] - reference_maps).abs().max()
    assert error <= 1e-4 * reference_maps.abs().max()


@needs_reference
@torch.inference_mode()
def test_what_is_made_faster_gives_the_same_output(reference_model, reference_maps):
    """Other orders of summation, which these made-up weights amplify: hence the wider bound."""
    fast = fuse_for_inference(reference_model).to(memory_format=torch.channels_last)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    error = (fast(reference_input())[0] - reference_maps).abs()
    assert error.max() <= 1e-3 * reference_maps.abs().max()
    assert error.mean() <= 1e-3 * reference_maps.std()


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_every_variant_maps_multiples_of_32_px_to_a_quarter(config):
    model = HRNet(landmarks=5, config=config).eval()
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 64, 96)).shape == (2, 5, 16, 24)


@pytest.mark.parametrize("config", [SMALL, VARIANTS[3]], ids=str)
def test_every_parameter_of_a_variant_learns(config):
    model = HRNet(landmarks=5, config=config)
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert idle == []


def test_an_input_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"64×80 px.*multiples of 32"):
        HRNet(landmarks=5, config=SMALL)(torch.zeros(1, 3, 64, 80))


def test_the_weights_are_drawn_as_published():
    torch.manual_seed(0)
    model = HRNet(landmarks=98)
    drawn = torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, torch.nn.Conv2d)])
    assert drawn.mean().abs() < 1e-6
    assert drawn.std() == pytest.approx(1e-3, rel=1e-3)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all((n.weight == 1).all() and (n.bias == 0).all() and n.momentum == 0.01 for n in norms)


def test_the_same_seed_draws_the_same_weights():
    torch.manual_seed(3)
    first = HRNet(landmarks=5, config=SMALL).state_dict()
    torch.manual_seed(3)
    second = HRNet(landmarks=5, config=SMALL).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_fusing_leaves_the_model_itself_alone():
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
