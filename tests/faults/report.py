"""The table of a fault run, and all of its faults as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from stages.system.files import atomic, write_json
from tests.faults.toy import Outcome

TABLE, JSON = Path("reports/faults.md"), Path("reports/faults.json")
KINDS = ("kills", "writes", "damage", "hostile input", "tracking", "surroundings")
INJECTED = {  # of the others the table names what a run had
    "kills": "SIGKILL, SIGTERM or SIGINT to dvc, to the stage or to all of them, at a random moment",
    "writes": "the N-th open, write, fsync or rename of a stage fails (ENOSPC, EIO, EACCES, EROFS)",
    "damage": "a file cut off, a bit flipped, a block zeroed: outs, checkpoint, cache, dvc.lock, sources",
    "hostile input": "mutated annotations, predictions, parameters, archives, images",
}
INTRODUCTION = """# Faults
Injected into the toy pipeline of the tests by `make fault-test`; "recovered" means that the same command, run once more
without the fault, ended well with the same bytes in every model, prediction, metric and page. Mutated files are
recovered from where they are read or refused by a message. "Used silently" counts damaged files that a stage took when
it was started alone. {date}, commit {commit}, seed {seed}, {machine}.

"""


def count(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How often each thing came of them."""
    outcomes = list(outcomes)
    return {
        "injected": sum(entry.times for entry in outcomes),
        "recovered": sum(entry.times for entry in outcomes if entry.recovered),
        "used silently": sum(entry.used for entry in outcomes),
        "tracebacks": sum(entry.traceback for entry in outcomes),
        "other faults": sum(bool(entry.note) and entry.recovered and not entry.traceback for entry in outcomes),
    }


def table(outcomes: list[Outcome]) -> str:
    """A row for each kind, in Markdown."""
    kinds = [kind for kind in KINDS if any(entry.kind == kind for entry in outcomes)]
    rows = []
    for kind in kinds:
        entries = [entry for entry in outcomes if entry.kind == kind]
        names = sorted({entry.fault.partition(" (")[0].partition(", before")[0] for entry in entries})
        rows.append([kind, INJECTED.get(kind, "; ".join(names)), *count(entries).values()])
    rows.append(["all", "", *count(outcomes).values()])
    return tabulate(rows, headers=["kind", "what is injected", *count([])], tablefmt="pipe")


def write(outcomes: list[Outcome], left_out: list[str], about: dict[str, object]) -> None:
    """reports/faults.md and reports/faults.json, each whole or not at all."""
    lines = INTRODUCTION.format(**about) + table(outcomes) + "\n"
    bad = [entry for entry in outcomes if not entry.held]
    if bad:
        lines += "\nWhat did not hold:\n\n" + "".join(
            f"- {entry.kind}: {entry.fault}: {entry.note.partition(chr(10))[0]}\n" for entry in bad
        )
    if left_out:
        lines += "\nNot injected: " + "; ".join(left_out) + ".\n"
    with atomic(TABLE) as temporary:
        temporary.write_text(lines, encoding="utf-8")
    rows = [asdict(entry) for entry in outcomes]
    write_json(JSON, {"about": about, "faults": rows, "not_injected": left_out})
