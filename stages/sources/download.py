"""Downloads that continue where they were interrupted, and are used only if their SHA-256 is right."""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from stages.system.errors import InputError
from stages.system.files import digest, require_space

TRIES = 4  # in a row without a new byte
TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 20  # bytes


def download(url: str, sha256: str, path: Path) -> Path:
    """Download `url` to `path`, continuing an interrupted download (path.part); a complete one is kept.

    Raises `InputError` where the server refuses, does not answer or keeps breaking off, and where the checksum is
    wrong: then the data received are kept as path.bad.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):  # two processes must not append to one file
        if path.is_file() and digest(path) == sha256:
            return path
        part, tries, largest = path.with_name(f"{path.name}.part"), 0, -1
        while (reason := _continue(url, part)) is not None:
            size = part.stat().st_size if part.exists() else 0
            tries, largest = (tries + 1, largest) if size <= largest else (1, size)
            if tries == TRIES:
                raise InputError(f"{url}: {reason}. {size} bytes are in {part}; run the same command to continue.")
            time.sleep(min(tries - 1, 2))
        if (received := digest(part)) != sha256:
            bad = path.with_name(f"{path.name}.bad")
            os.replace(part, bad)
            raise InputError(
                f"{url}: its SHA-256 is {received}, and {sha256} was expected. The file is kept as {bad} and not used. "
                "Check the checksum and the URL; the same command downloads it again."
            )
        os.replace(part, path)
    return path


def _continue(url: str, part: Path) -> str | None:
    """Append to `part` what is still missing. None once it is complete, else why the rest is missing."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            offset = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if response.status != 206 or not offset or int(offset[1]) != start:
                start = 0  # the server sends the whole file
                if response.status == 206:
                    part.unlink()
                    return "the server sent another part than was requested"
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            require_space(part.parent, (total or 0) - start, f"downloading {url}", cached=False)
            with (
                open(part, "ab" if start else "wb") as file,
                tqdm(None, part.stem, total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
            ):
                while block := response.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
                file.flush()
                os.fsync(file.fileno())
            size = part.stat().st_size
            return None if total in (None, size) else f"the server broke off at {size} of {total} bytes"
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return None  # the part is already complete
        raise InputError(f"{url}: the server answered {error.code} {error.reason}. Check the URL.") from None
    except urllib.error.URLError as error:
        return f"no answer ({error.reason})"
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        return f"the connection broke ({error or type(error).__name__})"
