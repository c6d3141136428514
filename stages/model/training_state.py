"""The state of a training between two steps, and its checkpoint for resuming."""

import hashlib
import io
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.model import distributed
from stages.model.optimisation import EMA
from stages.system.errors import InputError
from stages.system.files import atomic

HASH = 32  # bytes of the SHA-256 that a checkpoint begins with


@dataclass
class TrainingState:
    """Everything that the next step depends on, besides the parameters and the data."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | None
    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in the current epoch
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))  # of the epoch's steps, this process's part
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, object] = field(
        default_factory=dict
    )  # epoch, nme and model of the best epoch on val, if it is kept
    saved: float = field(default_factory=time.monotonic)  # when
    cost: float = 0.0  # seconds of copying for the last checkpoint and of writing the one before
    writing: Future | None = None  # of the last checkpoint

    @property
    def result(self) -> nn.Module:
        """The model that is validated and kept: the EMA if there is one."""
        return self.ema.module if self.ema else self.model

    def save(self, path: Path) -> None:
        """Copy the state and write the copy as a checkpoint, whole or not at all, while the training goes on.

        Call `all_reduce_losses` first, as only rank 0 writes, and `finish_writing` in the end. An error of the write
        before is raised here.
        """
        if distributed.rank() == 0:
            wrote = self.finish_writing()
            began = time.monotonic()
            content = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict() if self.ema else None,
                "progress": {"epoch": self.epoch, "step": self.step, "history": self.history},
                "losses": self.losses,
            }
            content = copied(content) | {"best": self.best}  # which no step changes
            pool = ThreadPoolExecutor(1)
            self.writing = pool.submit(write_checkpoint, path, content)
            pool.shutdown(wait=False)  # ends the thread afterwards
            self.saved = time.monotonic()
            self.cost = self.saved - began + wrote

    def finish_writing(self) -> float:
        """Wait until the checkpoint is written; returns the seconds that it took, 0 where there was none."""
        writing, self.writing = self.writing, None
        return writing.result() if writing else 0.0

    def resume(self, path: Path) -> Path | None:
        """Restore the newest whole checkpoint of `path` and `previous(path)`, in all processes; None: there is none.

        A damaged one is named in a warning. Raises `InputError` where there is none but damaged ones.
        """
        first = distributed.rank() == 0
        file, content, faults = distributed.broadcast(_newest(path) if first else None)
        if faults and content is None:
            raise InputError(f"{'; '.join(faults)}: delete {path.parent} to start again.")
        if content is None:
            return None
        if faults and first:
            print(f"warning: {'; '.join(faults)}; continuing from the one before it", file=sys.stderr, flush=True)
        try:
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.ema:
                self.ema.load_state_dict(content["ema"])
            self.epoch, self.step = content["progress"]["epoch"], content["progress"]["step"]
            self.history, self.best = content["progress"]["history"], content["best"]
            self.losses = content["losses"] if first else torch.zeros_like(content["losses"])
        except Exception as error:  # torch raises a dozen types
            raise InputError(f"the checkpoint {file} cannot be used ({error}): delete it to start again.") from error
        return file

    def all_reduce_losses(self) -> Tensor:
        """The losses of the epoch's finished steps over all processes; rank 0 keeps them, the others zeros."""
        total = distributed.all_reduce(self.losses.clone())
        self.losses = total.clone() if distributed.rank() == 0 else torch.zeros_like(total)
        return total[: self.step]


def copied(content):
    """Nested dicts and lists with their tensors copied to the CPU."""
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {key: copied(value) for key, value in content.items()}
    return [copied(value) for value in content] if isinstance(content, list) else content


def write_checkpoint(path: Path, content: dict) -> float:
    """The checkpoint of before becomes `previous(path)`. Returns the seconds that it took."""
    began = time.monotonic()
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    with atomic(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(hashlib.sha256(data).digest())
            file.write(data)
        if path.exists():
            os.replace(path, previous(path))
    return time.monotonic() - began


def previous(path: Path) -> Path:
    """The file of the checkpoint before that of `path`."""
    return path.with_suffix(f".previous{path.suffix}")


def _newest(path: Path) -> tuple[Path | None, dict | None, list[str]]:
    """The newest whole checkpoint, its content, and why newer ones were refused."""
    faults = []
    for file in filter(Path.exists, (path, previous(path))):
        try:
            return file, read_checkpoint(file), faults
        except MemoryError:
            raise
        except Exception as error:  # torch raises a dozen types for damaged files
            faults.append(f"the checkpoint {file} cannot be read ({error})")
    return None, None, faults


def read_checkpoint(path: Path) -> dict:
    """The content of a checkpoint. Raises ValueError where a byte of it has changed."""
    data = path.read_bytes()
    if hashlib.sha256(memoryview(data)[HASH:]).digest() != data[:HASH]:
        raise ValueError("its checksum is wrong")
    return torch.load(io.BytesIO(data[HASH:]), map_location="cpu", weights_only=True)
