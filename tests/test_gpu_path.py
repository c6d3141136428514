"""A training step for a GPU: nothing in it waits for the GPU, it mixes no devices, and its shapes never vary.

Where there is no GPU, torch's meta device stands in for one: its tensors have a shape and no values, so reading one is
an error. `no_waiting` refuses what the meta device forgives. What a GPU itself says is tested where there is one.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_training import random_examples, tiny_recipe
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.model import cuda_graph, fit, optimisation
from stages.model import device as devices
from stages.model.examples import Examples, epoch_batches
from stages.model.hrnet import HRNet, HRNetConfig
from stages.model.training_state import TrainingState

CPU, STAND_IN = torch.device("cpu"), torch.device("meta")
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class OneDevice(TorchDispatchMode):
    """Refuse operations on tensors of two devices, but for asynchronous copies and numbers in arithmetic."""

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        named = named or {}
        result = operation(*arguments, **named)
        copy = operation in COPIES
        tensors = [leaf for leaf in tree_leaves((arguments, named, result)) if isinstance(leaf, torch.Tensor)]
        # a number goes to a kernel of arithmetic as an argument, but `where` and copies make a tensor of it
        counted = tensors if copy or "where" in str(operation) else [tensor for tensor in tensors if tensor.ndim]
        if len({tensor.device for tensor in counted}) > 1:
            asynchronous = copy and (named.get("non_blocking") or arguments[2:3] == (True,))
            assert asynchronous, f"{operation} mixes devices or waits for a copy between them"
        return result


class NoConstants(TorchFunctionMode):
    """Refuse tensors made of Python's numbers on a device, which are copied there inside of torch."""

    def __torch_function__(self, function, types, arguments=(), named=None):
        device = (named or {}).get("device")
        assert function not in (torch.tensor, torch.as_tensor) or device in (None, CPU), "a constant is copied"
        return function(*arguments, **(named or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    with OneDevice(), NoConstants():
        yield


def recipe_of_everything(loss: str, rounding: str) -> SimpleNamespace:
    """All augmentation of every face, EMA and the contrast stretch: every line that a step can run."""
    recipe = tiny_recipe(ema_decay=0.9)
    for name in ("grey", "light", "blur", "noise", "occlusion"):
        setattr(recipe.augment, name, 1.0)
    recipe.input.stretch, recipe.train.precision = True, "bf16"
    recipe.train.loss, recipe.target.rounding = loss, rounding
    return recipe


def state_on(device: torch.device, recipe: SimpleNamespace) -> TrainingState:
    torch.manual_seed(1)
    model = HRNet(3, HRNetConfig(4, 8, 1, (1, 1, 1), 1)).to(device, memory_format=torch.channels_last)
    state = TrainingState(model, optimisation.optimizer(model, recipe.train), optimisation.EMA(model, 0.9))
    state.losses = torch.zeros(8, device=device)
    return state


def examples_with_a_hidden_landmark(recipe: SimpleNamespace) -> Examples:
    examples = random_examples(recipe)
    examples.landmarks[:, 1] = torch.nan
    return examples


@pytest.fixture
def stand_in(monkeypatch):
    """The meta device, with what torch does not have for it."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    generator = torch.Generator

    class AnyGenerator(generator):
        def __new__(cls, device=CPU):
            return generator.__new__(generator)

    monkeypatch.setattr(torch, "Generator", AnyGenerator)
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])
    yield STAND_IN
    devices.constant.cache_clear()


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize(("loss", "rounding"), [("awing", "exact"), ("mse", "paper"), ("smooth_l1", "exact")])
def test_no_line_of_a_step_waits_for_the_device_or_mixes_devices(stand_in, loss, rounding, resident):
    recipe = recipe_of_everything(loss, rounding)
    examples = examples_with_a_hidden_landmark(recipe)
    batches = fit.batches_of(0, len(examples), recipe.train, CPU)
    drawn = list(fit.drawn_ahead(batches, 0, 0, examples, recipe, CPU))[:2]
    if resident:
        examples.faces.resident = torch.from_numpy(np.array(examples.faces.images)).to(stand_in)
        drawn = [each._replace(pixels=None) for each in drawn]
    state = state_on(stand_in, recipe)
    for step, of_step in enumerate(drawn):
        with no_waiting() if step else nullcontext():  # the first step may put constants on the device
            fit.advance(state, state.model, examples, of_step, recipe, 0.01, stand_in)
    assert state.step == 2
    assert state.losses.device == stand_in


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x + torch.ones(4),
        lambda x: x + torch.ones(4).to(x.device),
        lambda x: torch.where(x > 0, x, torch.tensor(1.0)),
        lambda x: x * torch.tensor((1.0, 2.0, 3.0, 4.0), device=x.device),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x[x > 0],
        lambda x: x if x.sum() > 0 else -x,
        lambda x: float(x.sum()),
        lambda x: x.cpu(),
    ],
)
def test_the_stand_in_refuses_what_would_wait_on_a_gpu(fault):
    x = torch.zeros(4, device=STAND_IN)
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), no_waiting():
        fault(x)


@needs_gpu
@pytest.mark.parametrize("loss", ["mse", "awing"])
def test_no_line_of_a_step_waits_for_the_gpu(loss):
    recipe, device = recipe_of_everything(loss, "exact"), devices.device()
    examples = examples_with_a_hidden_landmark(recipe)
    batches = fit.batches_of(0, len(examples), recipe.train, device)
    state = state_on(device, recipe)
    try:
        for drawn in fit.drawn_ahead(batches, 0, 0, examples, recipe, device):
            fit.advance(state, state.model, examples, drawn, recipe, 0.01, device)
            torch.cuda.set_sync_debug_mode("error")  # after the first step, which puts constants on the device
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(state.losses[: state.step]).all()


@pytest.mark.parametrize(("n", "batch"), [(33, 8), (16, 8), (5, 8)])
def test_batches_for_a_compiled_network_are_of_one_size_and_leave_other_faces_out_every_epoch(n, batch):
    epochs = [epoch_batches(n, batch, 1, epoch, full=True) for epoch in range(2)]
    for batches in epochs:
        assert {len(part) for part in batches} == {min(n, batch)}
        faces = np.concatenate(batches)
        assert len(set(faces)) == len(faces) == n - n % min(n, batch)
    if n % min(n, batch):
        left_out = [set(range(n)) - set(np.concatenate(batches)) for batches in epochs]
        assert left_out[0] != left_out[1]


def test_a_compiled_step_is_one_graph_that_is_never_compiled_again(monkeypatch):
    """As a CUDA graph needs it: no break, and no shape, address or flag of a later step or epoch that is new to it."""
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    recipe = tiny_recipe(ema_decay=0.9)
    recipe.train.compile = True
    monkeypatch.setattr(fit, "compiled_loss", fit.LOSSES.get)
    examples, state = random_examples(recipe), state_on(CPU, recipe)
    network = torch.compile(state.model, backend="eager", fullgraph=True, dynamic=False)
    addresses = [tensor.data_ptr() for tensor in state.model.state_dict().values()]
    for epoch in range(2):
        state.step = 0
        batches = fit.batches_of(epoch, len(examples), recipe.train, torch.device("cuda"))
        for drawn in fit.drawn_ahead(batches, epoch, 0, examples, recipe, CPU):
            fit.advance(state, network, examples, drawn, recipe, 0.01 / (1 + epoch), CPU)
    assert [tensor.data_ptr() for tensor in state.model.state_dict().values()] == addresses


def after_two_epochs(compute, recipe: SimpleNamespace) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The weights and statistics, and the losses of the last epoch; some batches lack an annotation."""
    examples, state = random_examples(recipe), state_on(CPU, recipe)
    examples.landmarks[4, 1] = torch.nan
    batches = [np.arange(8) if step in (1, 5) else np.arange(8, 16) for step in range(8)]
    for epoch in range(2):
        state.step = 0
        for drawn in fit.drawn_ahead(batches, epoch, 0, examples, recipe, CPU):
            fit.advance(state, state.model, examples, drawn, recipe, 0.01 / (1 + epoch), CPU, compute)
    return list(state.model.state_dict().values()), state.losses


def recorded_on_the_cpu(work):
    """Like `cuda_graph.record`: recording computes nothing, and replaying writes into the tensors of the recording."""
    model = work.__closure__[work.__code__.co_freevars.index("network")].cell_contents
    buffers = [buffer.clone() for buffer in model.buffers()]
    result = work()
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(before)
    gradients = [parameter.grad for parameter in model.parameters()]

    def replay() -> None:
        result.copy_(work())
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            gradient.copy_(parameter.grad)
            parameter.grad = None

    return replay, result


def test_a_recorded_step_does_what_the_step_does(monkeypatch):
    recipe = tiny_recipe(ema_decay=0.9)
    recipe.train.batch = 8
    plain, losses = after_two_epochs(None, recipe)
    recordings = []
    monkeypatch.setattr(cuda_graph, "record", lambda work: recordings.append(work) or recorded_on_the_cpu(work))
    recorded, losses_of_recorded = after_two_epochs(cuda_graph.CudaGraph(fit.gradients), recipe)
    assert len(recordings) == 1
    assert torch.equal(losses, losses_of_recorded)
    assert all(torch.equal(*pair) for pair in zip(plain, recorded, strict=True))


@needs_gpu
@pytest.mark.parametrize("precision", ["bf16", "tf32", "fp32"])
def test_a_cuda_graph_gives_the_gradients_of_the_step(precision):
    recipe, device = tiny_recipe(), devices.device()
    recipe.train.precision = precision
    examples, model = random_examples(recipe), state_on(device, recipe).model.train()
    compute = cuda_graph.CudaGraph(fit.gradients)
    batches = [np.arange(step, step + 8) for step in range(8)]
    for drawn in fit.drawn_ahead(batches, 0, 0, examples, recipe, device):
        images, maps, _ = examples.batch(drawn, recipe, device)
        found = []
        for each in (compute, fit.gradients):
            loss = each(model, recipe.train, images, maps, None, 1.0)
            found.append([loss.clone(), *(parameter.grad.clone() for parameter in model.parameters())])
        for recorded, plain in zip(*found, strict=True):
            assert torch.linalg.vector_norm(recorded - plain) <= 0.02 * torch.linalg.vector_norm(plain) + 1e-7
    assert compute.replay
