"""Check what DVC needs before it runs, and repair what a killed run or a full disk has damaged.

    python -m stages.check

`make repro` runs it before `dvc repro`. It reads params/, refuses a wrong parameter with its file and key, and writes
params/resolved.yaml, which DVC reads; a dvc.lock that was cut off is made of its whole entries and, for the others, of
those that were last committed (the damaged file is kept as dvc.lock.damaged.tmp). DVC's table of who reads and writes
what (.dvc/tmp/rwlock) is removed if it cannot be read and no DVC process runs here; what it holds for a killed DVC
whose process number is still taken is dropped.
"""

import argparse
import json
import os
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import psutil

from stages.config.resolved import write_resolved
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic, write_json
from stages.system.parent import is_alive, is_dvc
from stages.tracking.dvc_files import LOCK, RWLOCK, is_cut, is_rwlock_damaged, read_lock
from stages.tracking.process import committed

LOCK_HEADER = "schema: '2.0'\nstages:\n"
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
            if here in (folder, *folder.parents) and is_dvc(process):
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


def whole_entries(text: str) -> dict:
    """The stages before the first damaged one in the text of a dvc.lock, without the last one, which may be cut off."""
    head, *sections = re.split(r"(?m)^  (?=\S)", text)
    entries: dict = {}
    for section in sections[:-1]:
        content = read_lock(f"{LOCK_HEADER}  {section}")
        if head != LOCK_HEADER or content is None or is_cut(content, None):
            break
        entries |= content["stages"]
    return entries


def repair_lock() -> None:
    """Mend a damaged dvc.lock from git. Raises `InputError` where it holds an unresolved merge."""
    from dvc.utils.serialize import dumps_yaml

    if not LOCK.exists():
        return
    damaged = LOCK.read_bytes()
    text = damaged.decode(errors="replace")
    content = read_lock(text)
    former = read_lock(committed(LOCK) or "")
    if content is not None and not is_cut(content, former):
        return
    if "\n<<<<<<< " in f"\n{text}":
        raise InputError(
            f"{LOCK} holds an unresolved merge: take either side (git checkout --ours {LOCK}, or --theirs), "
            "then run the same command again."
        )
    require_no_dvc(LOCK)
    DAMAGED.write_bytes(damaged)
    kept = whole_entries(text)
    restored = former or {"schema": "2.0", "stages": {}}
    from_git = [name for name in restored["stages"] if name not in kept]
    restored["stages"].update(kept)
    with atomic(LOCK) as temporary:
        temporary.write_text(dumps_yaml(restored), encoding="utf-8")
    origin = f"and the last commit ({len(from_git)})" if former else "alone, since the last commit has none"
    print(
        f"{LOCK} was damaged (a killed run, or a full disk): it is made of its whole entries ({len(kept)}) {origin}. "
        f"What is missing comes from DVC's cache or runs again; the damaged file is kept as {DAMAGED}.",
        flush=True,
    )


def has_ended(holder: Mapping[str, Any]) -> bool:
    """Whether what stands in DVC's table has ended, though its process number is taken.

    By itself, until its parent asks for it, which the first process of a container may never do; or by a program that
    has not the arguments of the `cmd` that DVC noted.
    """
    try:
        process = psutil.Process(holder["pid"])
        if not is_alive(process):
            return True
        running = " ".join(process.cmdline())
        return not all(word in running for word in holder["cmd"].split()[1:])
    except psutil.Error:
        return False  # DVC itself drops what a number holds that no process has


def repair_rwlock() -> None:
    """Remove DVC's table of readers and writers if it cannot be read, and from it those who have ended.

    Either would block every later command.
    """
    from zc.lockfile import LockError, LockFile

    if not RWLOCK.exists():
        return
    if is_rwlock_damaged():
        require_no_dvc(RWLOCK)
    try:
        guard = LockFile(f"{RWLOCK}.lock")  # DVC holds it while it writes the table
    except LockError:
        raise InputError(f"{RWLOCK} is being written by another process: run the same command again.") from None
    try:
        if is_rwlock_damaged():
            os.unlink(RWLOCK)
            print(f"{RWLOCK} was damaged by a killed run: removed, no DVC process was using it.", flush=True)
        else:
            release_ended()
    finally:
        guard.close()


def release_ended() -> None:
    """Drop from DVC's table what processes hold that have ended."""
    table = json.loads(RWLOCK.read_bytes())
    readers, writers = table.get("read", {}), table.get("write", {})
    ended = {entry["pid"] for entry in (*chain(*readers.values()), *writers.values()) if has_ended(entry)}
    if not ended:
        return
    kept = {path: [entry for entry in entries if entry["pid"] not in ended] for path, entries in readers.items()}
    table["read"] = {path: entries for path, entries in kept.items() if entries}
    table["write"] = {path: entry for path, entry in writers.items() if entry["pid"] not in ended}
    write_json(RWLOCK, table)
    print(f"{RWLOCK}: what a killed run held (process {', '.join(map(str, sorted(ended)))}) is dropped.", flush=True)


def main() -> None:
    require_git()
    repair_lock()
    repair_rwlock()
    write_resolved()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    errors.run(main)
