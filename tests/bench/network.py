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
from stages.model import augment, fit, heatmap, hrnet, optimisation
from stages.model.device import device as own_device
from stages.model.examples import Drawn, epoch_batches, step_generator
from stages.model.predict import Batches, predict
from stages.model.training_state import TrainingState
from tests.bench.data import cut_examples, photographs
from tests.bench.measure import Figure, Missing, seconds, timed

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


# ---- GPU


def on_gpu() -> list[Figure | Missing]:
    if not torch.cuda.is_available():
        return [Missing("training and inference on a GPU", "there is none")]
    torch.cuda.reset_peak_memory_stats()
    recipe = load_recipe("modern", "wflw", *SECTIONS)
    figures = [figure for batch in (recipe.train.batch, 256) for figure in throughput(own_device(), recipe, batch)]
    memory = torch.cuda.max_memory_allocated() / 2**30
    figures.append(Figure("GPU: memory", memory, "GiB", "the most that tensors took, training faces included"))
    return figures + faces_by_recipe(torch.device("cuda"), faces=2048)


def throughput(
    device: torch.device,
    recipe,
    batch: int = 256,
    faces: int = 1024,
    photos: int = 8,
    steps: int = 20,
    matrix: int = 8192,
) -> list[Figure]:
    """Images a second with the recipe's precision and compilation, and which share of a matrix product's FLOP/s."""
    n, train, size = batch, recipe.train, recipe.input.size
    with tempfile.TemporaryDirectory() as folder:
        examples = cut_examples(photographs(Path(folder), photos), recipe, Path(folder) / "train.npy", faces)
        model = build(recipe).to(device, memory_format=torch.channels_last)
        forward, both = flops(model, size, device)
        optimizer = optimisation.optimizer(model, train)
        state = TrainingState(model, optimizer, optimisation.EMA(model, train.ema_decay))
        network = fit.compiled(model, train, device)

        def draw(step: int) -> Drawn:
            return examples.draw(epoch_batches(faces, n, 1, step)[0], recipe, step_generator(1, 0, step), device)

        images, maps, _ = examples.batch(draw(0), recipe, device)

        def whole_step(step: int) -> None:
            state.step, state.losses = 0, torch.zeros(1, device=device)
            fit.advance(state, network, examples, draw(step), recipe, train.lr, device)

        training = rate(whole_step, n, steps, device)
        training_alone = rate(lambda step: fit.train_step(network, optimizer, train, images, maps), n, steps, device)
        precision = torch.bfloat16 if train.precision == "bf16" else torch.float32
        fused = hrnet.fuse_for_inference(model).to(device, precision, memory_format=torch.channels_last)
        quick = torch.compile(fused) if train.compile else fused
        images = images.to(precision)

        def landmarks(step: int) -> None:
            pixels = examples.faces.pixels(slice(0, n), device)
            seen = examples.faces.normalise(augment.warp(pixels, examples.faces.windows(n), size))
            heatmap.decode(quick(seen.to(precision)))

        with torch.inference_mode():
            inference = rate(lambda step: quick(images), n, steps, device)
            inference_whole = rate(landmarks, n, steps, device)

    one = torch.randn(matrix, matrix, device=device, dtype=precision)
    peak = rate(lambda step: one @ one, 2 * matrix**3, steps, device)
    how = f"{size}×{size}, batch {n}, {train.precision}, {'compiled' if train.compile else 'not compiled'}"
    of_peak = f"{how}; network alone, {forward / 1e9:.2f} GFLOP an image forward and {both / 1e9:.2f} in all"
    device_name = "GPU" if device.type == "cuda" else device.type.upper()
    if device.type == "cuda":
        device_name += f", batch {n}"
    told = [
        ("training", training, "images/s", how + "; augmentation, targets, averaging included", 4000),
        ("training, network alone", training_alone, "images/s", how, None),
        ("inference", inference, "images/s", how + ", batch norm fused; network alone", 15_000),
        ("inference, crops to landmarks", inference_whole, "images/s", how + ", batch norm fused", None),
        ("matrix product", peak / 1e12, "TFLOP/s", f"{matrix}×{matrix}, {train.precision}", None),
        ("training, share of the product's speed", 100 * training_alone * both / peak, "%", of_peak, None),
        ("inference, share of the product's speed", 100 * inference * forward / peak, "%", of_peak, None),
    ]
    return [Figure(f"{device_name}: {name}", value, unit, how, at_least=goal) for name, value, unit, how, goal in told]


def rate(work: Callable[[int], object], per: int, steps: int, device: torch.device) -> float:
    """How much a second, `per` a step: the median of three rounds of `steps` that nothing waits for in between."""
    rounds = []
    for step in range(-5, 3 * steps):
        if step % steps == 0 and step >= 0:
            began = clock(device)
        work(abs(step))
        if step % steps == steps - 1 and step >= 0:
            rounds.append(clock(device) - began)
    return per * steps / float(np.median(rounds))


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
