"""A few faults of `make fault-test` with a fixed seed, and that the suite notices what does not hold.

What other tests inject already is not repeated here: kills (test_repro, test_check, test_files), tracking
(test_tracking), full disks (test_bad_input), mutated files (test_fuzz).
"""

import errno
import random
import shutil
from pathlib import Path

import pytest
from conftest import Project

from stages.tracking.provenance import content_hash
from tests.faults import damage, report, writes
from tests.faults.toy import Outcome, Toy, has_traceback, outcome


class Fetched(Toy):
    """The toy project as far as its faces, without DVC."""

    def __init__(self, folder: Path, python: writes.Failing):
        self.folder = folder
        self.made = Project(folder / "made")
        for stage in ("obtain", "fetch"):
            status, printed = python.run(self.made, stage)
            assert status == 0, printed
        self.of_stage = {"fetch": {"data/raw/toy": content_hash(self.made.folder / "data/raw/toy")}}


@pytest.fixture(scope="module")
def failing():
    if not shutil.which("cc"):
        pytest.skip("this machine has no C compiler")
    return writes.failing()


@pytest.fixture(scope="module")
def toy(tmp_path_factory, failing) -> Toy:
    return Fetched(tmp_path_factory.mktemp("faults"), failing)


@pytest.mark.parametrize(
    ("call", "error", "part", "stays"),
    [
        ("open", errno.EACCES, 0.9, False),
        ("write", errno.ENOSPC, 0.5, True),
        ("fsync", errno.EIO, 0.99, False),
        ("rename", errno.EROFS, 0.99, True),
    ],
)
def test_a_write_that_fails_is_told_and_the_results_of_before_stand(toy, failing, call, error, part, stays):
    result = writes.inject(toy, failing, "fetch", call, error, part, stays=stays, exists=True)
    assert result.held, result.note
    assert result.refused
    assert errno.errorcode[error] in result.fault


def test_every_kind_of_call_is_reached(toy, failing):
    """Its number is that of the files, at least: each is opened, written, synced and renamed, the folder as well."""
    files = sum(path.is_file() for path in (toy.made.folder / "data/raw/toy").rglob("*"))
    for call in ("open", "write", "fsync"):
        assert failing.number_of(toy, "fetch", call) >= files, call
    assert failing.number_of(toy, "fetch", "rename") >= 1


@pytest.mark.parametrize("how", damage.WAYS)
def test_a_file_is_damaged_in_each_way(tmp_path, how):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(1, 256)) * 8)
    assert damage.damage(path, how, random.Random(0))
    changed = path.read_bytes()
    assert (len(changed) < 2040) == (how == "truncated")
    assert (changed.count(0) > 100) == (how == "a block of zeros")


def test_what_does_not_hold_is_counted_and_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = 'Traceback (most recent call last):\n  File "/x/stages/fetch.py", line 1\nKeyError: 1\n'
    outcomes = [
        outcome("kills", "a", 1, "", again="", recovered=True, message=False),
        outcome("writes", "b", 1, "error: disk full", again="", recovered=False),
        outcome("writes", "c", 1, trace, again="", recovered=True),
        outcome("writes", "d", 1, "so it ends", again="", recovered=True),
        outcome("damage", "e", 0, "", again="", recovered=True),
        Outcome("hostile input", "f", True, False, True, times=230),
    ]
    assert [entry.held for entry in outcomes] == [True, False, False, False, True, True]
    about = {"date": "2026-01-02", "commit": "abc", "seed": 7, "machine": "2 cores"}
    report.write(outcomes, ["kills 3 (not allowed)"], about)
    text = report.TABLE.read_text()
    assert "2026-01-02, commit abc, seed 7, 2 cores" in text
    rows = {row.split("|")[1].strip(): [int(cell) for cell in row.split("|")[3:-1]] for row in _rows(text)}
    assert rows["writes"] == [3, 2, 0, 1, 1]
    assert rows["all"] == [235, 234, 0, 1, 1]
    assert "- writes: b: not recovered" in text
    assert "- writes: d: it ended without a message" in text
    assert "Not injected: kills 3 (not allowed)" in text


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def test_a_traceback_of_dvc_s_own_is_not_this_project_s():
    trace = 'Traceback (most recent call last):\n  File "/site-packages/dvc/x.py", line 1\nKeyError'
    assert not has_traceback(trace)
    assert has_traceback(trace.replace("site-packages/dvc", "toy/stages"))
