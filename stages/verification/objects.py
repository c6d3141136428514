"""The objects of DVC's cache that hold an out: files named by the MD5 of their content; that of a folder is a list."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CachedOut:
    """An out, and where its content is cached.

    path: as dvc.lock names it. stage: as DVC addresses it. md5: as recorded, with .dir of a folder. cached: False where
    git keeps it and the cache may have a copy from a run.
    """

    path: Path
    stage: str
    md5: str
    cache: Path
    cached: bool

    def object(self, md5: str | None = None) -> Path:
        md5 = md5 or self.md5
        return self.cache / md5[:2] / md5[2:]

    def files(self) -> dict[str, str] | None:
        """The MD5 of each of its files by the path within, "" for a single file; None where the list is not readable.

        A list that is damaged and can still be read is found by its hash.
        """
        if not self.md5.endswith(".dir"):
            return {"": self.md5}
        try:
            return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(self.object().read_bytes())}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def objects(self) -> dict[Path, str]:
        """Every object and the MD5 that it should have."""
        expected = {self.object(): self.md5.removesuffix(".dir")}
        return expected | {self.object(md5): md5 for md5 in (self.files() or {}).values() if len(md5) == 32}
