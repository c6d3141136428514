"""The training loop.

A step depends only on the state before it and on (seed, epoch, step): a stopped training resumes to the same bits.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stages.model import distributed, optimisation, progress
from stages.model.device import device as local_device
from stages.model.device import tf32
from stages.model.examples import Examples, epoch_batches, step_generator
from stages.model.losses import LOSSES
from stages.model.training_state import TrainingState
from stages.system.errors import InputError

SAVE_EVERY = 60  # seconds between checkpoints, at most that much work is lost …
SAVE_SHARE = 0.05  # … or less, as long as saving takes no more than this share of the time


def fit(
    model: nn.Module,
    examples: Examples,
    recipe,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None,
    checkpoint: Path,
    epoch_done: Callable[[Sequence[Mapping[str, float]], float, float], None],
) -> TrainingState:
    """Train `model`, resuming from `checkpoint` if it exists.

    validate: returns a model's metrics on val, `val/nme` among them; None if val is empty. Called by all processes.
    epoch_done: called after each epoch with `state.history` (of each finished epoch `epoch`, `train/loss`, `lr` and the
    metrics of `validate`), its duration and the time left, both in seconds. Called by rank 0.
    Returns the final state; with `train.checkpoint: best`, `state.best["model"]` has the weights of that epoch.
    Raises `InputError` where the loss is NaN or infinite, naming the faces of the batch and keeping the checkpoint
    before it, where memory runs out, naming the batch size that fits, and for more processes than faces in a batch.
    """
    device, train = local_device(), recipe.train
    model.to(device, memory_format=torch.channels_last)
    ema = optimisation.ema_model(model, train.ema_decay) if train.ema_decay else None
    state = TrainingState(model, optimisation.optimizer(model, train), ema)
    if distributed.broadcast(checkpoint.exists()):
        state.load(checkpoint)
        if distributed.rank() == 0:
            print(f"resuming after epoch {state.epoch}, step {state.step} ({checkpoint})", flush=True)
    network = distributed.wrap_ddp(model, device, train.sync_norm)
    if train.compile and device.type == "cuda":
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs uncompiled
        network = torch.compile(network)
    steps = len(epoch_batches(len(examples), train.batch, train.seed, 0, distributed.world_size()))  # as in every epoch
    clock = progress.Clock((train.epochs - state.epoch) * steps - state.step)
    for epoch in range(state.epoch, train.epochs):
        batches = epoch_batches(len(examples), train.batch, train.seed, epoch, distributed.world_size())
        if state.step == 0:
            state.losses = torch.zeros(len(batches))
        state.losses = state.losses.to(device)
        hidden = None if distributed.rank() == 0 else True
        name = f"epoch {epoch + 1}/{train.epochs}"
        for index in tqdm(batches[state.step :], name, leave=False, mininterval=1, disable=hidden):
            lr = optimisation.learning_rate(train, epoch + state.step / len(batches), 1 / len(batches))
            for group in state.optimizer.param_groups:
                group["lr"] = lr
            batch = examples.batch(index, recipe, step_generator(train.seed, epoch, state.step), device)
            share = examples.local_share(index)
            state.losses[state.step] = train_step(network, state.optimizer, train, *batch, share) * share
            if state.ema:
                state.ema.update_parameters(model)
            state.step += 1
            left = clock.step()
            if left is not None and distributed.rank() == 0:
                with tqdm.external_write_mode():
                    print(f"about {progress.duration(left)} left (after step {state.step} of {name})", flush=True)
            # with several processes only epochs are saved, since their clocks would not agree on a step
            if distributed.world_size() == 1 and time.monotonic() - state.saved > SAVE_EVERY:
                require_finite_losses(state.all_reduce_losses(), epoch, batches, examples, checkpoint)
                state.save(checkpoint)
        losses = state.all_reduce_losses()
        require_finite_losses(losses, epoch, batches, examples, checkpoint)
        metrics = {"train/loss": float(losses.double().mean()), "lr": state.optimizer.param_groups[0]["lr"]}
        if validate:
            distributed.broadcast_buffers(state.result)
            metrics |= validate(state.result)
            if train.checkpoint == "best" and metrics["val/nme"] < state.best.get("nme", math.inf):
                weights = {name: tensor.detach().cpu().clone() for name, tensor in state.result.state_dict().items()}
                state.best = {"epoch": epoch + 1, "nme": metrics["val/nme"], "model": weights}
        state.epoch, state.step = epoch + 1, 0
        state.history.append({"epoch": epoch + 1, **metrics})
        since = time.monotonic() - state.saved
        if since > SAVE_EVERY or state.cost <= SAVE_SHARE * since or state.epoch == train.epochs:
            state.save(checkpoint)
        seconds, left = clock.epoch()
        if distributed.rank() == 0:
            epoch_done(state.history, seconds, left)
    return state


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    train,
    images: Tensor,
    maps: Tensor,
    annotated: Tensor | None = None,
    share: float = 1.0,
) -> Tensor:
    """One step of gradient descent; the loss stays on the device. `share`: this process's share of the batch."""
    network.train()
    optimizer.zero_grad(set_to_none=True)
    try:
        with tf32(train.precision == "tf32"):
            loss = forward(network, train, images, maps, annotated)
            (loss * (share * distributed.world_size())).backward()  # DDP averages the gradients of the processes
        optimizer.step()
    except torch.OutOfMemoryError as error:
        raise InputError(out_of_memory(network, optimizer, train, images, maps)) from error
    return loss.detach()


def forward(network: nn.Module, train, images: Tensor, maps: Tensor, annotated: Tensor | None = None) -> Tensor:
    """The loss of a batch over the maps (n, K, H, W) of its `annotated` (n, K) landmarks; None: all of them."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=train.precision == "bf16"):
        predicted = network(images)
    predicted = predicted.float()
    if annotated is None:
        return LOSSES[train.loss](predicted, maps)
    if not annotated.any():  # a process's part of a batch; the other processes wait for its gradients
        return (predicted * 0).sum()
    return LOSSES[train.loss](predicted[annotated], maps[annotated])


def out_of_memory(network: nn.Module, optimizer, train, images: Tensor, maps: Tensor) -> str:
    """The message for the user, with the largest batch size, halving, whose forward and backward pass fits."""
    n = len(images)
    network = distributed.unwrap_ddp(network)  # the other processes have not run out of memory, and try nothing
    optimizer.zero_grad(set_to_none=True)
    while n > 1:
        n //= 2
        if images.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            forward(network, train, images[:n], maps[:n]).backward()
        except torch.OutOfMemoryError:
            continue
        fits = n * distributed.world_size()
        return f"out of memory in a step of {train.batch} faces. {fits} would fit: set train.batch to {fits} or less."
    return "out of memory even for one face: use a smaller input.size or model, or a larger GPU."


def require_finite_losses(
    losses: Tensor, epoch: int, batches: list[np.ndarray], examples: Examples, checkpoint: Path
) -> None:
    """Raise `InputError` where a loss of this epoch is NaN or infinite, before anything of the epoch is saved."""
    wrong = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(wrong):
        step = int(wrong[0])
        faces = ", ".join(examples.face_id[i] for i in batches[step])
        kept = (
            f"the last good checkpoint is kept: {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
        )
        raise InputError(
            f"the loss is NaN or infinite in epoch {epoch + 1}, step {step + 1}; {kept}. Faces of the batch: {faces}. "
            "Lower train.lr, or check these faces."
        )
