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
from stages.model import augment, heatmap, paper
from stages.model.hrnet import STRIDE
from stages.model.losses import LOSSES
from stages.model.predict import Batches

SAVE_EVERY = 60  # seconds: how much work a kill may cost


def device() -> torch.device:
    """The GPU where there is one."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    keep_memory()
    return torch.device("cpu")


def keep_memory() -> None:
    """Let glibc keep freed memory instead of giving it back to the kernel.

    A step takes and frees gigabytes; having their pages mapped anew each time costs a fifth of its CPU time (measured).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def rate(train, epoch: int) -> float:
    """The learning rate of an epoch (from 0): × gamma after each milestone."""
    return train.lr * train.gamma ** sum(epoch >= milestone for milestone in train.milestones)


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
        """Augmented images (n, 3, s, s), normalised, and their target heat maps (n, K, s/4, s/4), on the device."""
        size = recipe.input.size
        changes, mirrored = augment.draw_changes(len(index), recipe.augment, size, random)
        windows = augment.chain(self.faces.windows(len(index)), changes)
        points = augment.to_input(windows, self.landmarks[index])
        points = torch.where(mirrored[:, None, None], points[:, self.flip_order], points)

        pixels = torch.from_numpy(self.faces.images[index]).to(on, non_blocking=True)
        images = self.faces.sample(pixels, windows)
        cells = heatmap.to_cells(points).float().to(on)
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
    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in the epoch under way
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))  # of those steps
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, object] = field(default_factory=dict)  # epoch, nme, model

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {"epoch": self.epoch, "step": self.step, "history": self.history},
            "losses": self.losses,
            "best": self.best,
        }
        with atomic(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Go back to a saved state. Raises `InputError` where the file is damaged."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
        except Exception as error:  # torch raises a dozen kinds for damaged files
            raise InputError(f"the checkpoint {path} cannot be read ({error}): delete it to start anew.") from error
        self.epoch, self.step = content["progress"]["epoch"], content["progress"]["step"]
        self.history, self.losses, self.best = content["progress"]["history"], content["losses"], content["best"]


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

    validate: gives metrics of the model on val, `val/nme` among them; None where there is no val.
    epoch_done: called after each epoch with its number, its metrics and the seconds it took.
    Returns the final state; `state.best["model"]` holds the weights of the best epoch on val.
    Raises `InputError` with the faces of the batch where the loss is no number; the checkpoint before it stays.
    """
    on = device()
    model.to(on, memory_format=torch.channels_last)
    state = State(model, torch.optim.Adam(model.parameters(), recipe.train.lr, fused=True))
    if checkpoint.exists():
        state.load(checkpoint)
        print(f"going on after epoch {state.epoch}, step {state.step} ({checkpoint})", flush=True)
    saved = time.monotonic()
    for epoch in range(state.epoch, recipe.train.epochs):
        began = time.monotonic()
        batches = batches_of(len(examples.face_id), recipe.train.batch, recipe.train.seed, epoch)
        if state.step == 0:
            state.losses = torch.zeros(len(batches), device=on)
        state.losses = state.losses.to(on)
        for group in state.optimizer.param_groups:
            group["lr"] = rate(recipe.train, epoch)
        steps = tqdm(batches[state.step :], f"epoch {epoch + 1}", leave=False, mininterval=1, disable=None)
        for index in steps:
            random = generator(recipe.train.seed, epoch, state.step)
            images, maps = examples.batch(index, recipe, random, on)
            state.losses[state.step] = train_step(model, state.optimizer, LOSSES[recipe.train.loss], images, maps)
            state.step += 1
            if time.monotonic() - saved > SAVE_EVERY:
                refuse_no_number(state, epoch, batches, examples, checkpoint)
                state.save(checkpoint)
                saved = time.monotonic()
        refuse_no_number(state, epoch, batches, examples, checkpoint)
        metrics = {
            "train/loss": float(state.losses.double().mean()),
            "lr": rate(recipe.train, epoch),
        }
        metrics |= validate(model) if validate else {}
        if validate and metrics["val/nme"] < state.best.get("nme", math.inf):
            weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            state.best = {"epoch": epoch + 1, "nme": metrics["val/nme"], "model": weights}
        state.epoch, state.step = epoch + 1, 0
        state.history.append({"epoch": epoch + 1, **metrics})
        state.save(checkpoint)
        saved = time.monotonic()
        epoch_done(epoch + 1, metrics, time.monotonic() - began)
    return state


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, loss_of, images: Tensor, maps: Tensor) -> Tensor:
    """One step down the gradient; the loss stays on the device."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model(images), maps)
    loss.backward()
    optimizer.step()
    return loss.detach()


def refuse_no_number(state: State, epoch: int, batches: list[np.ndarray], examples: Examples, checkpoint: Path) -> None:
    """Raise `InputError` where a loss of this epoch is not finite, before anything of it is saved."""
    wrong = torch.nonzero(~torch.isfinite(state.losses[: state.step])).flatten()
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
