"""Files that are either whole or absent (written under a temporary name, synced, then renamed), and their hashes."""

import configparser
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from stages.system.errors import InputError
from stages.system.parent import is_alive

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux: fcntl.h, fs.h
FICLONE = 0x40049409  # Linux: fs.h; makes one file share the blocks of another
FULL = (errno.ENOSPC, errno.EDQUOT)


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


def _is_running(pid: int) -> bool:
    """Whether another process of this host has that number and runs."""
    try:
        return pid != os.getpid() and is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def _recover(path: Path) -> None:
    """Remove what a killed process left beside `path`; a folder that it had moved away is moved back."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.former)?\.tmp")
    for stale in path.parent.iterdir():
        match = name.fullmatch(stale.name)
        if not match or _is_running(int(match[1])):
            continue
        if match[2] and not path.exists():
            os.replace(stale, path)
        elif stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_full(folder: Path) -> bool:
    """Whether a MiB more cannot be written: torch, numpy and others report a full disk as an error of their own."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, 2**20)
    except OSError as error:
        return error.errno in FULL
    return False


def _explained(error: Exception, path: Path, temporary: Path) -> Exception:
    """A full disk as an `InputError`; any other error as it is."""
    if isinstance(error, InputError) or path.parent.suffix == ".tmp":  # the outer folder reports it
        return error
    if getattr(error, "errno", None) not in FULL and not _is_full(path.parent):
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
    _recover(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except Exception as error:
        explained = _explained(error, path, temporary)
        if explained is error:
            raise
        raise explained from error
    finally:
        temporary.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change their names in one step; False where the system or the file system (NFS) cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: a new empty one is yielded, and replaces `path` once all of it is written.

    Where two folders cannot be exchanged, `path` is missing for a moment; if the process is killed then, the next
    writer moves the former folder back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _recover(path)
    temporary = _temporary(path)
    former = temporary.with_suffix(".former.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for entry in (*temporary.rglob("*"), temporary):
            _sync(entry)
        if not path.exists() or not _exchange(temporary, path):
            if path.exists():
                os.replace(path, former)  # removing it takes long enough to be killed half-way
            os.replace(temporary, path)
        _sync(path.parent)
    except Exception as error:
        explained = _explained(error, path, temporary)
        if explained is error:
            raise
        raise explained from error
    finally:
        if former.exists() and not path.exists():
            os.replace(former, path)
        for folder in (temporary, former):  # after an exchange, `temporary` is the former one
            shutil.rmtree(folder, ignore_errors=True)


def _shares_blocks(one: Path, other: Path) -> bool:
    """Whether a file in `other` can share its blocks with one in `one` (btrfs, XFS)."""
    with suppress(OSError), tempfile.TemporaryFile(dir=one) as source, tempfile.TemporaryFile(dir=other) as copy:
        source.write(b"x")
        source.flush()
        fcntl.ioctl(copy.fileno(), FICLONE, source.fileno())
        return True
    return False


def _cache_copy(folder: Path) -> Path | None:
    """The folder of DVC's cache, where it will hold a copy of what is written to `folder`; None where it links."""
    if not Path(".dvc").is_dir():
        return None
    config = configparser.ConfigParser(interpolation=None, strict=False)
    with suppress(configparser.Error):  # DVC itself reports it
        config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    cache = _existing(Path(".dvc", config.get("cache", "dir", fallback="cache").strip("\"'")).resolve())
    links = {
        "reflink": lambda: _shares_blocks(folder, cache),
        "hardlink": lambda: cache.stat().st_dev == folder.stat().st_dev,
        "symlink": lambda: True,
    }
    for kind in config.get("cache", "type", fallback="reflink,copy").strip("\"'").split(","):
        link = links.get(kind.strip())
        if link is None:  # copy
            break
        if link():
            return None
    return cache


def require_space(folder: Path, needed: int, what: str, *, cached: bool = True) -> None:
    """Raise `InputError` unless `needed` bytes are free where `folder` will be.

    cached: `folder` is an out of a stage. DVC copies it to its cache, unless it can link, and room for that is needed
    too.
    """
    place = _existing(Path(folder).resolve())
    cache = _cache_copy(place) if cached else None
    wanted = [(folder, place, needed, "")]
    if cache and cache.stat().st_dev == place.stat().st_dev:
        wanted = [(folder, place, 2 * needed, " (one half for DVC's copy in its cache)")]
    elif cache:
        wanted.append((cache, cache, needed, " (for DVC's copy)"))
    for name, disk, size, purpose in wanted:
        free = shutil.disk_usage(disk).free
        if free < size:
            raise InputError(
                f"{what} needs {size / 2**20:.2f} MiB in {name}{purpose}, and {free / 2**20:.2f} MiB are free: "
                "free some space or point the folder at a larger disk, then run the same command again."
            )
