"""A training step by how OpenMP's threads wait for each other: with the cores to themselves and beside another program.

    python -m tests.bench.waiting 20

prints the seconds of 20 steps in this process. The setting is read when torch is imported, so each has its own process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from stages import WAITING
from stages.config.experiment import load_recipe
from stages.model import fit, optimisation
from stages.model.device import keep_memory
from tests.bench.measure import Figure, seconds, timed
from tests.bench.network import SECTIONS, a_batch, build

GNU = {"GOMP_SPINCOUNT": "300000"}  # the library's own


def step_times(recipe, steps: int) -> list[float]:
    """Seconds of training steps, on the CPU."""
    keep_memory()
    model = build(recipe).to(memory_format=torch.channels_last)
    optimizer = optimisation.optimizer(model, recipe.train)
    images, maps = a_batch(recipe.train.batch, recipe.input.size)
    images = images.contiguous(memory_format=torch.channels_last)
    return seconds(lambda: fit.train_step(model, optimizer, recipe.train, images, maps), steps, warmup=3).tolist()


def in_own_process(setting: dict[str, str], steps: int) -> list[float]:
    unset = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-m", "tests.bench.waiting", str(steps)]
    return json.loads(subprocess.run(command, env=unset | setting, check=True, stdout=subprocess.PIPE).stdout)


@contextmanager
def another_program(running: bool) -> Iterator[None]:
    """One that uses a core all the time."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if running else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def busy_and_idle(steps: int = 20, rounds: int = 3) -> list[Figure]:
    recipe, figures = load_recipe("quick", "demo", *SECTIONS), []
    for name, busy in (("alone", False), ("beside a busy program", True)):
        ours, plain = [], []
        with another_program(busy):
            for _ in range(rounds):  # by turns, so that what else the machine does falls on both
                plain += in_own_process(GNU, steps)
                ours += in_own_process(WAITING, steps)
        size, batch, cores = recipe.input.size, recipe.train.batch, torch.get_num_threads()
        how = f"recipe quick without its data, {size}×{size}, batch {batch}, {cores} cores, {rounds} processes in turn"
        figures.append(
            timed(
                f"train step, {name}", np.array(ours), 1, how, unit="s", plain=np.array(plain),
                baseline_is="OpenMP's threads wait as GNU's library lets them",
            )
        )  # fmt: skip
    return figures


if __name__ == "__main__":
    print(json.dumps(step_times(load_recipe("quick", "demo", *SECTIONS), int(sys.argv[1]))))
