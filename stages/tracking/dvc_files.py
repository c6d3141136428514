"""dvc.lock and DVC's table of who reads and writes what: whether DVC can read them."""

import json
from pathlib import Path

import yaml

from stages.system.errors import InputError
from stages.tracking.process import committed

LOCK, RWLOCK = Path("dvc.lock"), Path(".dvc/tmp/rwlock")
MEND = "python -m stages.check"


def read_lock(text: str) -> dict | None:
    """What the text of a dvc.lock holds; None where DVC cannot read it, or its last line has no end."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml
    from voluptuous import Invalid

    try:
        content = parse_yaml(text, str(LOCK))
        COMPILED_LOCKFILE_SCHEMA(content)
    except (DvcException, Invalid, ValueError, TypeError):
        return None
    return content if text.endswith("\n") else None


def is_cut(content: dict, former: dict | None) -> bool:
    """Whether a file that DVC can read was cut off between two lines; former: as it was last committed.

    Every stage has outs, and DVC keeps the order of the entries and appends new ones.
    """
    names = list(content.get("stages", {}))
    known = list((former or {}).get("stages", {}))
    ends_early = len(names) < len(known) and names == known[: len(names)]
    return ends_early or not all("outs" in entry for entry in content.get("stages", {}).values())


def is_rwlock_damaged() -> bool:
    """Whether DVC cannot read its table of readers and writers, which blocks every later command."""
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        SCHEMA(json.loads(RWLOCK.read_bytes()))
    except FileNotFoundError:
        return False
    except (ValueError, Invalid):
        return True
    return False


def require_readable() -> None:
    """Raise `InputError` where DVC's own files are damaged."""
    former = committed(LOCK) or ""
    if LOCK.exists():
        text = LOCK.read_text(encoding="utf-8", errors="replace")
        content = read_lock(text)
        if content is None or (text != former and is_cut(content, read_lock(former))):
            raise InputError(f"{LOCK} is damaged, so nothing can be compared with it. To mend it: {MEND}")
    elif former:
        raise InputError(f"{LOCK} is missing, and the last commit has it. To restore it: git restore {LOCK}")
    if is_rwlock_damaged():
        raise InputError(f"{RWLOCK}, DVC's table of who reads and writes what, is damaged. To mend it: {MEND}")


def committed_hashes() -> dict[tuple[str, str], str]:
    """The hash of every out and dependency in the dvc.lock of the last commit, by stage and path."""
    stages = (yaml.safe_load(committed(LOCK) or "") or {}).get("stages", {})
    return {
        (name, entry["path"]): entry["md5"] for name, stage in stages.items()
        for entry in (*stage.get("deps", []), *stage.get("outs", [])) if "md5" in entry
    }  # fmt: skip
