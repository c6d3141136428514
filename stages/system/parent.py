"""A stage ends with the process that started it: DVC or torchrun."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

INTERVAL = 0.5  # seconds between two looks at the parent


def is_dvc(process: psutil.Process) -> bool:
    """Whether it is `dvc …` or `python -m dvc …`. Raises `psutil.Error` where that cannot be known."""
    return "dvc" in (Path(word).name for word in process.cmdline()[:3])


def end_with_starter() -> None:
    """End this process as SIGTERM does once the dvc or the torchrun that runs it is gone.

    Neither, when it is killed, ends what it has started: a training would go on alone, and the next `dvc repro` could
    not start it again. The shell between dvc and a stage keeps the signal of a parent's death (prctl) from arriving.
    """
    starters = {}
    with suppress(psutil.Error):
        if "TORCHELASTIC_RUN_ID" in os.environ and (parent := psutil.Process().parent()):
            starters["torchrun"] = parent
        if "DVC_STAGE" in os.environ and (dvc := next(filter(is_dvc, psutil.Process().parents()), None)):
            starters["dvc"] = dvc
    if starters:
        threading.Thread(target=_end_with, args=(starters,), daemon=True).start()


def _end_with(starters: dict[str, psutil.Process]) -> None:
    name = None
    while name is None:
        time.sleep(INTERVAL)
        name = next((name for name, process in starters.items() if not _runs(process)), None)
    with suppress(OSError):  # its output may be gone with it
        print(f"the {name} that started this stage (process {starters[name].pid}) is gone", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
