"""Training and inference with the whole network: HRNetV2-W18, 98 landmarks, 256×256."""

import tempfile
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stages.config.experiment import load_recipe
from stages.config.pipeline import PARAMS
from stages.inference.cost import workload
from stages.model import fit, heatmap, hrnet
from stages.model.device import device as own_device
from stages.model.predict import Batches, predict
from tests.bench.data import cut_examples, photographs
from tests.bench.measure import Figure, seconds, timed

LANDMARKS, SIZE = 98, 256
SECTIONS = ("model", "input", "target", "augment", "train")


def build(recipe) -> hrnet.HRNet:
    torch.manual_seed(0)
    variant = hrnet.HRNetConfig(**recipe.model.model_dump() | {"modules": tuple(recipe.model.modules)})
    return hrnet.HRNet(LANDMARKS, variant)


def a_batch(n: int, size: int) -> tuple[Tensor, Tensor]:
    """Images and target maps, of noise and of random landmarks."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, size, size, generator=random)
    cells = size // 4
    return images, heatmap.encode(cells * torch.rand(n, LANDMARKS, 2, generator=random), cells, 1.5)


# ---- an epoch


def epoch(recipe=None, faces: int | None = None, photos: int = 8, size: int = 448) -> list[Figure]:
    """The second epoch of a training by `fit`, with validation and checkpoint, on the machine's device."""
    device = own_device()
    recipe = copy(recipe or load_recipe("paper", "wflw", *SECTIONS))
    recipe.train = recipe.train.model_copy(update={"epochs": 2})
    faces = faces or (64 if device.type == "cpu" else 4096)
    inside: list[tuple[float, float]] = []  # from when to when something ran in the network or the optimiser
    epochs: list[tuple[float, float]] = []  # seconds of each, and of these in the network or the optimiser

    def clocked(work: Callable) -> Callable:
        def clocked_work(*arguments, **named):
            began = clock(device)
            result = work(*arguments, **named)
            inside.append((began, clock(device)))
            return result

        return clocked_work

    with tempfile.TemporaryDirectory() as folder:
        drawn = photographs(Path(folder), photos)
        examples = cut_examples(drawn, recipe, Path(folder) / "train.npy", faces, size)
        val = cut_examples(drawn, recipe, Path(folder) / "val.npy", max(1, faces // 8), size)

        def validate(network: nn.Module) -> dict[str, float]:
            network.forward = clocked(network.forward)
            points, _ = predict(network, val.faces, batch=recipe.train.batch)
            del network.forward
            return {"val/nme": float(np.linalg.norm(points - val.landmarks.numpy(), axis=2).mean())}

        def epoch_done(history: list, took: float, left: float) -> None:
            epochs.append((took, covered(inside)))
            inside.clear()

        step, fit.train_step = fit.train_step, clocked(fit.train_step)
        try:
            checkpoint = Path(folder) / "last.pt"
            fit.fit(build(recipe), examples, recipe, validate=validate, checkpoint=checkpoint, epoch_done=epoch_done)
        finally:
            fit.train_step = step
    took, within = epochs[1]
    how = (
        f"recipe paper, {len(examples.face_id)} faces to train on and {len(val.face_id)} of val, "
        f"{recipe.input.size} px, batch {recipe.train.batch}, {device.type}, {torch.get_num_threads()} cores"
    )
    return [
        Figure("one epoch end to end", took, "s", how),
        Figure("share of the epoch outside the network", 100 * (1 - within / took), "%", how, at_most=10),
    ]


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of time spans: threads that run at once count once."""
    total, until = 0.0, -np.inf
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def clock(device: torch.device) -> float:
    """Seconds, when all that the device was given is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# ---- what the report tells: how long a face takes by each recipe


def faces_by_recipe(device: torch.device | None = None, recipes: dict | None = None, faces: int = 64) -> list[Figure]:
    """From crops to landmarks as evaluate does it, in time a face; each network and input size once."""
    device = device or torch.device("cpu")
    names = sorted(path.stem for path in (PARAMS / "recipes").glob("*.yaml"))
    recipes = recipes or {name: load_recipe(name, "wflw", "model", "input", "evaluate") for name in names}
    order = np.arange(LANDMARKS)[::-1].copy()
    found = {}
    for recipe in recipes.values():
        model, of = build(recipe).to(device).eval(), recipe.input
        what = workload(model.config, of.size, recipe.evaluate.flip_test)
        if what in found:
            continue
        size = round(of.size / of.box * 2.1875)  # crops of the input's own scale
        crops = np.random.default_rng(0).integers(0, 256, (faces, size, size, 3), np.uint8)
        flip = order if recipe.evaluate.flip_test else None
        asked = {"batch": recipe.evaluate.batch, "flip_order": flip}
        batches = Batches(crops, 2.1875, of)
        taken = seconds(lambda of=(model, batches), asked=asked: predict(*of, **asked), 3)
        name = "CPU" if device.type == "cpu" else "GPU"
        how = f"{faces} faces of {size} px, batch {recipe.evaluate.batch}" + (
            f", {torch.get_num_threads()} cores" if name == "CPU" else ""
        )
        found[what] = timed(f"{name}, crops to landmarks: {what}", taken, faces, how, workload=what, device=name)
    return list(found.values())


def flops(model: nn.Module, size: int, device: torch.device) -> tuple[int, int]:
    """Floating-point operations of one image's forward pass, and of forward and backward together, as torch counts."""
    image = torch.zeros(1, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    model.eval()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(image)
    with FlopCounterMode(display=False) as both:
        model(image).sum().backward()
    model.zero_grad()
    return forward.get_total_flops(), both.get_total_flops()
