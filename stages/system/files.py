"""Files that are either whole or absent (written under a temporary name, synced, then renamed), and their hashes."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.system.errors import InputError


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file, as hexadecimal text; md5 is what DVC uses."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_json(path: Path, content: object) -> None:
    """Write `content`, of JSON's types, indented for a person; whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explained(error: OSError, path: Path, temporary: Path) -> InputError | OSError:
    """A full disk as an `InputError`; any other error as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or path.parent.suffix == ".tmp":  # the outer folder reports it
        return error
    written = sum(file.stat().st_blocks * 512 for file in (temporary, *temporary.rglob("*")) if file.is_file())
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
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on failure it is removed.

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
        raise _explained(error, path, temporary) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: a new empty one is yielded, and replaces `path` once all of it is written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.tmp"):  # left by a killed process
        shutil.rmtree(stale, ignore_errors=True)
    temporary, former = _temporary(path), _temporary(path).with_suffix(".former.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for entry in (*temporary.rglob("*"), temporary):
            _sync(entry)
        if path.exists():
            os.replace(path, former)  # removing it takes long enough to be killed half-way
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _explained(error, path, temporary) from error
    finally:
        if former.exists() and not path.exists():
            os.replace(former, path)
        for folder in (temporary, former):
            shutil.rmtree(folder, ignore_errors=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise `InputError` unless `needed` bytes are free where `folder` will be."""
    free = shutil.disk_usage(_existing(Path(folder).resolve())).free
    if free < needed:
        raise InputError(
            f"{what} needs {needed / 2**20:.2f} MiB in {folder}, and {free / 2**20:.2f} MiB are free: "
            "free some space or point the folder at a larger disk, then run the same command again."
        )
