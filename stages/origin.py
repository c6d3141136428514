"""Who works on a run, and with which code: tags that tell a living process from a dead one, and the commit."""

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

CODE = Path(__file__).resolve().parents[1]


def me() -> dict[str, str]:
    """Tags that name this process for good: the start time tells it from a later one with the same number."""
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "pid_started": f"{started:.2f}"}


def is_me(tags: Mapping[str, str]) -> bool:
    """Whether this process wrote the tags."""
    return tags.get("pid") == str(os.getpid()) and tags.get("host") == socket.gethostname()


def is_living(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote the tags lives, as far as this host can know."""
    try:
        process = psutil.Process(int(tags["pid"]))
        same = abs(process.create_time() - float(tags["pid_started"])) < 2  # s; the boot time it rests on is rounded
        return same and tags["host"] == socket.gethostname() and process.status() != psutil.STATUS_ZOMBIE
    except (KeyError, ValueError, psutil.Error):
        return False


def commit() -> dict[str, str]:
    """The commit of the code and whether it was changed since, what the pipeline itself writes left aside."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(CODE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!reports")
        return {"commit": git("rev-parse", "HEAD"), "dirty": "true" if changes else "false"}
    except (OSError, subprocess.SubprocessError):
        return {}
