"""The device that this process computes on."""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def device() -> torch.device:
    """This process's GPU, or the CPU where there is none.

    fp32 is then fp32: torch lets cuDNN's convolutions use TF32, whose 10 bits of mantissa move a prediction by more
    than the last digit of a table. `tf32` allows it where a recipe asks for it.
    """
    if torch.cuda.is_available():
        _allow_tf32(False)
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cuda", torch.cuda.current_device())
    keep_memory()
    return torch.device("cpu")


def computes_bf16(on: torch.device) -> bool:
    """Whether the device multiplies bf16 numbers itself, faster than fp32, instead of converting them."""
    if on.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Matrix products and convolutions in TF32 on a GPU, in this block alone."""
    _allow_tf32(allowed)
    try:
        yield
    finally:
        _allow_tf32(False)


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


@functools.cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A constant on the device, copied there once: every copy of ordinary memory to a GPU waits for it."""
    return torch.tensor(values, device=device)


def pin(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in page-locked memory where a GPU is to copy it while the CPU goes on; else as it is."""
    return tensor.pin_memory() if device.type == "cuda" and torch.cuda.is_available() else tensor


def keep_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the kernel.

    A step allocates and frees gigabytes; mapping their pages anew each time costs a fifth of its CPU time (measured).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
