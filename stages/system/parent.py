"""A stage ends with the process that started it: DVC, torchrun or Slurm's."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

SLURM = "slurmstepd"  # Slurm's process for one step of a job, on each of its nodes
INTERVAL = 0.5  # seconds between two looks at the parent


def is_dvc(process: psutil.Process) -> bool:
    """Whether it is `dvc …` or `python -m dvc …`. Raises `psutil.Error` where that cannot be known."""
    return "dvc" in (Path(word).name for word in process.cmdline()[:3])


def end_with_starter() -> None:
    """End this process as SIGTERM does once the dvc, the torchrun or the slurmstepd that runs it is gone.

    None of them, when it is killed, ends what it has started: a training would go on alone, the next `dvc repro` could
    not start it again, and Slurm would wait for a node of which it hears nothing. The shell between dvc and a stage
    keeps the signal of a parent's death (prctl) from arriving.
    """
    starters = {}
    with suppress(psutil.Error):
        parents = psutil.Process().parents()
        if "TORCHELASTIC_RUN_ID" in os.environ and parents:
            starters["torchrun"] = parents[0]
        if "DVC_STAGE" in os.environ and (dvc := next(filter(is_dvc, parents), None)):
            starters["dvc"] = dvc
        if "SLURM_JOB_ID" in os.environ and (step := next((p for p in parents if p.name() == SLURM), None)):
            starters[SLURM] = step
    if starters:
        threading.Thread(target=_end_with, args=(starters,), daemon=True).start()


def _end_with(starters: dict[str, psutil.Process]) -> None:
    name = None
    while name is None:
        time.sleep(INTERVAL)
        name = next((name for name, process in starters.items() if not is_alive(process)), None)
    with suppress(OSError):  # its output may be gone with it
        print(f"the {name} that started this stage (process {starters[name].pid}) is gone", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that its parent has not asked for keeps its number, but does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
