"""Check what DVC needs before it runs, and repair what a killed run or a full disk has damaged.

    python -m stages.check

`make repro` runs it before `dvc repro`. It reads params/, refuses a wrong parameter with its file and key, and writes
params/resolved.yaml, which DVC reads; a dvc.lock that was cut off comes back as it was last committed (the cut one is
kept as dvc.lock.damaged.tmp), and DVC's table of who reads and writes what (.dvc/tmp/rwlock) is emptied if it cannot be
read and no DVC process runs here.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

import psutil

from stages.config.resolved import write_resolved
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic

LOCK, RWLOCK = Path("dvc.lock"), Path(".dvc/tmp/rwlock")
DAMAGED = Path("dvc.lock.damaged.tmp")  # git ignores *.tmp


def require_git() -> None:
    """Raise `InputError` where this is no git repository."""
    if not Path(".git").exists():
        raise InputError(
            f"{Path.cwd()} is not a git repository, and DVC needs one (a ZIP download has none). Get the project by "
            "git clone, or make this folder a repository: git init && git add -A && git commit -m 'Start here'"
        )


def dvc_processes() -> list[int]:
    """The DVC processes that work in this folder or below it."""
    here, found = Path.cwd(), []
    for process in psutil.process_iter():
        try:
            folder = Path(process.cwd())
            if here in (folder, *folder.parents) and "dvc" in (Path(word).name for word in process.cmdline()[:3]):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def require_no_dvc(damaged: Path) -> None:
    """Raise `InputError` where a DVC process works here, which may be writing the file just now."""
    if running := dvc_processes():
        raise InputError(
            f"{damaged} cannot be read, and DVC is running here (process {', '.join(map(str, running))}): "
            "wait for it or stop it, then run the same command again."
        )


def is_whole_lock(text: str) -> bool:
    """Whether DVC can read the text of a dvc.lock, and it has its end."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, str(LOCK)))
    except (DvcException, Invalid, ValueError):
        return False
    return text.endswith("\n")


def repair_lock() -> None:
    """Restore a damaged dvc.lock from git. Raises `InputError` where it holds an unresolved merge."""
    if not LOCK.exists():
        return
    content = LOCK.read_bytes()
    text = content.decode(errors="replace")
    if is_whole_lock(text):
        return
    if "\n<<<<<<< " in f"\n{text}":
        raise InputError(
            f"{LOCK} holds an unresolved merge: take either side (git checkout --ours {LOCK}, or --theirs), "
            "then run the same command again."
        )
    require_no_dvc(LOCK)
    DAMAGED.write_bytes(content)
    committed = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True)
    if committed.returncode == 0 and is_whole_lock(committed.stdout.decode(errors="replace")):
        with atomic(LOCK) as temporary:
            temporary.write_bytes(committed.stdout)
        now = "it is again as it was last committed"
    else:
        LOCK.unlink()
        now = "it is not in the last commit, so DVC begins a new one"
    print(
        f"{LOCK} was damaged (a killed run, or a full disk): {now}. What ran since comes from DVC's cache or runs "
        f"again; the damaged file is kept as {DAMAGED}.",
        flush=True,
    )


def repair_rwlock() -> None:
    """Remove DVC's table of readers and writers if it cannot be read, which blocks every later command."""
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid
    from zc.lockfile import LockError, LockFile

    def is_damaged() -> bool:
        try:
            SCHEMA(json.loads(RWLOCK.read_bytes()))
        except FileNotFoundError:
            return False
        except (ValueError, Invalid):
            return True
        return False

    if not is_damaged():
        return
    require_no_dvc(RWLOCK)
    try:
        guard = LockFile(f"{RWLOCK}.lock")  # DVC holds it while it writes the table
    except LockError:
        raise InputError(f"{RWLOCK} is being written by another process: run the same command again.") from None
    try:
        if is_damaged():
            os.unlink(RWLOCK)
            print(f"{RWLOCK} was damaged by a killed run: removed, no DVC process was using it.", flush=True)
    finally:
        guard.close()


def main() -> None:
    require_git()
    repair_lock()
    repair_rwlock()
    write_resolved()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    errors.run(main)
