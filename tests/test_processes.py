"""Worker processes are counted by what the job may use and has to do; a stage ends with the dvc that runs it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import still_running

from stages.system.processes import cores, processes

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("allowed", "jobs", "workers"), [(3, 50, 3), (64, 5, 5), (64, 0, 1), (1, 9, 1)])
def test_workers_are_as_many_as_the_jobs_cores_and_no_more_than_its_work(monkeypatch, allowed, jobs, workers):
    """A machine of 128 cores of which a scheduler grants a few."""
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    assert cores() == allowed
    with processes(jobs) as pool:  # nothing is submitted, so none is started
        assert pool._max_workers == workers


SLOW_TO_IMPORT = """
import time
from stages.system import errors
from stages.system.processes import processes

if __name__ == "__mp_main__":
    print("importing", flush=True)
    time.sleep(60)

def main():
    with processes(2) as pool:
        list(pool.map(abs, range(2)))

if __name__ == "__main__":
    errors.run(main)
"""


def test_ctrl_c_while_workers_import_prints_no_traceback(tmp_path):
    """It reaches all processes of the terminal, of which those cannot handle it yet."""
    (tmp_path / "stage.py").write_text(SLOW_TO_IMPORT)
    with subprocess.Popen(
        [sys.executable, tmp_path / "stage.py"], env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as stage:  # fmt: skip
        assert stage.stdout.readline() == "importing\n"
        os.killpg(stage.pid, signal.SIGINT)
        printed, _ = stage.communicate(timeout=20)
    assert stage.returncode == 130
    assert "stopped; run the same command again" in printed
    assert "Traceback" not in printed
    assert "KeyboardInterrupt" not in printed


STAGE = """
import time
from stages.system import errors

def main():
    print("started", flush=True)
    try:
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

errors.run(main)
"""
# As DVC does: by a shell, which waits for the stage
DVC = "import subprocess, sys; subprocess.run(' '.join(sys.argv[1:]) + '; true', shell=True, executable='/bin/sh')"


TORCHRUN = "import subprocess, sys; subprocess.run(sys.argv[1:])"


STARTED = {"torchrun": {"TORCHELASTIC_RUN_ID": "1"}, "slurmstepd": {"SLURM_JOB_ID": "1"}}  # what each tells a stage


@pytest.mark.parametrize(("name", "ends"), [("dvc", True), ("torchrun", True), ("slurmstepd", True), ("make", False)])
def test_a_stage_ends_with_what_started_it_when_that_is_killed_and_with_nothing_else(tmp_path, name, ends):
    (tmp_path / name).write_text(TORCHRUN if name == "torchrun" else DVC)
    (tmp_path / "stage.py").write_text(STAGE)
    environment = os.environ | STARTED.get(name, {"DVC_STAGE": "train@toy"}) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / name, sys.executable, tmp_path / "stage.py"]
    if name == "slurmstepd":  # known by the name of its process
        (tmp_path / name).rename(tmp_path / "slurmstepd.py")
        (tmp_path / name).symlink_to(sys.executable)
        command[:2] = [tmp_path / name, tmp_path / "slurmstepd.py"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as dvc:
        assert dvc.stdout.readline() == "started\n"
        *shell, stage = psutil.Process(dvc.pid).children(recursive=True)
        dvc.kill()
        try:
            assert bool(still_running([stage], 10 if ends else 1.5)) != ends
        finally:
            with suppress(psutil.NoSuchProcess):
                stage.send_signal(signal.SIGTERM)
            still_running([stage, *shell], 10)
        printed = dvc.stdout.read()
    assert (f"the {name} that started this stage" in printed) == ends
    assert "cleaned up" in printed
