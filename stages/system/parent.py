"""A stage ends with the DVC process that started it."""

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


def end_with_dvc() -> None:
    """Within a DVC stage, end this process as SIGTERM does once the dvc that runs it is gone.

    A dvc that is killed ends none of its stages: a training would go on alone, and the next `dvc repro` could not
    start it again. The shell between the two keeps the signal of a parent's death (prctl) from arriving.
    """
    if "DVC_STAGE" not in os.environ:
        return
    try:
        dvc = next((parent for parent in psutil.Process().parents() if is_dvc(parent)), None)
    except psutil.Error:
        return
    if dvc is not None:
        threading.Thread(target=_end_with, args=(dvc,), daemon=True).start()


def _end_with(dvc: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
            time.sleep(INTERVAL)
    print(f"the dvc that started this stage (process {dvc.pid}) is gone", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
