"""Two processes train the same model as one, and none outlives the others."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from conftest import still_running

from stages.model import distributed
from stages.system.errors import InputError

GRADIENTS = """
import torch
from stages.model import distributed, hrnet

def new_model():
    torch.manual_seed(1)
    model = hrnet.HRNet(3, hrnet.HRNetConfig(4, 8, 1, (1, 1, 1), 1))
    return model.double().train()

cpu = torch.device("cpu")
torch.manual_seed(0)
images, maps = torch.randn(7, 3, 64, 64).double(), torch.rand(7, 3, 16, 16).double()
single, replica = new_model(), new_model()
torch.nn.functional.mse_loss(single(images), maps).backward()
distributed.init_process_group(cpu)
local = distributed.local_slice(7)
network = distributed.wrap_ddp(replica, cpu, sync_norm=True)
loss = torch.nn.functional.mse_loss(network(images[local]), maps[local])
(loss * (local.stop - local.start) / 7 * distributed.world_size()).backward()
pairs = zip(single.parameters(), replica.parameters(), strict=True)
largest = max(float(p.grad.abs().max()) for p in single.parameters())
if distributed.rank() == 0:
    print(max(float((a.grad - b.grad).abs().max()) for a, b in pairs) / largest)
distributed.destroy_process_group()
"""

TWO = "torchrun --standalone --nproc-per-node 2"


@pytest.fixture
def synced(cut_project):
    """The toy project with batch norm over all processes, and small steps after the first three epochs."""
    path, loop = cut_project.folder / "params/recipes/tiny.yaml", cut_project.folder / "stages/model/fit.py"
    before, loop_before = path.read_text(), loop.read_text()
    cut_project.change("stages/model/fit.py", "SAVE_SHARE = 0.05", "SAVE_SHARE = 1e9")  # a checkpoint of every epoch
    replacements = {"sync_norm: false": "sync_norm: true", "epochs: 4": "epochs: 6", "gamma: 0.1": "gamma: 0.002"}
    for old, new in replacements.items():
        cut_project.change("params/recipes/tiny.yaml", old, new)
    yield cut_project
    path.write_text(before)
    loop.write_text(loop_before)
    shutil.rmtree(cut_project.folder / ".training")


def history(project) -> pd.DataFrame:
    return pd.read_csv(project.folder / "data/training/toy-tiny/history.csv")


def test_two_processes_have_the_loss_curve_of_one(synced):
    """From a common checkpoint: Adam's first steps are as large as the weights and magnify last-bit differences."""
    process = synced.start("python", "-u", "-m", "stages.train", "toy-tiny")
    for line in process.stdout:
        if line.startswith("epoch 4/"):  # by then the checkpoint of the third is written
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shutil.copytree(synced.folder / ".training", synced.folder / "kept")
    synced.stage("train", "toy-tiny")
    one = history(synced)
    shutil.rmtree(synced.folder / ".training")
    (synced.folder / "kept").rename(synced.folder / ".training")
    printed = synced.stage("train", "toy-tiny", LANDMARKS_LAUNCHER=TWO)
    two = history(synced)
    assert printed.count("resuming after epoch") == printed.count("epoch 6/6") == 1, "only rank 0 prints"
    assert two["train/loss"].tolist() == pytest.approx(one["train/loss"].tolist(), rel=1e-4)
    assert two["val/nme"].tolist() == pytest.approx(one["val/nme"].tolist(), rel=1e-2)
    assert two["train/loss"].nunique() == 6


def test_gradients_over_two_processes_are_those_of_one(tmp_path):
    """In float64, so that rounding hides no difference."""
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    command = [sys.executable, "-m", "torch.distributed.run", *TWO.split()[1:], str(script)]
    process = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120,
                             env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert float(process.stdout) < 1e-10


def test_a_worker_that_is_stopped_or_killed_ends_the_others_and_the_training_resumes_afterwards(synced):
    """SIGTERM ends all after the same step, with a checkpoint from which the next training continues."""
    saved = None
    for how in (signal.SIGTERM, signal.SIGKILL):
        process = synced.start("python", "-u", "-m", "stages.train", "toy-tiny", LANDMARKS_LAUNCHER=TWO)
        first = []
        for line in process.stdout:
            first.append(line)
            if line.startswith("epoch "):
                break
        workers = psutil.Process(process.pid).children(recursive=True)
        second = next(w for w in workers if w.environ().get("RANK") == "1")
        second.send_signal(how)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode != 0
        assert not still_running(workers, 5)
        stopping = re.search(r"stopping after (epoch \d+, step \d+), since process 1 of 2 was told to", rest)
        assert bool(stopping) == (how == signal.SIGTERM), rest
        assert saved is None or any(f"resuming after {saved}" in line for line in first)
        saved = stopping and stopping[1]


def test_more_processes_than_faces_of_the_smallest_batch_train_and_more_than_a_batch_are_refused(synced):
    """40 faces less val in batches of 4 are batches of 3 and 4 faces: a fourth process would have none of some."""
    synced.change("params/recipes/tiny.yaml", "batch: 8, sync_norm", "batch: 4, sync_norm")
    synced.change("params/recipes/tiny.yaml", "epochs: 6", "epochs: 1")
    four = TWO.replace("2", "4")
    printed = synced.stage("train", "toy-tiny", LANDMARKS_LAUNCHER=four)
    assert "epoch 1/1" in printed
    assert history(synced)["train/loss"].notna().all()
    five = TWO.replace("2", "5")
    refused = synced.stage("train", "toy-tiny", LANDMARKS_LAUNCHER=five, fails=True)
    assert "5 processes cannot share batches of 4 of" in refused
    assert "Use 4 processes or fewer, or raise train.batch" in refused


def test_a_process_that_runs_out_of_memory_says_what_fits_and_ends_the_others(synced):
    """Its trial of smaller batches must not wait for the gradients of processes that have memory left."""
    full = 'if distributed.rank() == 1 and len(images) > 2:\n        raise torch.OutOfMemoryError("out")\n    '
    synced.change("stages/model/fit.py", "with torch.autocast(", f"{full}with torch.autocast(")
    began = time.monotonic()
    printed = synced.stage("train", "toy-tiny", LANDMARKS_LAUNCHER=TWO, fails=True)
    assert time.monotonic() - began < 60
    assert "out of memory in a step of 8 faces. 4 would fit: set train.batch to 4" in printed


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:12"),
        RuntimeError("NCCL communicator was aborted on rank 0."),
        torch.distributed.DistBackendError("watchdog timeout"),
    ],
)
def test_a_process_that_waited_for_a_lost_one_says_so(monkeypatch, error):
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "process 0 of 2 waited for another one that ended, or .* within 10 minutes"
    with pytest.raises(InputError, match=message), distributed.lost_processes():
        raise error


@pytest.mark.parametrize(("error", "processes"), [("a bug", "2"), ("gloo", "1")])
def test_any_other_error_is_not_taken_for_a_lost_process(monkeypatch, error, processes):
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(RuntimeError, match=error), distributed.lost_processes():
        raise RuntimeError(error)


def test_waiting_for_other_processes_is_bounded(monkeypatch):
    called = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **options: called.update(options))
    distributed.init_process_group(torch.device("cpu"))
    assert called == {"timeout": distributed.TIMEOUT}
