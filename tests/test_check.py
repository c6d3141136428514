"""`make repro` begins with a check that refuses what cannot work and mends what a killed run of DVC left damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import Project
from dvc.dvcfile import Lockfile
from dvc.repo import Repo

from stages import check
from stages.tracking.provenance import content_hash

ROOT = Path(__file__).parents[1]
COMMIT = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """A toy project whose faces are cut by DVC, and its dvc.lock committed."""
    project = Project(tmp_path_factory.mktemp("check")).with_dvc()
    project.run("dvc", "repro", "preprocess@toy")
    project.run("git", "add", "-A")
    project.run(*COMMIT, "cut")
    return project


@pytest.fixture
def here(made, monkeypatch):
    """The project as the working directory; its dvc.lock is put back afterwards."""
    monkeypatch.chdir(made.folder)
    whole = Path("dvc.lock").read_bytes()
    yield made
    Path("dvc.lock").write_bytes(whole)


def entries(text: str) -> dict:
    return yaml.safe_load(text)["stages"]


def test_a_lock_file_cut_anywhere_loses_no_entry_that_it_or_git_has(here, capsys):
    committed = Path("dvc.lock").read_text()
    first, *_, last = entries(committed)
    newer = committed.replace("size: ", "size: 1", 1)  # in the entry of the first stage
    newer += "  own@toy:\n    cmd: x\n    outs:\n    - path: own\n"
    lines = [end + 1 for end, byte in enumerate(newer) if byte == "\n"]
    own = len(newer) - newer[::-1].index("own@toy:"[::-1]) - len("own@toy:") - 2
    ends = [*range(0, len(newer), 211), *lines[:3], *lines[3::9], own - 1, own, own + 1, *lines[-3:-1]]
    for end in sorted(set(ends)):
        Path("dvc.lock").write_text(newer[:end])
        check.repair_lock()
        mended, printed = entries(Path("dvc.lock").read_text()), capsys.readouterr().out
        assert list(mended)[: len(entries(committed))] == list(entries(committed)), f"cut at {end}"
        whole = [name for name in entries(newer) if f"  {name}:" in newer[:end]][:-1]
        assert all(mended[name] == entries(newer)[name] for name in whole), f"cut at {end}"
        if "dvc.lock was damaged" in printed:
            assert Path("dvc.lock.damaged.tmp").read_text() == newer[:end], "nothing is lost"
            others = [name for name in mended if name not in whole]
            assert all(mended[name] == entries(committed)[name] for name in others), f"cut at {end}"
        else:  # the entry of a stage that DVC reads as changed, or all that git has
            assert list(mended) == list(entries(committed)) or end > own
    Lockfile(Repo(), "dvc.lock").load()
    assert {first, last} <= set(mended)


def test_a_block_of_zeros_in_a_lock_file_keeps_what_is_before_it(here, capsys):
    whole = Path("dvc.lock").read_bytes()
    middle = whole.index(b"fetch@toy")
    Path("dvc.lock").write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    check.repair_lock()
    assert "dvc.lock was damaged" in capsys.readouterr().out
    assert Path("dvc.lock").read_bytes() == whole


def test_entries_that_a_person_took_out_stay_out(here):
    for _ in range(2):
        content = yaml.safe_load(Path("dvc.lock").read_text())
        del content["stages"][next(iter(content["stages"]))]
        Path("dvc.lock").write_text(yaml.safe_dump(content, sort_keys=False))
        before = Path("dvc.lock").read_text()
        check.repair_lock()
        assert Path("dvc.lock").read_text() == before


@pytest.mark.parametrize("part", [0, 0.6])
def test_repro_after_a_cut_lock_file_gives_the_same_again(here, part):
    whole = Path("dvc.lock").read_bytes()
    Path("dvc.lock").write_bytes(whole[: int(len(whole) * part)])
    if part:
        assert "is invalid" in here.run("dvc", "status", fails=True)
    assert "dvc.lock was damaged" in here.stage("check")
    assert Path("dvc.lock").read_bytes() == whole
    assert "up to date" in here.run("dvc", "status", "preprocess@toy")
    assert "dvc.lock.damaged" not in here.run("git", "status", "--porcelain")


def test_a_damaged_lock_file_that_was_never_committed_keeps_its_whole_entries(here):
    whole = Path("dvc.lock").read_bytes()
    here.run("git", "rm", "-q", "--cached", "dvc.lock")
    here.run(*COMMIT, "without")
    try:
        cut = whole[: whole.index(b"fetch@toy") + 200]
        Path("dvc.lock").write_bytes(cut)
        assert "of its whole entries (1) alone" in here.stage("check")
        assert cut.startswith(Path("dvc.lock").read_bytes())
        assert "Running stage" not in here.run("dvc", "repro", "preprocess@toy"), "the rest comes from the cache"
        assert entries(Path("dvc.lock").read_text()) == entries(whole.decode())
    finally:
        here.run("git", "add", "dvc.lock")
        here.run(*COMMIT, "with")


def test_an_unresolved_merge_is_left_to_the_person(here):
    merge = b"<<<<<<< HEAD\n" + Path("dvc.lock").read_bytes()
    Path("dvc.lock").write_bytes(merge)
    assert "holds an unresolved merge: take either side" in here.stage("check", fails=True)
    assert Path("dvc.lock").read_bytes() == merge


def test_an_unreadable_table_of_readers_and_writers_is_removed(here, capsys):
    table = Path(".dvc/tmp/rwlock")
    table.write_text("")
    assert ".dvc/tmp/rwlock" in here.run("dvc", "repro", "--force", "obtain@toy", fails=True)
    for content in (b"", b'{"read": {"a": 1}}', b'{"read": {"a": [{"pid": 1, "c', b"[]", bytes(100), b"\xff"):
        table.write_bytes(content)
        check.repair_rwlock()
        assert ".dvc/tmp/rwlock was damaged by a killed run: removed" in capsys.readouterr().out
        assert not table.exists()
    here.run("dvc", "repro", "--force", "obtain@toy")
    table.write_text("{}")
    check.repair_rwlock()
    assert capsys.readouterr().out == ""
    assert table.exists(), "a table that can be read is DVC's own affair"


def test_what_a_killed_dvc_holds_is_dropped_though_its_number_is_taken(here, capsys):
    """By itself, as in a container whose first process asks for no children, or by another program."""
    table, out = Path(".dvc/tmp/rwlock"), os.path.abspath("data/raw/toy")
    with subprocess.Popen(["true"]) as ended, subprocess.Popen(["sleep", "60"]) as other:
        try:
            os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
            former = {"pid": ended.pid, "cmd": "/usr/bin/dvc repro"}
            reader = {"pid": other.pid, "cmd": "/usr/bin/dvc repro"}
            table.write_text(json.dumps({"write": {out: former}, "read": {out: [reader]}}))
            printed = here.run("dvc", "repro", "--force", "fetch@toy", fails=True)
            assert f"it is being blocked by:\n  (PID {ended.pid})" in printed
            check.repair_rwlock()
            printed = capsys.readouterr().out
            assert f"what a killed run held (process {ended.pid}, {other.pid}) is dropped" in printed
            here.run("dvc", "repro", "--force", "fetch@toy")

            holders = {"write": {out: {"pid": other.pid, "cmd": "/usr/bin/sleep 60"}}, "read": {}}
            table.write_text(json.dumps(holders))
            check.repair_rwlock()
            assert capsys.readouterr().out == ""
            assert json.loads(table.read_text()) == holders, "what runs keeps what it holds"
        finally:
            table.unlink(missing_ok=True)
            other.kill()


def test_nothing_is_mended_while_dvc_runs_here(here, tmp_path):
    program = tmp_path / "dvc"
    program.write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, program], cwd="data", stdout=subprocess.PIPE, text=True) as running:
        try:
            running.stdout.readline()
            Path("dvc.lock").write_text("schema:")
            printed = here.stage("check", fails=True)
            assert f"dvc.lock cannot be read, and DVC is running here (process {running.pid}): wait for it" in printed
            assert Path("dvc.lock").read_text() == "schema:"
        finally:
            running.kill()


def test_repro_goes_on_after_a_kill_at_any_moment(here):
    for pause in (0.8, 1.5, 2.2):
        process = here.start("dvc", "repro", "--force", "preprocess@toy")
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    here.stage("check")
    here.run("dvc", "repro", "preprocess@toy")
    assert "up to date" in here.run("dvc", "status", "preprocess@toy")


def test_temporary_files_of_a_killed_process_change_no_hash(here):
    folders = ("data/raw/toy", "data/crops/toy", "data/toy", "stages/data", "params/schemes")
    before = {folder: content_hash(Path(folder)) for folder in folders}
    left = [Path(folder, name) for folder in folders for name in (".a.csv.17.tmp", ".pictures.17.former.tmp/a.jpg")]
    for file in left:
        file.parent.mkdir(exist_ok=True)
        file.write_text("half")
    try:
        assert "up to date" in here.run("dvc", "status", "preprocess@toy")
        assert {folder: content_hash(Path(folder)) for folder in folders} == before
        assert ".tmp" not in here.run("git", "status", "--porcelain", "--untracked-files=all")
    finally:
        for file in left:
            shutil.rmtree(file.parent) if file.parent.name.endswith(".tmp") else file.unlink()


def test_wrong_parameters_are_refused_all_at_once_before_dvc_reads_them(here):
    pipeline, recipe = Path("params/pipeline.yaml"), Path("params/recipes/tiny.yaml")
    texts = pipeline.read_text(), recipe.read_text()
    try:
        recipe.write_text(texts[1].replace("epochs: 4", "epoch: 4"))
        more = "  more: {dataset: toy, recipe: tinny, init: random}\ncross_dataset"
        pipeline.write_text(texts[0].replace("cross_dataset", more))
        printed = here.stage("check", fails=True)
        assert "params/recipes/tiny.yaml: 2 faults" in printed
        assert "train.epoch: unknown key; did you mean epochs?" in printed
        assert "there is no params/recipes/tinny.yaml. Did you mean tiny?" in printed
    finally:
        pipeline.write_text(texts[0])
        recipe.write_text(texts[1])
    assert here.stage("check") == ""


def test_a_folder_without_git_is_refused_before_anything_is_installed(project):
    assert "is not a git repository, and DVC needs one (a ZIP download has none)" in project.stage("check", fails=True)
    shutil.copy(ROOT / "Makefile", project.folder)
    printed = project.run("make", "repro", "PYTHON=false", fails=True)
    assert printed.startswith("error: this folder is not a git repository, and DVC needs one (a ZIP download has none)")
    assert "git init && git add -A && git commit" in printed
    assert not (project.folder / ".venv").exists()
