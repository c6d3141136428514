"""What the machine does to a command is one message and an exit status; a fault of the program keeps its traceback."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from stages.system import errors
from stages.system.errors import run

ROOT = Path(__file__).parents[1]


def fail(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "error: memory ran out. Close other programs, or lower train.batch"),
        (MemoryError("Unable to allocate 8.00 TiB"), "error: memory ran out (Unable to allocate 8.00 TiB)."),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "error: memory ran out (CUDA out of"),
        (cv2.error("OpenCV(4.12) alloc.cpp:73: error: (-4:Insufficient memory) Failed"), "error: memory ran out ("),
        (PermissionError(13, "Permission denied", "data/raw"), "error: Permission denied: data/raw"),
        (OSError("8388608 requested and 0 written"), "error: 8388608 requested and 0 written"),
    ],
)
def test_what_the_machine_causes_is_one_message(capsys, monkeypatch, error, message):
    monkeypatch.delenv("DEBUG", raising=False)
    with pytest.raises(SystemExit) as end:
        run(fail(error))
    printed = capsys.readouterr().err
    assert end.value.code == 1
    assert printed.startswith(message)
    assert printed.count("\n") == 1
    monkeypatch.setenv("DEBUG", "1")
    with pytest.raises(SystemExit):
        run(fail(error))
    assert "Traceback" in capsys.readouterr().err


def test_torch_that_gets_no_memory_is_understood(capsys):
    with pytest.raises(SystemExit):
        run(lambda: torch.empty(2**50))
    assert capsys.readouterr().err.startswith("error: memory ran out (")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("KeyboardInterrupt", "\nstopped; run the same command again to continue\n"),
        ("ImportError('libx.so: failed to map segment from shared object')", "error: memory ran out (libx.so: failed"),
        ("MemoryError", "error: memory ran out. Close other programs"),
    ],
)
def test_what_happens_while_packages_are_loaded_is_one_message(tmp_path, raised, message):
    (tmp_path / "pandas.py").write_text(f"raise {raised}")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "stages.train", "x"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith(message), done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_a_fault_while_packages_are_loaded_keeps_its_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('no such thing')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "stages.fetch", "x"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "Traceback" in done.stderr
    assert "no such thing" in done.stderr


def test_a_limited_address_space_is_named(monkeypatch, capsys):
    monkeypatch.setattr(errors.resource, "getrlimit", lambda _: (2**30, 2**30))
    errors.hook(SystemError, SystemError("returned NULL without setting an exception"), None)
    assert "may have 1.0 GiB of address space (ulimit -v)" in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(KeyError):
        run(fail(KeyError("x")))


def test_a_killed_worker_is_one_message(tmp_path):
    """As the kernel does it when memory runs out."""
    (tmp_path / "victim.py").write_text(
        "import os, signal\n"
        "from stages.system import errors\n"
        "from stages.system.processes import processes\n"
        "def die(_):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def main():\n    with processes(3) as pool:\n        list(pool.map(die, range(3)))\n"
        "if __name__ == '__main__':\n    errors.run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "victim.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: a worker process was killed from outside, most likely because memory ran out")
    assert done.stderr.count("\n") == 1
