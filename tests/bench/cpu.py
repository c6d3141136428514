"""A training step and inference on the CPU: how fast, beside the same network untuned, and what bounds them."""

from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from stages.config.experiment import load_recipe
from stages.model import fit, hrnet, optimisation
from stages.model.device import keep_memory
from tests.bench.data import RECIPES
from tests.bench.measure import Figure, by_turns, timed
from tests.bench.network import SECTIONS, SIZE, a_batch, build, flops

PRECISION = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
PLAIN = "the same network untuned (NCHW, batch norms apart)"


def on_cpu(
    recipes: dict | None = None, size: int = SIZE, batches: tuple[int, ...] = (8, 16), repeats: int = 5
) -> list[Figure]:
    """A step of training by each recipe, with the batch of the recipes for a CPU and the larger one of the others, and
    inference; all beside the network as torch runs it untuned, by turns."""
    keep_memory()
    recipes = recipes or {name: load_recipe(name, "wflw", *SECTIONS) for name in RECIPES}
    figures = [figure for batch in batches for figure in training_steps(recipes, size, batch, repeats)]
    batch = batches[0]
    images, _ = a_batch(batch, size)
    model = build(next(iter(recipes.values()))).eval()
    fused = hrnet.fuse_for_inference(model).to(memory_format=torch.channels_last)
    ours = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        taken = by_turns({"plain": lambda: model(images), "ours": lambda: fused(ours)}, 2 * repeats)
    what = f"{size}×{size}, batch {batch}, {torch.get_num_threads()} cores, fp32, batch norm fused"
    return [
        *figures,
        timed("inference", taken["ours"], batch, what, at_most=55, plain=taken["plain"], baseline_is=PLAIN),
    ]


def training_steps(recipes: dict, size: int, batch: int, repeats: int) -> list[Figure]:
    """Of each recipe the time of a step, how many times as fast it is as the untuned network's, and what bounds it: the
    share of a matrix product's speed, and the shares of the step's time."""
    images, maps = a_batch(batch, size)
    model = build(next(iter(recipes.values())))
    plain_optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def plain_step() -> None:
        plain_optimizer.zero_grad()
        F.mse_loss(model(images), maps).backward()
        plain_optimizer.step()

    works: dict[str, Callable[[], object]] = {PLAIN: plain_step}
    ours = images.contiguous(memory_format=torch.channels_last)
    for name, recipe in recipes.items():
        network, train = build(recipe).to(memory_format=torch.channels_last), recipe.train
        of = network, optimisation.optimizer(network, train), train
        works[name] = lambda of=of: fit.train_step(*of, ours, maps)
    products = {name: torch.randn(4 * size, 4 * size).to(PRECISION[r.train.precision]) for name, r in recipes.items()}
    works |= {f"{name}, product": lambda one=one: one @ one for name, one in products.items()}
    taken = by_turns(works, repeats, warmup=2)

    figures, operations = [], flops(model, size, torch.device("cpu"))[1]
    for name, recipe in recipes.items():
        train = recipe.train
        how = f"{size}×{size}, batch {batch}, {torch.get_num_threads()} cores, {train.precision}, loss {train.loss}"
        goal = 3 if train.precision == "bf16" else 2
        label = f"train step, {name}, batch {batch}"
        speed = batch * operations / taken[name].min()
        product = 2 * (4 * size) ** 3 / taken[f"{name}, product"].min()
        bound = f"{how}: {speed / 1e9:.0f} of {product / 1e9:.0f} GFLOP/s, {operations / 1e9:.2f} GFLOP a face"
        figures += [
            timed(
                label, taken[name], batch, how, plain=taken[PLAIN], baseline_is=f"{PLAIN}, fp32, loss mse",
            ),
            Figure(
                f"{label}: times the untuned speed", taken[PLAIN].min() / taken[name].min(), "times",
                f"{how}; the fastest of {repeats} steps of each, by turns", at_least=goal,
            ),
            Figure(f"{label}: share of a matrix product's speed", 100 * speed / product, "%", bound),
        ]  # fmt: skip
        if batch == 8:
            figures += [
                Figure(f"{label}: time in {kind}", share, "%", how) for kind, share in time_shares(works[name]).items()
            ]
    return figures


def time_shares(step: Callable[[], object]) -> dict[str, float]:
    """The shares in percent of a step's time by kind of operation, as torch's profiler has them."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    kinds = {
        "convolutions": ("conv",),
        "batch norm": ("batch_norm",),
        "the optimiser": ("_fused_adam",),
        "the rest": ("",),
    }
    shares = dict.fromkeys(kinds, 0.0)
    for event in profiler.key_averages():
        kind = next(kind for kind, words in kinds.items() if any(word in event.key for word in words))
        shares[kind] += event.self_cpu_time_total
    return {kind: 100 * time / sum(shares.values()) for kind, time in shares.items()}
