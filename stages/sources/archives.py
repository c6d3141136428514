"""Unpack archives (zip, tar) without ever writing outside the target folder."""

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

from stages.system.errors import InputError
from stages.system.files import atomic_folder

BLOCK = 1 << 20  # bytes
MAX_RATIO, ALWAYS_ALLOWED, MAX_MEMBERS = 100, 1 << 26, 1_000_000  # images hardly compress, text tenfold
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar (also .gz, .bz2, .xz) into a new `folder`: all of it, or nothing and an `InputError`.

    Only regular files and folders are taken. Links, devices, absolute paths and `..` are refused, and so is what
    unpacks to more than a hundred times the archive's size.
    """
    limit = max(ALWAYS_ALLOWED, MAX_RATIO * archive.stat().st_size)
    written = 0
    try:
        with atomic_folder(folder) as out:
            for count, (name, content) in enumerate(tqdm(_members(archive), "unpacking", unit="file", disable=None)):
                target = out / _inside(name, archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as file:
                    while (block := content.read(BLOCK)) or count == MAX_MEMBERS:
                        written += len(block)
                        if written > limit or count == MAX_MEMBERS:
                            raise InputError(
                                f"{archive}: it unpacks to more than {limit / 2**20:.0f} MiB or {MAX_MEMBERS} files "
                                f"from {archive.stat().st_size / 2**20:.1f} MiB, unlike an archive of images. If it is "
                                "one, unpack it yourself and use the folder instead. Nothing was unpacked."
                            )
                        file.write(block)
    except _DAMAGE as error:
        raise InputError(f"{archive}: it is damaged ({error}). Get the file again.") from None
    except OSError as error:
        if error.errno is None:  # how gzip and bz2 report damage
            raise InputError(f"{archive}: it is damaged ({error}). Get the file again.") from None
        raise


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of the files in an archive. Raises `InputError` for a member that is neither file nor folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if it was not packed on Unix
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise InputError(f"{archive}: {info.filename} is a link or a device; nothing was unpacked.")
                if info.flag_bits & 1:
                    raise InputError(f"{archive}: it needs a password. Unpack it yourself and use the folder instead.")
                _inside(info.filename, archive)
                if not info.is_dir():
                    with file.open(info) as content:
                        yield info.filename, content
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            for info in file:
                if not (info.isreg() or info.isdir()):
                    raise InputError(f"{archive}: {info.name} is a link or a device; nothing was unpacked.")
                _inside(info.name, archive)
                if info.isreg():
                    yield info.name, file.extractfile(info)
            while file.fileobj.read(BLOCK):  # to the end, where compressed files store their checksum
                pass
    else:
        raise InputError(f"{archive}: it is not a zip or tar archive. Unpack it yourself and use the folder instead.")


def _inside(name: str, archive: Path) -> Path:
    """A member's name as a path within the folder. Raises `InputError` where it points outside."""
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name) or "\0" in name:
        raise InputError(f"{archive}: {name!r} points outside its folder; nothing was unpacked.")
    return Path(*parts)
