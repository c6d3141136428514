"""One process, many on one machine, many on several: what is known from the environment that torchrun makes.

Ranks never come from the parameters, so the number of GPUs changes no hash.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

LAUNCHER = "LANDMARKS_LAUNCHER"  # such as: torchrun --standalone --nproc-per-node 8


def relaunch(module: str, arguments: Sequence[str]) -> None:
    """Become the launcher that the environment names, where this process was not started by one."""
    launcher = os.environ.get(LAUNCHER, "").split()
    if launcher and "WORLD_SIZE" not in os.environ:
        os.execvp(launcher[0], [*launcher, "-m", module, *arguments])


def join(device: torch.device) -> None:
    """Meet the other processes, if there are any."""
    if world() > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is; 0 alone writes and logs."""
    return int(os.environ.get("RANK", "0"))


def local_device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cuda", torch.cuda.current_device())


def share(n: int) -> slice:
    """This process's part of a batch of n faces; parts differ by one face at most."""
    low, high = (n * (rank() + i) // world() for i in (0, 1))
    return slice(low, high)


def from_first(content: object) -> object:
    """What rank 0 has, everywhere."""
    if world() == 1:
        return content
    box = [content]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        distributed.all_reduce(values)
    return values


def wait() -> None:
    """Until all are here."""
    if world() > 1:
        distributed.barrier()


class _Sum(torch.autograd.Function):
    """The sum over all processes, through which gradients flow: each process's loss depends on every part."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        return total(values.clone())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return total(gradient.contiguous())


class SyncNorm(nn.BatchNorm2d):
    """Batch norm over the faces of all processes, on any device (torch's own needs a GPU)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        count = torch.tensor([x.numel() / x.shape[1]], dtype=x.dtype, device=x.device)
        sums = _Sum.apply(torch.cat([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), count]))
        n, c = sums[-1], x.shape[1]
        mean, square = sums[:c] / n, sums[c:-1] / n
        variance = square - mean * mean
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


def spread(model: nn.Module, device: torch.device, sync_norm: bool) -> nn.Module:
    """The model as all processes train it; its weights and buffers are rank 0's."""
    if world() == 1:
        return model
    if sync_norm:
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncNorm  # same tensors, another forward pass
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
