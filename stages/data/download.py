"""Getting data: a download that goes on where it broke off and is used only if its SHA-256 is right, and archives
unpacked so that nothing outside their folder is ever written.
"""

import hashlib
import http.client
import lzma
import os
import re
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock
from tqdm import tqdm

from stages.data.files import atomic_folder, require_space
from stages.errors import InputError

TRIES = 4  # in a row without a new byte
TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 20  # bytes
MAX_RATIO, ALWAYS_ALLOWED, MAX_MEMBERS = 100, 1 << 26, 1_000_000  # images hardly shrink in an archive, lists tenfold
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def is_url(root: str | Path) -> bool:
    return str(root).startswith(("http://", "https://"))


def obtain(root: str | Path, store: Path, sha256: str | None) -> Path:
    """The folder that `root` stands for: itself, or what its archive (a file or a URL) holds, unpacked under `store`.

    Unpacked once; another call returns at once. Raises `InputError` for a wrong checksum or an archive that is
    damaged, too large or reaches outside its folder.
    """
    if is_url(root):
        if sha256 is None:
            raise InputError(
                f"{root}: source.sha256 is needed with a URL, so that everyone gets the same file. "
                "Take it from the publisher, or from a copy that you trust (sha256sum FILE)."
            )
    elif not Path(root).is_file():
        return Path(root)
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / ".lock"):
        if sha256 and (folder := store / sha256[:16]).is_dir():
            return folder
        archive = download(str(root), sha256, store / f"{sha256[:16]}.archive") if is_url(root) else Path(root)
        digest = _sha256(archive)
        if sha256 and digest != sha256:
            raise InputError(f"{archive}: its SHA-256 is {digest}, and source.sha256 is {sha256}. It was not used.")
        folder = store / digest[:16]
        if not folder.is_dir():
            unpack(archive, folder)
        if is_url(root):
            archive.unlink()  # the folder has all of it
        return folder


def download(url: str, sha256: str, path: Path) -> Path:
    """Fetch `url` to `path`, going on where an earlier call broke off (path.part); nothing to do if it is there.

    Raises `InputError` where the server refuses, does not answer or breaks off for good, and where the checksum is
    wrong: then what came is kept as path.bad.
    """
    if path.is_file() and _sha256(path) == sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part, tries, most = path.with_name(f"{path.name}.part"), 0, -1
    while (reason := _go_on(url, part)) is not None:
        got = part.stat().st_size if part.exists() else 0
        tries, most = (tries + 1, most) if got <= most else (1, got)
        if tries == TRIES:
            raise InputError(f"{url}: {reason}. {got} bytes are in {part}; the same command goes on from there.")
        time.sleep(min(tries - 1, 2))
    if (digest := _sha256(part)) != sha256:
        bad = path.with_name(f"{path.name}.bad")
        os.replace(part, bad)
        raise InputError(
            f"{url}: its SHA-256 is {digest}, and {sha256} was expected. What came is kept as {bad} and not used. "
            "Check the checksum and the URL; the same command downloads it anew."
        )
    os.replace(part, path)
    return path


def _go_on(url: str, part: Path) -> str | None:
    """Append to `part` what is still missing. None once all is there, else why the rest did not come."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            said = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if response.status != 206 or not said or int(said[1]) != start:
                start = 0  # the server sends it from the beginning
                if response.status == 206:
                    part.unlink()
                    return "the server sent another part than was asked for"
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            require_space(part.parent, (total or 0) - start, f"downloading {url}")
            with (
                open(part, "ab" if start else "wb") as file,
                tqdm(None, part.stem, total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
            ):
                while block := response.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
                file.flush()
                os.fsync(file.fileno())
            got = part.stat().st_size
            return None if total in (None, got) else f"the server broke off at {got} of {total} bytes"
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return None  # there is nothing after what we have
        raise InputError(f"{url}: the server answers {error.code} {error.reason}. Check the URL.") from None
    except urllib.error.URLError as error:
        return f"no answer ({error.reason})"
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        return f"the connection broke ({error or type(error).__name__})"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
                                f"{archive}: it unpacks to more than {limit / 2**20:.0f} MiB or {MAX_MEMBERS} files, "
                                f"and has {archive.stat().st_size / 2**20:.1f} MiB. That is no archive of images; if "
                                "it is, unpack it by hand and name the folder. Nothing was unpacked."
                            )
                        file.write(block)
    except _DAMAGE as error:
        raise InputError(f"{archive}: it is damaged ({error}). Get the file again.") from None
    except OSError as error:
        if error.errno is None:  # what gzip and bz2 say of damage
            raise InputError(f"{archive}: it is damaged ({error}). Get the file again.") from None
        raise


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of the files in an archive. Raises `InputError` at what is neither file nor folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was not packed on Unix
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise InputError(f"{archive}: {info.filename} is a link or a device; nothing was unpacked.")
                if info.flag_bits & 1:
                    raise InputError(f"{archive}: it asks for a password. Unpack it by hand and name the folder.")
                _inside(info.filename, archive)
                if not info.is_dir():
                    with opened.open(info) as content:
                        yield info.filename, content
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            for info in opened:
                if not (info.isreg() or info.isdir()):
                    raise InputError(f"{archive}: {info.name} is a link or a device; nothing was unpacked.")
                _inside(info.name, archive)
                if info.isreg():
                    yield info.name, opened.extractfile(info)
            while opened.fileobj.read(BLOCK):  # to the end, where compressed files have their checksum
                pass
    else:
        raise InputError(f"{archive}: it is neither a folder nor a zip or tar archive. Unpack it, name the folder.")


def _inside(name: str, archive: Path) -> Path:
    """A member's name as a path within the folder. Raises `InputError` where it leads out of it."""
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name) or "\0" in name:
        raise InputError(f"{archive}: {name!r} leads out of its folder; nothing was unpacked.")
    return Path(*parts)
