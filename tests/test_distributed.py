"""Two processes train the same model as one, and none outlives the others."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

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
    path = cut_project.folder / "params/recipes/tiny.yaml"
    before = path.read_text()
    replacements = {"sync_norm: false": "sync_norm: true", "epochs: 4": "epochs: 6", "gamma: 0.1": "gamma: 0.002"}
    for old, new in replacements.items():
        cut_project.change("params/recipes/tiny.yaml", old, new)
    yield cut_project
    path.write_text(before)
    shutil.rmtree(cut_project.folder / ".training")


def history(project) -> pd.DataFrame:
    return pd.read_csv(project.folder / "data/training/toy-tiny/history.csv")


def test_two_processes_have_the_loss_curve_of_one(synced):
    """From a common checkpoint: Adam's first steps are as large as the weights and magnify last-bit differences."""
    process = synced.start("python", "-u", "-m", "stages.train", "toy-tiny")
    for line in process.stdout:
        if line.startswith("epoch 3/"):
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
    assert printed.count("resuming after epoch 3") == printed.count("epoch 6/6") == 1, "only rank 0 prints"
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


def test_a_worker_that_dies_ends_the_others_and_the_training_resumes_afterwards(synced):
    process = synced.start("python", "-u", "-m", "stages.train", "toy-tiny", LANDMARKS_LAUNCHER=TWO)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    workers = psutil.Process(process.pid).children(recursive=True)
    second = next(w for w in workers if w.environ().get("RANK") == "1")
    began = time.monotonic()
    os.kill(second.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert process.returncode != 0
    assert not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers)
    assert "resuming after epoch" in synced.stage("train", "toy-tiny", LANDMARKS_LAUNCHER=TWO)
