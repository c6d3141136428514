"""Which process writes a run, and with which code: tags that identify a process, and the commit."""

import os
import socket
import subprocess
from collections.abc import Mapping
from getpass import getuser
from pathlib import Path

import psutil

from stages.system import parent

CODE = Path(__file__).resolve().parents[2]


def this_process() -> dict[str, str]:
    """Tags that identify this process: the start time distinguishes it from a later one with the same PID."""
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "pid_started": f"{started:.2f}"}


def user() -> str:
    """Who runs this process: the name on the tracking server, else that on this machine."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getuser()
    except (KeyError, OSError, ImportError):  # a container without users
        return "unknown"


def is_this(tags: Mapping[str, str]) -> bool:
    """Whether this process wrote the tags."""
    return tags.get("pid") == str(os.getpid()) and tags.get("host") == socket.gethostname()


def is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote the tags is alive, as far as this host can know."""
    try:
        process = psutil.Process(int(tags["pid"]))
        started = float(tags["pid_started"])
        same = abs(process.create_time() - started) < 2  # s; the boot time it is computed from is rounded
        return same and tags["host"] == socket.gethostname() and parent.is_alive(process)
    except (KeyError, ValueError, psutil.Error):
        return False


def dvc_experiment() -> dict[str, str]:
    """The name of the DVC experiment that this process is part of: `dvc exp run` sets it."""
    name = os.environ.get("DVC_EXP_NAME")
    return {"dvc_experiment": name} if name else {}


def committed(path: Path) -> str | None:
    """The text of a file, relative to the working directory, in the last commit; None where it is in none."""
    command = ["git", "--no-optional-locks", "show", f"HEAD:./{path.as_posix()}"]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return None


def commit() -> dict[str, str]:
    """The commit of the code, and whether it was changed since, apart from what the pipeline itself writes."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(CODE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!reports")
        return {"commit": git("rev-parse", "HEAD"), "dirty": "true" if changes else "false"}
    except (OSError, subprocess.SubprocessError):
        return {}
