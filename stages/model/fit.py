"""The training loop. What a step does depends on (seed, epoch, step) alone: a killed run goes on to the same bits."""

import ctypes
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stages.data.files import atomic
from stages.errors import InputError
from stages.model import augment, distributed, heatmap, optimise, paper, photometric
from stages.model.hrnet import STRIDE
from stages.model.losses import LOSSES
from stages.model.predict import Batches

SAVE_EVERY = 60  # seconds: how much work a kill may cost


def device() -> torch.device:
    """This process's GPU where there is one."""
    found = distributed.local_device()
    if found.type == "cpu":
        keep_memory()
    return found


def keep_memory() -> None:
    """Let glibc keep freed memory instead of giving it back to the kernel.

    A step takes and frees gigabytes; having their pages mapped anew each time costs a fifth of its CPU time (measured).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def batches_of(n: int, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Indices of an epoch's batches: a new order every epoch, sizes as even as can be (no rump for batch norm)."""
    order = np.random.default_rng((seed, epoch)).permutation(n)
    return np.array_split(order, math.ceil(n / batch))


def generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The randomness of one step."""
    words = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


@dataclass
class Examples:
    """Training faces: their pixels, and the landmarks (N, K, 2) float64 in px of `faces.images`."""

    faces: Batches
    landmarks: Tensor
    face_id: list[str]
    flip_order: Tensor  # (K,)

    def batch(self, index: np.ndarray, recipe, random: torch.Generator, on: torch.device) -> tuple[Tensor, Tensor]:
        """Augmented images (n, 3, s, s), normalised, and their target heat maps (n, K, s/4, s/4), on the device.

        index: the faces of the whole batch; n of them are this process's. All draws are made for the whole, so that
        their number does not depend on the number of processes.
        """
        size, mine = recipe.input.size, distributed.share(len(index))
        changes, mirrored = augment.draw_changes(len(index), recipe.augment, size, random)
        drawn, seed = photometric.draw(len(index), random)[mine], int(torch.randint(2**62, (), generator=random))
        index, mirrored = index[mine], mirrored[mine]
        windows = augment.chain(self.faces.windows(len(index)), changes[mine])
        points = augment.to_input(windows, self.landmarks[index])
        points = torch.where(mirrored[:, None, None], points[:, self.flip_order], points)

        images = augment.warp(self.faces.pixels(index, on), windows, size)
        images = self.faces.finish(photometric.change(images, recipe.augment, drawn, seed))
        cells = heatmap.to_cells(points).float().to(on, non_blocking=True)
        if recipe.target.rounding == "paper":
            maps = paper.targets_at(cells + 0.5, recipe.target.sigma, size // STRIDE)
        else:
            maps = heatmap.encode(cells, size // STRIDE, recipe.target.sigma)
        return images, maps


@dataclass
class State:
    """All that a training is, between two steps."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: optimise.Average | None
    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in the epoch under way
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))  # of those steps, this process's part
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, object] = field(default_factory=dict)  # epoch, nme, model

    @property
    def result(self) -> nn.Module:
        """The model that is measured and kept: the average where there is one."""
        return self.average.model if self.average else self.model

    def save(self, path: Path) -> None:
        """Write it, whole or not at all; rank 0's part of the losses stands for all after `share_losses`."""
        if distributed.rank() == 0:
            content = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average and {"model": self.average.model.state_dict(), "steps": self.average.steps},
                "progress": {"epoch": self.epoch, "step": self.step, "history": self.history},
                "losses": self.losses,
                "best": self.best,
            }
            with atomic(path) as temporary:
                torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Go back to a saved state, in all processes. Raises `InputError` where the file is damaged."""
        try:
            first = distributed.rank() == 0
            content = torch.load(path, map_location="cpu", weights_only=True) if first else None
            content = distributed.from_first(content)
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.average:
                self.average.model.load_state_dict(content["average"]["model"])
                self.average.steps = content["average"]["steps"]
        except Exception as error:  # torch raises a dozen kinds for damaged files
            raise InputError(f"the checkpoint {path} cannot be read ({error}): delete it to start anew.") from error
        self.epoch, self.step = content["progress"]["epoch"], content["progress"]["step"]
        self.history, self.best = content["progress"]["history"], content["best"]
        self.losses = content["losses"] if first else torch.zeros_like(content["losses"])

    def share_losses(self) -> Tensor:
        """The losses of the epoch's steps over all processes; afterwards rank 0 holds them and the others hold none."""
        whole = distributed.total(self.losses.clone())
        self.losses = whole.clone() if distributed.rank() == 0 else torch.zeros_like(whole)
        return whole[: self.step]


def fit(
    model: nn.Module,
    examples: Examples,
    recipe,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None,
    checkpoint: Path,
    epoch_done: Callable[[int, dict[str, float], float], None],
) -> State:
    """Train `model`, going on from `checkpoint` where it exists.

    validate: gives metrics of a model on val, `val/nme` among them; None where there is no val. Called by rank 0.
    epoch_done: called after each epoch with its number, its metrics and the seconds it took.
    Returns the final state; `state.best["model"]` holds the weights of the best epoch on val.
    Raises `InputError` with the faces of the batch where the loss is no number, the checkpoint before it being kept,
    and with the batch size that fits where memory ends.
    """
    on, train = device(), recipe.train
    model.to(on, memory_format=torch.channels_last)
    average = optimise.Average(model, train.average) if train.average else None
    state = State(model, optimise.optimizer(model, train), average)
    if distributed.from_first(checkpoint.exists()):
        state.load(checkpoint)
        if distributed.rank() == 0:
            print(f"going on after epoch {state.epoch}, step {state.step} ({checkpoint})", flush=True)
    network = distributed.spread(model, on, train.sync_norm)
    if train.compile and on.type == "cuda":
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
        network = torch.compile(network)
    saved = time.monotonic()
    for epoch in range(state.epoch, train.epochs):
        began = time.monotonic()
        batches = batches_of(len(examples.face_id), train.batch, train.seed, epoch)
        if state.step == 0:
            state.losses = torch.zeros(len(batches))
        state.losses = state.losses.to(on)
        hidden = None if distributed.rank() == 0 else True
        steps = tqdm(batches[state.step :], f"epoch {epoch + 1}", leave=False, mininterval=1, disable=hidden)
        for index in steps:
            now = optimise.rate(train, epoch + state.step / len(batches))
            for group in state.optimizer.param_groups:
                group["lr"] = now
            images, maps = examples.batch(index, recipe, generator(train.seed, epoch, state.step), on)
            part = len(images) / len(index)  # of the batch: uneven parts count by their faces
            state.losses[state.step] = train_step(network, state.optimizer, train, images, maps, part) * part
            if state.average:
                state.average.update(model)
            state.step += 1
            # by rank 0's clock; the others must not disagree, so with several processes only epochs are saved
            if distributed.world() == 1 and time.monotonic() - saved > SAVE_EVERY:
                refuse_no_number(state.share_losses(), epoch, batches, examples, checkpoint)
                state.save(checkpoint)
                saved = time.monotonic()
        losses = state.share_losses()
        refuse_no_number(losses, epoch, batches, examples, checkpoint)
        metrics = {"train/loss": float(losses.double().mean()), "lr": state.optimizer.param_groups[0]["lr"]}
        if distributed.rank() == 0:
            metrics |= validate(state.result) if validate else {}
            if validate and metrics["val/nme"] < state.best.get("nme", math.inf):
                weights = {name: tensor.detach().cpu().clone() for name, tensor in state.result.state_dict().items()}
                state.best = {"epoch": epoch + 1, "nme": metrics["val/nme"], "model": weights}
        state.epoch, state.step = epoch + 1, 0
        state.history.append({"epoch": epoch + 1, **metrics})
        state.save(checkpoint)
        saved = time.monotonic()
        distributed.wait()
        if distributed.rank() == 0:
            epoch_done(epoch + 1, metrics, time.monotonic() - began)
    return state


def train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, train, images: Tensor, maps: Tensor, part: float = 1.0
) -> Tensor:
    """One step down the gradient; the loss stays on the device. `part`: this process's share of the batch."""
    network.train()
    optimizer.zero_grad(set_to_none=True)
    try:
        loss = forward(network, train, images, maps)
        (loss * (part * distributed.world())).backward()  # the processes' gradients are averaged
        optimizer.step()
    except torch.OutOfMemoryError as error:
        raise InputError(out_of_memory(network, optimizer, train, images, maps)) from error
    return loss.detach()


def forward(network: nn.Module, train, images: Tensor, maps: Tensor) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=train.precision == "bf16"):
        predicted = network(images)
    return LOSSES[train.loss](predicted.float(), maps)


def out_of_memory(network: nn.Module, optimizer, train, images: Tensor, maps: Tensor) -> str:
    """What to tell: the batch size whose forward and backward pass fits, found by trying."""
    n = len(images)
    optimizer.zero_grad(set_to_none=True)
    while n > 1:
        n //= 2
        if images.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            forward(network, train, images[:n], maps[:n]).backward()
        except torch.OutOfMemoryError:
            continue
        fits = n * distributed.world()
        return f"memory ran out in a step of {train.batch} faces. {fits} would fit: set train.batch to {fits} or less."
    return "memory ran out even for one face: use a smaller input.size or model, or a larger GPU."


def refuse_no_number(
    losses: Tensor, epoch: int, batches: list[np.ndarray], examples: Examples, checkpoint: Path
) -> None:
    """Raise `InputError` where a loss of this epoch is not finite, before anything of it is saved."""
    wrong = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(wrong):
        step = int(wrong[0])
        faces = ", ".join(examples.face_id[i] for i in batches[step])
        kept = (
            f"the last good checkpoint is kept: {checkpoint}" if checkpoint.exists() else "no checkpoint was made yet"
        )
        raise InputError(
            f"the loss is no number in epoch {epoch + 1}, step {step + 1}; {kept}. The batch's faces: {faces}. "
            "Lower train.lr, or look at these faces."
        )
