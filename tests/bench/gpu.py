"""Training and inference on a GPU: how many images a second, beside steps launched kernel by kernel, and what bounds
them."""

import tempfile
from collections.abc import Callable
from copy import copy
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from stages.config.experiment import load_recipe
from stages.model import augment, fit, heatmap, hrnet, optimisation
from stages.model.device import device as own_device
from stages.model.examples import Drawn, epoch_batches, step_generator
from stages.model.training_state import TrainingState
from tests.bench.data import cut_examples, photographs
from tests.bench.measure import Figure, Missing
from tests.bench.network import SECTIONS, build, clock, faces_by_recipe, flops

KINDS = {  # of kernels, by words of their names
    "batch norm": ("bn_", "batch_norm", "batchnorm"),
    "convolutions": ("conv", "xmma", "cudnn", "wgrad", "dgrad", "fprop", "cutlass", "gemm", "cublas"),
    "the optimiser and the average": ("adam", "lerp", "multi_tensor"),
    "the rest": ("",),
}


def on_gpu() -> list[Figure | Missing]:
    if not torch.cuda.is_available():
        return [Missing("training and inference on a GPU", "there is none")]
    recipe = load_recipe("modern", "wflw", *SECTIONS)
    figures = [figure for batch in (recipe.train.batch, 256) for figure in throughput(own_device(), recipe, batch)]
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
    """Images a second with the recipe's precision and compilation, their share of a matrix product's FLOP/s, and where
    the time of a step goes."""
    n, train, size = batch, recipe.train, recipe.input.size
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        examples = cut_examples(photographs(Path(folder), photos), recipe, Path(folder) / "train.npy", faces)
        model = build(recipe).to(device, memory_format=torch.channels_last)
        forward, both = flops(model, size, device)
        state = TrainingState(
            model, optimisation.optimizer(model, train), optimisation.EMA(model, train.ema_decay or 0.9)
        )
        plain = copy(recipe)
        plain.train = train.model_copy(update={"compile": False})

        def draw(step: int) -> Drawn:
            return examples.draw(epoch_batches(faces, n, 1, step)[0], recipe, step_generator(1, 0, step), device)

        def whole_step(by, compiled: torch.nn.Module) -> Callable[[int], None]:
            compute = fit.gradients_by(by.train, device)

            def work(step: int) -> None:
                state.step, state.losses = 0, torch.zeros(1, device=device)
                fit.advance(state, compiled, examples, draw(step), by, train.lr, device, compute)

            return work

        network, compute = fit.compiled(model, train, device), fit.gradients_by(train, device)
        images, maps, _ = examples.batch(draw(0), recipe, device)
        step = whole_step(recipe, network)
        training, one_by_one = rate(step, n, steps, device), rate(whole_step(plain, model), n, steps, device)
        training_alone = rate(
            lambda step: fit.train_step(network, state.optimizer, train, images, maps, None, 1.0, compute),
            n, steps, device,
        )  # fmt: skip
        profiled = step_profile(step, device)
        precision = torch.bfloat16 if train.precision == "bf16" else torch.float32
        fused = hrnet.fuse_for_inference(model).to(device, precision, memory_format=torch.channels_last)
        images = images.to(precision)

        def landmarks(step: int) -> None:
            pixels = examples.faces.pixels(slice(0, n), device)
            seen = examples.faces.normalise(augment.warp(pixels, examples.faces.windows(n), size))
            heatmap.decode(fused(seen.to(precision)))

        with torch.inference_mode():
            inference = rate(lambda step: fused(images), n, steps, device)
            inference_whole = rate(landmarks, n, steps, device)

    one = torch.randn(matrix, matrix, device=device, dtype=precision)
    peak = rate(lambda step: one @ one, 2 * matrix**3, steps, device)
    how = f"{size}×{size}, batch {n}, {train.precision}"
    by = {False: how, True: f"{how}, compiled"}.get(train.compile, f"{how}, {train.compile}")
    of_peak = f"{by}; network alone, {forward / 1e9:.2f} GFLOP an image forward and {both / 1e9:.2f} in all"
    device_name = "GPU" if device.type == "cuda" else device.type.upper()
    if device.type == "cuda":
        device_name += f", batch {n}"
    told = [
        ("training", training, "images/s", by + "; augmentation, targets, averaging included", 4000),
        ("training, kernels launched one by one", one_by_one, "images/s", how + "; otherwise the same", None),
        ("training, network alone", training_alone, "images/s", by, None),
        ("inference", inference, "images/s", how + ", batch norm fused; network alone", 15_000),
        ("inference, crops to landmarks", inference_whole, "images/s", how + ", batch norm fused", None),
        ("matrix product", peak / 1e12, "TFLOP/s", f"{matrix}×{matrix}, {train.precision}", None),
        ("training, share of the product's speed", 100 * training_alone * both / peak, "%", of_peak, None),
        ("inference, share of the product's speed", 100 * inference * forward / peak, "%", of_peak, None),
        *((name, value, unit, by, None) for name, value, unit in profiled),
    ]
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
        told.append(("memory", memory, "GiB", by + "; the most that tensors took, training faces included", None))
    return [Figure(f"{device_name}: {name}", value, unit, how, at_least=goal) for name, value, unit, how, goal in told]


def step_profile(step: Callable[[int], None], device: torch.device) -> list[tuple[str, float, str]]:
    """Name, value and unit: how long a step's kernels take, how many there are, and their shares by kind."""
    if device.type != "cuda":
        return []
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for number in range(3):
            step(number)
        torch.cuda.synchronize(device)
    shares, count = dict.fromkeys(KINDS, 0.0), 0
    for event in profiler.key_averages():
        if event.self_device_time_total > 0:
            name = event.key.lower()
            shares[next(kind for kind, words in KINDS.items() if any(word in name for word in words))] += (
                event.self_device_time_total
            )
            count += event.count
    total = sum(shares.values())
    return [
        ("kernels of a training step", total / 3000, "ms"),
        ("launches of a training step", count / 3, "kernels"),
        *((f"time of a step's kernels in {kind}", 100 * time / total, "%") for kind, time in shares.items()),
    ]


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
