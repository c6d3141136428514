"""Data-parallel training over several processes, on one machine or more: process group, collectives and DDP.

World size and rank come from the environment that torchrun sets, never from the parameters, so that the number of GPUs
changes no hash. In a single process the collectives do nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.system.errors import InputError

LAUNCHER = "LANDMARKS_LAUNCHER"  # such as: torchrun --standalone --nproc-per-node 8
TIMEOUT = timedelta(minutes=10)  # of a process that waits for the others


def relaunch(module: str, arguments: Sequence[str]) -> None:
    """Replace this process by the launcher that the environment names, unless a launcher started it."""
    launcher = os.environ.get(LAUNCHER, "").split()
    if launcher and "WORLD_SIZE" not in os.environ:
        os.execvp(launcher[0], [*launcher, "-m", module, *arguments])


def init_process_group(device: torch.device) -> None:
    if world_size() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)


@contextmanager
def lost_processes() -> Iterator[None]:
    """A process that died, or did not answer within TIMEOUT, as an `InputError` of those that waited for it."""
    try:
        yield
    except RuntimeError as error:  # gloo's errors have no type of their own
        lost = isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "peer"))
        if world_size() == 1 or not lost:
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"process {rank()} of {world_size()} waited for another one that ended, or that did not answer within "
            f"{TIMEOUT.seconds // 60} minutes ({reason}). See the message of that process; the same command continues "
            "from the last checkpoint."
        ) from error


def destroy_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The rank of this process; only rank 0 writes and logs."""
    return int(os.environ.get("RANK", "0"))


def local_slice(n: int) -> slice:
    """This process's part of a batch of n faces; the parts' sizes differ by one at most."""
    start, stop = (n * (rank() + i) // world_size() for i in (0, 1))
    return slice(start, stop)


def broadcast(content: object) -> object:
    """Rank 0's `content`, in all processes."""
    if world_size() == 1:
        return content
    contents = [content]
    dist.broadcast_object_list(contents, src=0)
    return contents[0]


def all_reduce(values: Tensor) -> Tensor:
    """The sum of `values` over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def largest(value: int, device: torch.device) -> int:
    """The largest `value` of all processes, each of which waits for its device."""
    if world_size() == 1:
        return value
    values = torch.tensor(value, device=device)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return int(values)


def gather(array: np.ndarray) -> np.ndarray:
    """The arrays of all processes, concatenated in the order of the ranks."""
    if world_size() == 1:
        return array
    parts: list = [None] * world_size()
    dist.all_gather_object(parts, array)
    return np.concatenate(parts)


def broadcast_buffers(model: nn.Module) -> None:
    """Give all processes rank 0's buffers: without `sync_norm` each has the batch norm statistics of its own faces."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


class _AllReduce(torch.autograd.Function):
    """Differentiable all-reduce: every process's loss depends on the values of all.

    torch 2.13 deprecates its own, `torch.distributed.nn.functional.all_reduce`, in favour of a private module.
    """

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        return all_reduce(values.clone())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return all_reduce(gradient.contiguous())


class SyncBatchNormCPU(nn.BatchNorm2d):
    """Batch norm over the faces of all processes on the CPU, where nn.SyncBatchNorm raises ValueError."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        count = torch.tensor([x.numel() / x.shape[1]], dtype=x.dtype, device=x.device)
        sums = _AllReduce.apply(torch.cat([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), count]))
        n, c = sums[-1], x.shape[1]
        mean, square = sums[:c] / n, sums[c:-1] / n
        variance = square - mean * mean
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


def wrap_ddp(model: nn.Module, device: torch.device, sync_norm: bool) -> nn.Module:
    """The model for data-parallel training; its weights and buffers become rank 0's.

    sync_norm: whether batch norm is over all processes; the model's own norms are then replaced, with the same tensors.
    """
    if world_size() == 1:
        return model
    if sync_norm and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif sync_norm:
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncBatchNormCPU
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def unwrap_ddp(network: nn.Module) -> nn.Module:
    """The model of `wrap_ddp`, compiled or not, for good without its collectives: it waits for no other process."""
    network = getattr(network, "_orig_mod", network)
    network = network.module if isinstance(network, DistributedDataParallel) else network
    for module in network.modules():
        if isinstance(module, nn.SyncBatchNorm | SyncBatchNormCPU):
            module.__class__ = nn.BatchNorm2d
    return network
