"""The training loop.

A step depends only on the state before it and on (seed, epoch, step): a stopped training resumes to the same bits.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stages.model import distributed, optimisation, progress
from stages.model.cuda_graph import CudaGraph
from stages.model.device import device as local_device
from stages.model.device import tf32
from stages.model.examples import Drawn, Examples, ahead, epoch_batches, step_generator
from stages.model.losses import LOSSES
from stages.model.training_state import TrainingState, copied
from stages.system.errors import InputError, stop, stop_deferred

SAVE_EVERY = 60  # seconds between checkpoints, at most that much work is lost …
SAVE_SHARE = 0.05  # … or less, as long as saving takes no more than this share of the time
CONTINUE, SAVE, STOP = range(3)  # what a process asks for after a step; all do what the largest asks for
ASK_EVERY = 10  # steps, with several processes on GPUs, since the answer waits for the GPU


def fit(
    model: nn.Module,
    examples: Examples,
    recipe,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None,
    checkpoint: Path,
    epoch_done: Callable[[Sequence[Mapping[str, float]], float, float], None],
) -> TrainingState:
    """Train `model`, resuming from `checkpoint`, or the one before it where that is damaged.

    validate: returns a model's metrics on val, `val/nme` among them; None if val is empty. Called by all processes.
    epoch_done: called after each epoch with `state.history` (of each finished epoch `epoch`, `train/loss`, `lr` and the
    metrics of `validate`), its duration and the time left, both in seconds. Called by rank 0.
    Returns the final state; with `train.checkpoint: best`, `state.best["model"]` has the weights of that epoch.
    Raises `InputError` where the loss is NaN or infinite, naming the faces of the batch and keeping the checkpoint
    before it, where memory runs out, naming the batch size that fits, and for more processes than faces in a batch.
    """
    device, train = local_device(), recipe.train
    model.to(device, memory_format=torch.channels_last)
    ema = optimisation.EMA(model, train.ema_decay) if train.ema_decay else None
    state = TrainingState(model, optimisation.optimizer(model, train), ema)
    resumed = state.resume(checkpoint)
    if resumed and distributed.rank() == 0:
        print(f"resuming after epoch {state.epoch}, step {state.step} ({resumed})", flush=True)
    network = compiled(distributed.wrap_ddp(model, device, train.sync_norm), train, device)
    compute = gradients_by(train, device)
    steps = len(batches_of(0, len(examples), train, device))  # as in every epoch
    clock = progress.Clock((train.epochs - state.epoch) * steps - state.step)
    with ExitStack() as stack:
        stack.callback(state.finish_writing)
        if distributed.world_size() > 1:  # one that stopped alone would leave the others waiting for it
            stack.enter_context(stop_deferred())
        for epoch in range(state.epoch, train.epochs):
            batches = batches_of(epoch, len(examples), train, device)
            if state.step == 0:
                state.losses = torch.zeros(steps)
            state.losses = state.losses.to(device)
            run_steps(state, network, examples, recipe, batches, compute, clock, checkpoint)
            losses = state.all_reduce_losses()
            require_finite_losses(state, losses, epoch, batches, examples, checkpoint)
            metrics = {"train/loss": float(losses.double().mean()), "lr": state.optimizer.param_groups[0]["lr"]}
            if validate:
                distributed.broadcast_buffers(state.result)
                metrics |= validate(state.result)
                if train.checkpoint == "best" and metrics["val/nme"] < state.best.get("nme", math.inf):
                    weights = copied(state.result.state_dict())
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


def run_steps(
    state: TrainingState,
    network: nn.Module,
    examples: Examples,
    recipe,
    batches: list[np.ndarray],
    compute: Callable[..., Tensor],
    clock: progress.Clock,
    checkpoint: Path,
) -> None:
    """The steps that are left of the epoch, with checkpoints between them. SIGTERM ends it after a step, with one."""
    epoch, train, device = state.epoch, recipe.train, local_device()
    rank, processes = distributed.rank(), distributed.world_size()
    first, stop_of_0 = rank == 0, STOP + processes - 1  # a lower rank asks for more: all know which was told
    steps, asked = len(batches), CONTINUE
    ask_every = ASK_EVERY if device.type == "cuda" and processes > 1 else 1
    name, left_of_epoch, hidden = f"epoch {epoch + 1}/{train.epochs}", steps - state.step, None if first else True
    drawn_steps = drawn_ahead(batches, epoch, state.step, examples, recipe, device)
    with stop_deferred() as stopping:
        for drawn in tqdm(drawn_steps, name, left_of_epoch, leave=False, mininterval=1, disable=hidden):
            lr = optimisation.learning_rate(train, epoch + state.step / steps, 1 / steps)
            advance(state, network, examples, drawn, recipe, lr, device, compute)
            left = clock.step()
            if left is not None and first:
                with tqdm.external_write_mode():
                    print(f"about {progress.duration(left)} left (after step {state.step} of {name})", flush=True)
            if state.step % ask_every and state.step < steps:
                continue
            due = first and time.monotonic() - state.saved > SAVE_EVERY  # several clocks would not agree on a step
            asked = distributed.largest(stop_of_0 - rank if stopping() else SAVE if due else CONTINUE, device)
            if asked != CONTINUE:
                require_finite_losses(state, state.all_reduce_losses(), epoch, batches, examples, checkpoint)
                state.save(checkpoint)
            if asked >= STOP:
                break
        if asked >= STOP:
            state.finish_writing()
            if first or not stopping():
                why = "" if stopping() else f", since process {stop_of_0 - asked} of {processes} was told to"
                print(f"stopping after epoch {epoch}, step {state.step}{why} ({checkpoint})", flush=True)
    if asked >= STOP:  # where the signal went to other processes only
        stop()


def compiled(network: nn.Module, train, device: torch.device) -> nn.Module:
    """The network as a recipe's `train.compile` asks for it on a GPU; on a CPU, where it does not pay, as it is."""
    if train.compile is True and device.type == "cuda":
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs uncompiled
        network = torch.compile(network)
    return network


def gradients_by(train, device: torch.device) -> Callable[..., Tensor]:
    """`gradients` as a recipe's `train.compile` asks for them on a GPU; several processes do without a CUDA graph."""
    recorded = train.compile == "cuda-graph" and device.type == "cuda" and distributed.world_size() == 1
    return CudaGraph(gradients) if recorded else gradients


def batches_of(epoch: int, n: int, train, device: torch.device) -> list[np.ndarray]:
    """The batches of an epoch: of one pass over the faces or, for `train.least_steps`, of several.

    They are of one size where the network is compiled for it, or its step recorded as a CUDA graph.
    """
    full = bool(train.compile) and device.type == "cuda"

    def one_pass(number: int) -> list[np.ndarray]:
        return epoch_batches(n, train.batch, train.seed, number, distributed.world_size(), full)

    passes = max(1, math.ceil(train.least_steps / (train.epochs * len(one_pass(0)))))
    return [batch for number in range(epoch * passes, (epoch + 1) * passes) for batch in one_pass(number)]


def drawn_ahead(
    batches: list[np.ndarray], epoch: int, first: int, examples: Examples, recipe, device: torch.device
) -> Iterator[Drawn]:
    """What is drawn for each of an epoch's steps, from `first` on."""

    def draw(step: int) -> Drawn:
        return examples.draw(batches[step], recipe, step_generator(recipe.train.seed, epoch, step), device)

    return ahead(draw, range(first, len(batches)), device)


def advance(
    state: TrainingState, network: nn.Module, examples: Examples, drawn: Drawn, recipe, lr: float, device: torch.device,
    compute: Callable[..., Tensor] | None = None,
) -> None:  # fmt: skip
    """One step of the training, in which the CPU never waits for a GPU: its loss is left there. compute: of
    `gradients_by`, where they are not computed as usual."""
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    batch = examples.batch(drawn, recipe, device)
    loss = train_step(network, state.optimizer, recipe.train, *batch, drawn.share, compute)
    state.losses[state.step] = loss * drawn.share
    if state.ema:
        state.ema.update()
    state.step += 1


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    train,
    images: Tensor,
    maps: Tensor,
    annotated: Tensor | None = None,
    share: float = 1.0,
    compute: Callable[..., Tensor] | None = None,
) -> Tensor:
    """One step of gradient descent; the loss stays on the device. `share`: this process's share of the batch."""
    network.train()
    try:
        loss = (compute or gradients)(network, train, images, maps, annotated, share)
        optimizer.step()
    except torch.OutOfMemoryError as error:
        raise InputError(out_of_memory(network, optimizer, train, images, maps)) from error
    return loss


def gradients(
    network: nn.Module, train, images: Tensor, maps: Tensor, annotated: Tensor | None = None, share: float = 1.0
) -> Tensor:
    """The loss of a batch; every parameter has its gradient then, and no trace of an earlier one."""
    network.zero_grad(set_to_none=True)
    with tf32(train.precision == "tf32"):
        loss = forward(network, train, images, maps, annotated)
        (loss * (share * distributed.world_size())).backward()  # DDP averages the gradients of the processes
    return loss.detach()


def forward(network: nn.Module, train, images: Tensor, maps: Tensor, annotated: Tensor | None = None) -> Tensor:
    """The loss of a batch over the maps (n, K, H, W) of its `annotated` landmarks (flat indices); None: all of them."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=train.precision == "bf16"):
        predicted = network(images)
    fused = train.compile is True or (train.compile and images.device.type == "cpu")
    predicted, loss = predicted.float(), compiled_loss(train.loss) if fused else LOSSES[train.loss]
    if annotated is None:
        return loss(predicted, maps)
    if not len(annotated):  # a process's part of a batch; the other processes wait for its gradients
        return (predicted * 0).sum()
    return loss(*(of.flatten(0, 1).index_select(0, annotated) for of in (predicted, maps)))


@functools.cache
def compiled_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of many passes over its maps in one; without a C++ compiler, as it is."""
    torch._dynamo.config.suppress_errors = True
    return torch.compile(LOSSES[name])


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
    state: TrainingState, losses: Tensor, epoch: int, batches: list[np.ndarray], examples: Examples, checkpoint: Path
) -> None:
    """Raise `InputError` where a loss of this epoch is NaN or infinite, before anything of the epoch is saved."""
    wrong = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(wrong):
        state.finish_writing()
        step = int(wrong[0])
        faces = ", ".join(examples.face_id[i] for i in batches[step])
        kept = (
            f"the last good checkpoint is kept: {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
        )
        raise InputError(
            f"the loss is NaN or infinite in epoch {epoch + 1}, step {step + 1}; {kept}. Faces of the batch: {faces}. "
            "Lower train.lr, or check these faces."
        )
