"""What files hold now, by their MD5 as DVC hashes them: read in full, whatever times, sizes and inodes say."""

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from stages.system.files import digest
from stages.system.processes import cores
from stages.tracking.provenance import folder_hash, hashed_files

UNREADABLE = "unreadable"  # in place of a hash; a disk that fails says so when it is read


def hash_files(files: Iterable[Path], algorithm: str = "md5", what: str = "hashing") -> dict[Path, str]:
    """The hash of each file that exists, on all cores."""

    def hashed(path: Path) -> str:
        try:
            return digest(path, algorithm)
        except OSError:
            return UNREADABLE

    present = sorted({file for file in files if file.is_file()})
    with ThreadPoolExecutor(cores()) as pool:
        hashes = tqdm(pool.map(hashed, present), what, len(present), unit="file", disable=None)
        return dict(zip(present, hashes, strict=True))


class Contents:
    """The hashes of all files under some paths."""

    def __init__(self, paths: Iterable[Path], objects: Iterable[Path]):
        """objects: files of DVC's cache."""
        self._files = {path: hashed_files(path) for path in set(paths)}
        self.md5 = hash_files([*objects, *(file for files in self._files.values() for file in files)])

    def listing(self, path: Path) -> dict[str, str]:
        """The MD5 of each file of a folder, by its path within."""
        return {file.relative_to(path).as_posix(): self.md5[file] for file in self._files[path]}

    def hash(self, path: Path, instead: Mapping[Path, str] | None = None) -> str | None:
        """As DVC hashes a file or a folder; None where there is nothing. instead: the MD5 that files shall have."""
        instead = {file: md5 for file, md5 in (instead or {}).items() if path in (file, *file.parents)}
        if not path.is_dir():
            return instead.get(path, self.md5.get(path))
        return folder_hash(self.listing(path) | {file.relative_to(path).as_posix(): instead[file] for file in instead})

    def bytes_read(self) -> int:
        return sum(file.stat().st_size for file in self.md5 if file.is_file())


def _git(*words: str, stdin: str = "") -> bytes:
    command = ["git", "--no-optional-locks", *words]
    return subprocess.run(command, input=stdin.encode(), capture_output=True, check=True).stdout


def changed_since_git(path: Path) -> list[Path]:
    """The files under a path that are missing or differ from git's index by their content."""
    tracked = {}
    for entry in _git("ls-files", "--stage", "-z", "--", str(path)).decode().split("\0")[:-1]:
        fields, _, name = entry.partition("\t")
        mode, blob, _ = fields.split()
        if mode.startswith("100"):  # a file, not a link or a repository of its own
            tracked[Path(name)] = blob
    present = [file for file in tracked if file.is_file()]
    blobs = _git("hash-object", "--stdin-paths", stdin="".join(f"{file}\n" for file in present)).decode().split()
    now = dict(zip(present, blobs, strict=True))
    return [file for file, blob in tracked.items() if now.get(file) != blob]


def md5_in_git(file: Path) -> str:
    """The MD5 of a file as git's index has it."""
    return hashlib.md5(_git("cat-file", "--filters", f":./{file.as_posix()}")).hexdigest()
