"""Inject faults into the toy pipeline and see that the same command recovers from each.

    make fault-test                  a few minutes
    make fault-test SIZE=1000        over night
    python -m tests.faults --size 40 --only kills writes --seed 3

SIZE faults of each kind; tracking and surroundings at most 4 of each of theirs. The same seed injects the same faults
(when exactly a kill arrives depends on the machine). Writes reports/faults.md and reports/faults.json; ends with 1
where something did not recover, a traceback was seen or a failure had no message.
"""

import argparse
import importlib
import random
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

from stages.system.processes import cores
from stages.tracking import provenance
from tests.faults import report
from tests.faults.toy import Outcome, Toy

# kind: module, share of the size, at most
KINDS = {
    "kills": ("kills", 1.0, None),
    "writes": ("writes", 2.0, None),
    "damage": ("damage", 2.0, None),
    "hostile input": ("hostile", 0.5, None),
    "tracking": ("tracking", 1.0, 32),
    "surroundings": ("surroundings", 1.0, 32),
}


def inject(toy: Toy, kind: str, seed: int, number: int) -> Outcome | None:
    """The fault of that number; what the suite cannot judge (a command that does not end) is one that did not hold."""
    module = importlib.import_module(f"tests.faults.{KINDS[kind][0]}")
    try:
        return module.one(toy, random.Random(f"{seed} {kind} {number}"), number)
    except Exception:
        return Outcome(kind, f"number {number}", False, False, False, traceback.format_exc())


def about(seed: int) -> dict[str, object]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    date, cpu = datetime.now(UTC).strftime("%Y-%m-%d"), provenance.environment()["cpu"]
    return {"date": date, "commit": commit, "seed": seed, "machine": f"{cores()} cores of {cpu}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8, help="faults of each kind (8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS), help="these kinds alone")
    parser.add_argument("--jobs", type=int, default=cores(), help="faults at once (the number of cores)")
    arguments = parser.parse_args()
    outcomes, left_out = [], []
    made_of = about(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        print("making the toy project …", flush=True)
        started = time.monotonic()
        toy = Toy(Path(folder))
        jobs = {}
        for kind in arguments.only:
            _, share, most = KINDS[kind]
            for number in range(min(max(round(share * arguments.size), 1), most or sys.maxsize)):
                jobs[pool.submit(inject, toy, kind, arguments.seed, number)] = f"{kind} {number}"
        for done, job in enumerate(as_completed(jobs), 1):
            entry = job.result()
            if entry is None:
                left_out.append(f"{jobs[job]} (this machine does not allow it)")
                continue
            outcomes.append(entry)
            print(
                f"{done}/{len(jobs)}, {time.monotonic() - started:.0f} s: {entry.kind}: {entry.fault}: "
                f"{'held' if entry.held else 'DID NOT HOLD: ' + entry.note}", flush=True,
            )  # fmt: skip
    outcomes.sort(key=lambda entry: (list(KINDS).index(entry.kind), entry.fault))
    report.write(outcomes, left_out, made_of)
    print(f"\n{report.table(outcomes)}\nwritten: {report.TABLE}, {report.JSON}")
    return 0 if all(entry.held for entry in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
