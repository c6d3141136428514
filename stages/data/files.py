"""Files that are either whole or absent: written under a temporary name, synced, then renamed."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.errors import InputError


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _told(error: OSError, path: Path, temporary: Path) -> InputError | OSError:
    """A full disk in the user's words; any other error as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or path.parent.suffix == ".tmp":  # whose owner will tell
        return error
    written = sum(each.stat().st_blocks * 512 for each in (temporary, *temporary.rglob("*")) if each.is_file())
    return InputError(
        f"the disk is full: {path} needs more than the {written / 2**20:.2f} MiB that could be written. "
        "Nothing half-written was left; free some space and run the same command again."
    )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it goes.

    Raises `InputError` where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _told(error, path, temporary) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: a new empty one is yielded and takes the place of `path` when all of it is written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.tmp"):  # what a killed run left
        shutil.rmtree(stale, ignore_errors=True)
    temporary, former = _temporary(path), _temporary(path).with_suffix(".former.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for each in (*temporary.rglob("*"), temporary):
            _sync(each)
        if path.exists():
            os.replace(path, former)  # removing it takes long enough to be killed half-way
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _told(error, path, temporary) from error
    finally:
        if former.exists() and not path.exists():
            os.replace(former, path)
        for each in (temporary, former):
            shutil.rmtree(each, ignore_errors=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise `InputError` unless `needed` bytes are free where `folder` will lie."""
    free = shutil.disk_usage(_existing(Path(folder).resolve())).free
    if free < needed:
        raise InputError(
            f"{what} needs {needed / 2**20:.2f} MiB in {folder}, and {free / 2**20:.2f} MiB are free: "
            "free some space or point the folder at a larger disk, then run the same command again."
        )
