"""What a training says while it runs: how far it is, how good, and how long the rest will take."""

import time
from collections import deque
from collections.abc import Mapping, Sequence

EARLY = 20  # steps after which there is a first estimate
RECENT = 5  # epochs that the time left is estimated from


def duration(seconds: float) -> str:
    """`45 s`, `11 min`, `3 h 20 min`, `2 d 5 h`"""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 89.5:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 36 else f"{hours // 24} d {hours % 24} h"


def first_line(name: str, faces: int, epochs: int, steps: int, machine: Mapping[str, object]) -> str:
    """machine: `device`, `threads` and `processes`, as training.json has them."""
    of_cpu = [f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"] * (machine["device"] == "cpu")
    processes = [f"{machine['processes']} processes"] * (machine["processes"] != 1)
    where = ", ".join([f"on {machine['device']}", *of_cpu, *processes])
    return f"training {name}: {faces} faces, {epochs} epochs of {steps} steps, {where}"


def epoch_line(history: Sequence[Mapping[str, float]], epochs: int, seconds: float, left: float) -> str:
    """The last epoch of `history`, and the best so far.

    history: of each epoch `epoch`, `train/loss` and, where there is a val split, `val/nme` in percent. seconds: of the
    epoch. left: seconds of all epochs to come.
    """
    now = history[-1]
    parts = [f"epoch {now['epoch']}/{epochs}", f"loss {now['train/loss']:.3g}"]
    if "val/nme" in now:
        best = min(history, key=lambda row: (row["val/nme"] != row["val/nme"], row["val/nme"]))  # NaN last
        parts.append(f"val NME {now['val/nme']:.2f} (best {best['val/nme']:.2f} of epoch {best['epoch']})")
    took = f"{seconds:.1f} s" if seconds < 99.95 else duration(seconds)
    parts.append(f"{took}, {duration(left)} left" if now["epoch"] < epochs else took)
    return "  ".join(parts)


class Clock:
    """The time that a training takes and has left, by the pace of this process: a resume begins to measure anew."""

    def __init__(self, steps: int):
        """steps: those to do, of all epochs."""
        self.steps_left = steps
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)  # steps and seconds of the last epochs
        self._steps, self._began = 0, time.monotonic()  # of this epoch
        self._first = 0.0  # when the first step ended

    def step(self) -> float | None:
        """Count a step; once, after the first EARLY of them, the seconds that are left.

        The first step, in which memory is mapped and kernels are chosen or compiled, is left out.
        """
        self._steps += 1
        self.steps_left -= 1
        if self._recent or self._steps not in (1, EARLY):
            return None
        now = time.monotonic()
        if self._steps == 1:
            self._first = now
            return None
        return (now - self._first) / (EARLY - 1) * self.steps_left

    def epoch(self) -> tuple[float, float]:
        """End an epoch, which a resumed training may have begun in its middle: its seconds, and those that are left."""
        now = time.monotonic()
        self._recent.append((self._steps, now - self._began))
        steps, seconds = map(sum, zip(*self._recent, strict=True))
        took, self._steps, self._began = now - self._began, 0, now
        return took, seconds / max(steps, 1) * self.steps_left
