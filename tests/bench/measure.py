"""How the figures are measured and reported: repeats, the machine, the table, the file."""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

from stages.system.files import atomic
from stages.tracking import provenance


@dataclass
class Figure:
    """One measured number. Times are the median of the repeats, `best` is the fastest of them."""

    name: str
    value: float
    unit: str
    how: str
    best: float | None = None
    repeats: int | None = None
    at_most: float | None = None  # the goal
    at_least: float | None = None  # the goal, where more is better
    baseline: float | None = None  # the plain implementation, in the same run
    baseline_is: str | None = None
    workload: str | None = None  # of a time that the report shows: stages/inference/cost.py
    device: str | None = None

    def __post_init__(self):
        """Plain numbers, also of NumPy's, whose comparisons JSON cannot hold."""
        for name in ("value", "best", "baseline"):
            if (number := getattr(self, name)) is not None:
                setattr(self, name, float(number))

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def ratio(self) -> float | None:
        """How many times slower the baseline is."""
        return None if self.baseline is None else self.baseline / self.value


@dataclass
class Missing:
    """What could not be measured here, and why."""

    name: str
    why: str


def seconds(work: Callable[[], object], repeats: int, warmup: int = 1) -> np.ndarray:
    """(repeats,) how long `work` took by the clock, each time."""
    taken = []
    for repeat in range(-warmup, repeats):
        began = time.perf_counter()
        work()
        if repeat >= 0:
            taken.append(time.perf_counter() - began)
    return np.array(taken)


def by_turns(works: dict[str, Callable[[], object]], repeats: int, warmup: int = 1) -> dict[str, np.ndarray]:
    """`seconds` of each, one after the other in every round, so that what else the machine does falls on all."""
    rounds = [{name: seconds(work, 1, warmup=0) for name, work in works.items()} for _ in range(warmup + repeats)]
    return {name: np.concatenate([taken[name] for taken in rounds[warmup:]]) for name in works}


def timed(
    name: str, taken: np.ndarray, per: int, how: str, *, unit: str = "ms a face", plain: np.ndarray | None = None, **of
) -> Figure:
    """The figure of `taken` seconds for `per` faces each; `plain`: of the baseline, as long. `of`: as in Figure."""
    scale = {"ms a face": 1000, "ms": 1000, "s": 1}[unit] / per
    return Figure(
        name, np.median(taken) * scale, unit, how, best=taken.min() * scale, repeats=len(taken),
        baseline=None if plain is None else np.median(plain) * scale, **of,
    )  # fmt: skip


def use_cores(n: int) -> None:
    torch.set_num_threads(n)
    cv2.setNumThreads(n)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": provenance.environment()["cpu"],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": provenance.environment()["isa"],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),  # runnable processes in the minute before
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def table(figures: list[Figure]) -> str:
    """The figures for a person, one a line."""
    rows = [("figure", "value", "best", "goal", "", "baseline")]
    for figure in figures:
        goal = figure.at_most if figure.at_most is not None else figure.at_least
        sign = "≤" if figure.at_most is not None else "≥"
        rows.append(
            (
                figure.name,
                f"{figure.value:.4g} {figure.unit}",
                "" if figure.best is None else f"{figure.best:.4g}",
                "" if goal is None else f"{sign} {goal:g}",
                {True: "reached", False: "MISSED", None: ""}[figure.reached],
                "" if figure.baseline is None else f"{figure.baseline:.4g}, × {figure.ratio:.3g}: {figure.baseline_is}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def write(path: Path, made_on: dict, figures: list[Figure], missing: list[Missing], of_gpu: list[Figure]) -> None:
    """All of it as JSON; whole or not at all. Where no GPU was measured, what another machine's measured stays."""
    content = {"machine": made_on, "figures": _rows(figures), "not_measured": [asdict(entry) for entry in missing]}
    if of_gpu:
        content["gpu"] = {"machine": made_on, "figures": _rows(of_gpu)}
    elif path.exists():
        content |= {key: value for key, value in json.loads(path.read_text()).items() if key == "gpu"}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rows(figures: list[Figure]) -> list[dict]:
    rows = [asdict(figure) | {"reached": figure.reached, "ratio": figure.ratio} for figure in figures]
    return [{key: value for key, value in row.items() if value is not None} for row in rows]
