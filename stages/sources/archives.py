"""Unpack archives (zip, tar) without ever writing outside the target folder."""

import errno
import lzma
import re
import stat
import struct
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
MAX_HEADER = 1 << 20  # bytes of a tar member's long name or attributes, which are read into memory
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError,
           OverflowError, NotImplementedError, RecursionError)  # fmt: skip
_HEADERS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar (also .gz, .bz2, .xz) into a new `folder`: all of it, or nothing and an `InputError`.

    Only regular files and folders are taken. Links, devices, absolute paths and `..` are refused, and so is what
    unpacks to more than a hundred times the archive's size.
    """
    written = 0
    try:
        with atomic_folder(folder) as out:
            for count, (name, content) in enumerate(tqdm(_members(archive), "unpacking", unit="file", disable=None)):
                _require_limits(archive, written, count + 1)
                target = out / _inside(name, archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as file:
                    while block := content.read(BLOCK):
                        written += len(block)
                        _require_limits(archive, written, count + 1)
                        file.write(block)
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise InputError(f"{archive}: {name} is both a file and a folder in it; nothing was unpacked.") from None
    except _DAMAGE as error:
        raise InputError(f"{archive}: it is damaged ({error}). Get the file again.") from None
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # of gzip and bz2; of a zip that points in front of its beginning
            raise InputError(f"{archive}: it is damaged ({error}). Get the file again.") from None
        raise


def _require_limits(archive: Path, size: int, members: int) -> None:
    """Raise `InputError` where `size` bytes or `members` files are more than an archive of images unpacks to."""
    packed = archive.stat().st_size
    limit = max(ALWAYS_ALLOWED, MAX_RATIO * packed)
    if size > limit or members > MAX_MEMBERS:
        raise InputError(
            f"{archive}: it unpacks to more than {limit / 2**20:.0f} MiB or {MAX_MEMBERS} files "
            f"from {packed / 2**20:.1f} MiB, unlike an archive of images. If it is one, unpack it yourself and use the "
            "folder instead. Nothing was unpacked."
        )


class _Member(tarfile.TarInfo):
    """A tar member whose header is not read into memory, nor its table of holes, where it is larger than any real one.

    `_proc_member` is what the module tarfile provides for subclasses.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse(tar, "it is a sparse file")
        if self.type == tarfile.XGLTYPE:  # kept for all members
            tar.global_bytes = getattr(tar, "global_bytes", 0) + self.size
            if tar.global_bytes > MAX_HEADER:
                self._refuse(tar, f"its attributes claim {tar.global_bytes} bytes")
        if self.type in _HEADERS and self.size > MAX_HEADER:
            self._refuse(tar, f"its name or attributes claim {self.size} bytes")
        return super()._proc_member(tar)

    def _proc_gnusparse_10(self, following, pax_headers, tar):
        self._refuse(tar, "it is a sparse file")

    def _refuse(self, tar: tarfile.TarFile, why: str) -> None:
        raise InputError(f"{tar.name}: {self.name}: {why}, unlike an archive of images. Nothing was unpacked.")


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of the files in an archive. Raises `InputError` for a member that is neither file nor folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            _require_limits(archive, sum(info.file_size for info in members), len(members))
            for info in members:
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if it was not packed on Unix
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise InputError(f"{archive}: {info.filename} is a link or a device; nothing was unpacked.")
                if info.flag_bits & 1:
                    raise InputError(f"{archive}: it needs a password. Unpack it yourself and use the folder instead.")
                _inside(info.filename, archive)
                if not info.is_dir():
                    with file.open(info) as content:
                        yield info.filename, content
        return
    with _open_tar(archive) as file:
        for info in file:
            if not (info.isreg() or info.isdir()):
                raise InputError(f"{archive}: {info.name} is a link or a device; nothing was unpacked.")
            _inside(info.name, archive)
            if info.isreg():
                yield info.name, file.extractfile(info)
            file.members.clear()  # they keep their attributes
        rest = 0
        while block := file.fileobj.read(BLOCK):  # to the end, where compressed files store their checksum
            rest += len(block)
            _require_limits(archive, rest, 1)


def _open_tar(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, tarinfo=_Member)
    except tarfile.ReadError:
        raise InputError(
            f"{archive}: it is not a zip or tar archive. Unpack it yourself and use the folder instead."
        ) from None


def _inside(name: str, archive: Path) -> Path:
    """A member's name as a path within the folder. Raises `InputError` where it points outside."""
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name) or "\0" in name:
        raise InputError(f"{archive}: {name!r} points outside its folder; nothing was unpacked.")
    return Path(*parts)
