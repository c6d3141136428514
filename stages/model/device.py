"""The device that this process computes on."""

import ctypes
import os
import sys

import torch


def device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cuda", torch.cuda.current_device())
    keep_memory()
    return torch.device("cpu")


def keep_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the kernel.

    A step allocates and frees gigabytes; mapping their pages anew each time costs a fifth of its CPU time (measured).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
