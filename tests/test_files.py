"""Files and folders are whole or absent, whatever kills the process that writes them, and disks are measured first."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stages.system import files
from stages.system.errors import InputError
from stages.system.files import atomic, atomic_folder, require_space

ROOT = Path(__file__).parents[1]

# Kills itself before or after the n-th call of a function that changes the disk; prints the number of calls otherwise.
WRITER = """
import os, shutil, signal, sys
from pathlib import Path
from stages.system import files

path, point, exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "exchange"
calls = 0

def counted(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls * 2 == point:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return function(*arguments, **options)
        finally:
            if calls * 2 + 1 == point:
                os.kill(os.getpid(), signal.SIGKILL)
    return call

if not exchange:
    files._exchange = lambda one, other: False
for name in ("replace", "fsync", "unlink", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
files._exchange = counted(files._exchange)
if path.suffix == ".json":
    files.write_json(path, "new")
else:
    with files.atomic_folder(path) as out:
        (out / "a").write_text("new")
        (out / "b").write_text("new")
print(calls)
"""


def write(path: Path, point: int, how: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WRITER, str(path), str(point), how]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def content(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir()}


OLD, NEW = {"a": "old", "b": "old"}, {"a": "new", "b": "new"}


@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_a_folder_survives_sigkill_at_every_step(tmp_path, how):
    write(tmp_path / "counted", 0, how)
    steps = int(write(tmp_path / "counted", 0, how).stdout)
    for point in range(2, 2 * steps + 2):
        path = tmp_path / f"{point}" / "crops"
        path.mkdir(parents=True)
        for name, text in OLD.items():
            (path / name).write_text(text)
        assert write(path, point, how).returncode == -9
        if how == "exchange":
            assert content(path) in (OLD, NEW), f"killed at {point}: a reader finds one or the other"
        with pytest.raises(KeyError), atomic_folder(path):  # the next writer, which fails
            raise KeyError
        assert content(path) in (OLD, NEW), f"killed at {point}"
        assert os.listdir(path.parent) == ["crops"]


def test_a_file_survives_sigkill_at_every_step(tmp_path):
    steps = int(write(tmp_path / "counted.json", 0, "exchange").stdout)
    for point in range(2, 2 * steps + 2):
        path = tmp_path / f"{point}" / "metrics.json"
        path.parent.mkdir()
        path.write_text("old")
        assert write(path, point, "exchange").returncode == -9
        assert path.read_text() in ("old", '"new"\n')
        files.write_json(path, "next")
        assert os.listdir(path.parent) == ["metrics.json"]


def test_folders_that_cannot_be_exchanged_are_renamed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "x") as out:
            (out / "a").write_text(text)
    assert content(tmp_path / "x") == {"a": "new"}
    assert os.listdir(tmp_path) == ["x"]


def test_what_a_running_process_or_another_name_has_is_left_alone(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as running, subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # its number is taken until it is waited for
        kept = [f".x.{running.pid}.tmp", ".x.1.999999999.tmp", ".xy.999999999.tmp", ".x.tmp"]
        for name in (*kept, ".x.999999999.tmp", f".x.{ended.pid}.tmp", f".x.{os.getpid()}.tmp"):
            (tmp_path / name).mkdir()
        with atomic_folder(tmp_path / "x"):
            pass
        running.kill()
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "x"])


# ---- space


def megabytes_free(monkeypatch, free: float) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free * 2**20)))


@pytest.fixture
def dvc(tmp_path, monkeypatch):
    """Writes the settings of a DVC repository, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_shares_blocks", lambda one, other: False)

    def settings(text: str = "", local: str = "") -> None:
        Path(".dvc").mkdir(exist_ok=True)
        Path(".dvc/config").write_text("[core]\n    analytics = false\n['remote \"s\"']\n    url = /mnt\n" + text)
        Path(".dvc/config.local").write_text(local)

    return settings


def test_the_copy_in_dvc_s_cache_needs_its_own_space(dvc, monkeypatch):
    megabytes_free(monkeypatch, 1.5)
    require_space(Path("data/crops/x"), 2**20, "cutting")  # no DVC here
    dvc()
    with pytest.raises(InputError, match=r"cutting needs 2.00 MiB in data/crops/x \(one half for DVC's copy"):
        require_space(Path("data/crops/x"), 2**20, "cutting")
    require_space(Path("data"), 2**20, "downloading", cached=False)
    megabytes_free(monkeypatch, 2)
    require_space(Path("data/crops/x"), 2**20, "cutting")


@pytest.mark.parametrize(
    ("text", "local", "linked"),
    [
        ("[cache]\n    type = copy\n", "", False),
        ('[cache]\n    type = "reflink,copy"\n', "", False),
        ('[cache]\n    type = "reflink,hardlink,copy"\n', "", True),
        ("[cache]\n    type = symlink\n", "", True),
        ("[cache]\n    type = symlink\n", "[cache]\n    type = copy\n", False),
        ("[cache\n", "", False),
    ],
)
def test_a_cache_that_links_needs_none(dvc, monkeypatch, text, local, linked):
    megabytes_free(monkeypatch, 1.5)
    dvc(text, local)
    if linked:
        require_space(Path("data/crops/x"), 2**20, "cutting")
    else:
        with pytest.raises(InputError, match="2.00 MiB"):
            require_space(Path("data/crops/x"), 2**20, "cutting")


def test_blocks_are_shared_where_the_file_system_can(dvc, monkeypatch):
    megabytes_free(monkeypatch, 1.5)
    dvc()
    monkeypatch.setattr(files, "_shares_blocks", lambda one, other: True)
    require_space(Path("data/crops/x"), 2**20, "cutting")


def test_a_cache_on_another_disk_is_measured_there(dvc, monkeypatch):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == Path(".").resolve().stat().st_dev:
        pytest.skip("this machine has no second disk")
    dvc("[cache]\n    dir = /dev/shm\n")
    free = {elsewhere: 2**19, Path(".").resolve(): 2**30}
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    with pytest.raises(InputError, match=r"needs 1.00 MiB in /dev/shm \(for DVC's copy\), and 0.50 MiB are free"):
        require_space(Path("data/crops/x"), 2**20, "cutting")


NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
MAY_MOUNT = shutil.which("unshare") and not subprocess.run([*NAMESPACE, "mount -t tmpfs tmpfs . 2>&1"]).returncode
BIG = {
    "torch.save": lambda path: torch.save({"w": torch.ones(2**20)}, path),
    "numpy": lambda path: np.ones(2**20).tofile(path),
    "pq.write_table": lambda path: pq.write_table(pa.table({"a": np.random.default_rng(0).random(2**19)}), path),
    "to text": lambda path: path.write_text("x" * 2**22),
}


@pytest.mark.skipif(not MAY_MOUNT, reason="this machine does not allow mounting a small disk")
@pytest.mark.parametrize("writer", BIG)
def test_a_disk_that_fills_is_named_by_whichever_library_writes(tmp_path, writer):
    code = (
        "from pathlib import Path\nfrom test_files import BIG\nfrom stages.system import errors\n"
        "from stages.system.files import atomic\n"
        f"def main():\n    with atomic(Path('small/x')) as temporary:\n        BIG[{writer!r}](temporary)\n"
        "errors.run(main)"
    )
    (tmp_path / "small").mkdir()
    command = [*NAMESPACE, 'mount -t tmpfs -o size=2m tmpfs small && "$@"; s=$?; ls -A small; exit $s', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the disk is full: small/x needs more than the"), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "", "nothing is left"


def test_an_error_on_a_disk_with_space_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="something else"), atomic(tmp_path / "x"):
        raise RuntimeError("something else")
    assert os.listdir(tmp_path) == []
