"""Two processes train what one trains, and none outlives the others."""

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

def model():
    torch.manual_seed(1)
    made = hrnet.HRNet(3, hrnet.HRNetConfig(4, 8, 1, (1, 1, 1), 1))
    hrnet.initialise(made)
    return made.double().train()

cpu = torch.device("cpu")
torch.manual_seed(0)
images, maps = torch.randn(7, 3, 64, 64).double(), torch.rand(7, 3, 16, 16).double()
alone, shared = model(), model()
torch.nn.functional.mse_loss(alone(images), maps).backward()
distributed.join(cpu)
part = distributed.share(7)
spread = distributed.spread(shared, cpu, True)
loss = torch.nn.functional.mse_loss(spread(images[part]), maps[part])
(loss * (part.stop - part.start) / 7 * distributed.world()).backward()
pairs = zip(alone.parameters(), shared.parameters(), strict=True)
largest = max(float(p.grad.abs().max()) for p in alone.parameters())
if distributed.rank() == 0:
    print(max(float((a.grad - b.grad).abs().max()) for a, b in pairs) / largest)
distributed.leave()
"""

TWO = "torchrun --standalone --nproc-per-node 2"


@pytest.fixture
def synced(cut_project):
    """The toy project with batch norm over all processes; small steps follow when three epochs have settled the net."""
    path = cut_project.folder / "params/recipes/tiny.yaml"
    before = path.read_text()
    changed = {"sync_norm: false": "sync_norm: true", "epochs: 4": "epochs: 6", "gamma: 0.1": "gamma: 0.002"}
    for old, new in changed.items():
        cut_project.change("params/recipes/tiny.yaml", old, new)
    yield cut_project
    path.write_text(before)
    shutil.rmtree(cut_project.folder / ".training")


def history(project) -> pd.DataFrame:
    return pd.read_csv(project.folder / "models/toy-tiny/history.csv")


def test_two_processes_have_the_loss_curve_of_one(synced):
    """From a common checkpoint: Adam's first steps, each as large as the weights, turn the last bit into percents."""
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
    assert printed.count("going on after epoch 3") == printed.count("epoch 6/6") == 1, "rank 0 alone speaks"
    assert two["train/loss"].tolist() == pytest.approx(one["train/loss"].tolist(), rel=1e-4)
    assert two["val/nme"].tolist() == pytest.approx(one["val/nme"].tolist(), rel=1e-2)
    assert two["train/loss"].nunique() == 6


def test_gradients_over_two_processes_are_those_of_one(tmp_path):
    """To the last digits of float64, where rounding hides nothing."""
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    command = [sys.executable, "-m", "torch.distributed.run", *TWO.split()[1:], str(script)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120,
                          env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-10


def test_a_worker_that_dies_ends_the_others_and_the_training_goes_on_afterwards(synced):
    process = synced.start("python", "-u", "-m", "stages.train", "toy-tiny", LANDMARKS_LAUNCHER=TWO)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    workers = psutil.Process(process.pid).children(recursive=True)
    last = next(w for w in workers if w.environ().get("RANK") == "1")
    began = time.monotonic()
    os.kill(last.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert process.returncode != 0
    assert not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers)
    assert "going on after epoch" in synced.stage("train", "toy-tiny", LANDMARKS_LAUNCHER=TWO)
