"""Every shell block of README.md runs in a fresh clone, in the order in which it is read, and does what it says.

The clone's drawn faces are fewer and smaller and its trainings an epoch long; a path that a reader has of their own is
replaced by one of the test.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, draw_toy
from reference import reference_state

from stages.model.hrnet import HRNet

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
YAML = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SAMPLE = ROOT / "../shared/data/samples/wflw"


class Clone:
    """A fresh clone, its commands and what they printed."""

    def __init__(self, folder: Path):
        self.folder, self.parent = folder, folder.parent
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "MAKE", "MFLAGS", "MLFLOW_"))
        } | {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
        for tracked in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0"):
            if tracked and (ROOT / tracked).is_file():
                (folder / tracked).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / tracked, folder / tracked)
        for file in ("pyproject.toml", "constraints.txt"):  # what is installed is not older than these
            os.utime(folder / file, (0, 0))
        (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
        self.change("params/datasets/demo.yaml", "train: 800, test: 300, size: 256", "train: 40, test: 16, size: 128")
        self.change("params/recipes/quick.yaml", r"epochs: \d+", "epochs: 1")
        self.change("params/recipes/quick.yaml", r"warmup: \d+", "warmup: 0")
        self.run("git init -q && git add -A && git commit -qm clone")

    def change(self, file: str, pattern: str, new: str) -> None:
        path = self.folder / file
        text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"))
        assert count == 1, f"{file} holds {pattern!r} {count} times"
        path.write_text(text, encoding="utf-8")

    def run(self, block: str) -> str:
        """What the lines of a block print, in the project's environment; each has to succeed."""
        script = f"set -euo pipefail\nexport PATH={self.folder}/.venv/bin:$PATH\n{block}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, text=True, timeout=600,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        return done.stdout

    def read(self, file: str) -> str:
        return (self.folder / file).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    return Clone(tmp_path_factory.mktemp("readme") / "clone")


def block(start: str) -> str:
    """The one shell block with a line that begins so."""
    found = [block for block in BLOCKS if any(line.startswith(start) for line in block.splitlines())]
    assert len(found) == 1, f"{len(found)} blocks begin with {start}"
    TESTED.add(found[0])
    return found[0]


TESTED: set[str] = set()


def test_first_everything_is_made_and_listed(clone):
    printed = clone.run(block("make repro   #"))
    assert "| " in clone.read("reports/results.md")
    assert "demo-quick" in printed.split("reports/results.md")[-1], "make runs lists it"
    made = json.loads(clone.read("reports/experiments/demo-quick/metrics.json"))
    assert made["test"]["n"] == 16


def test_the_environment_is_the_project_s(clone):
    assert clone.run(block("source .venv/bin/activate") + "which dvc").strip() == f"{clone.folder}/.venv/bin/dvc"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_variants_are_trained_and_compared(clone):
    variants = next(text for text in YAML if "demo-quick-lr2" in text)
    (clone.folder / "params/pipeline.yaml").write_text(variants)
    lines = block("python -m stages.report compare").splitlines(keepends=True)
    printed = clone.run("".join(line for line in lines if not line.startswith("make ui")))
    assert "A = demo-quick, B = demo-quick-lr2" in printed
    page = clone.read("reports/results.md")
    assert "demo-quick-wide" in page
    assert "±" in page
    seeds = [
        json.loads(clone.read(f"reports/experiments/demo-quick-wide-s{seed}/provenance.json")) for seed in (1, 2, 3)
    ]
    assert [made["set"] for made in seeds] == [{"model.width": 12, "train.seed": seed} for seed in (1, 2, 3)]
    assert any(line.startswith("make ui") for line in lines)
    port = free_port()
    server = subprocess.Popen(
        ["make", "ui", f"PORT={port}"], cwd=clone.folder, env=clone.environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert time.monotonic() < deadline
                assert server.poll() is None, server.stdout.read()
                time.sleep(1)
    finally:
        os.killpg(server.pid, 2)
        server.wait(timeout=60)


def test_a_table_for_latex_is_printed(clone):
    clone.run(block("python -m stages.report --latex demo"))
    table = clone.read("demo.tex")
    assert r"\toprule" in table
    assert "demo-quick-wide" in table
    (clone.folder / "demo.tex").unlink()


def test_a_value_is_tried_without_touching_the_files(clone):
    clone.run("git add -A && git commit -qm variants")
    printed = clone.run(block("dvc exp run --temp"))
    assert re.search(r"train\.lr.*0\.002", printed)
    assert clone.run("git status --porcelain") == ""


def test_several_are_tried_in_the_background(clone):
    printed = clone.run(block("dvc exp run --queue").replace("0.0005,0.004", "0.004"))
    assert "Queued" in printed or "queued" in printed
    deadline = time.monotonic() + 300
    while "Running" in (status := clone.run("dvc queue status")) or "Queued" in status:
        assert time.monotonic() < deadline, status
        time.sleep(2)
    assert "Success" in status, status


def test_a_value_in_the_workspace_is_taken_back(clone):
    clone.run("dvc exp run -S params/recipes/quick.yaml:train.lr=0.002")  # in DVC's run cache by now
    assert clone.run("git status --porcelain")
    clone.run(block("git restore"))
    assert clone.run("git status --porcelain") == ""
    assert "up to date" in clone.run("dvc status")


def test_own_faces_are_imported(clone):
    coco(clone.folder)
    printed = clone.run(block("python -m stages.import_dataset"))
    assert "mine" in printed
    assert yaml.safe_load(clone.read("params/pipeline.yaml"))["datasets"]["mine"] == {"source": "data/mine"}
    assert yaml.safe_load(clone.read("params/datasets/mine.yaml"))["source"]["form"] == "csv"


def coco(folder: Path) -> None:
    """The toy's faces as COCO key points, in photographs/ and annotations.json."""
    draw_toy(folder / "toy", train=40, test=1)
    (folder / "toy/images").rename(folder / "photographs")
    images, annotations = [], []
    for number, line in enumerate((folder / "toy/train.csv").read_text().splitlines()[1:], 1):
        name, _, _, _, *points = line.split(",")
        images.append({"id": number, "file_name": name, "width": 120, "height": 120})
        triples = [float(v) for i in range(3) for v in (points[2 * i], points[2 * i + 1], 2)]
        annotation = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        annotations.append(annotation | {"keypoints": triples, "num_keypoints": 3})
    category = {"id": 1, "name": "face", "keypoints": ["left_eye", "right_eye", "mouth"], "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "annotations.json").write_text(json.dumps(content))
    shutil.rmtree(folder / "toy")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no ../shared/data/samples: the benchmarks' sample faces")
def test_a_file_of_predictions_is_measured(clone):
    """The annotation itself, moved by a pixel, as another method's file."""
    lfpw = ROOT / "../shared/data/lfpw"
    shutil.copytree(lfpw, clone.folder / "data/lfpw", ignore=shutil.ignore_patterns("images"))
    rows = (lfpw / "face_landmarks_lfpw_test.csv").read_text().splitlines()
    header = "image_name," + ",".join(f"x{k},y{k}" for k in range(68))
    moved = [",".join([row.split(",")[0], *(repr(float(v)) for v in row.split(",")[4:])]) for row in rows[1:]]
    (clone.folder / "mine.csv").write_text("\n".join([header, *moved]) + "\n")
    printed = clone.run(block("python -m stages.score"))
    assert "--origin 1" in printed, "it counts pixels from 1, as the annotation does"
    assert "B = mine.csv" in printed
    shutil.rmtree(clone.folder / "data/lfpw")
    (clone.folder / "mine.csv").unlink()


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no ../shared/data/samples: the benchmarks' sample faces")
def test_a_released_model_is_measured(clone):
    shapes = [(name, tuple(value.shape)) for name, value in HRNet(98).state_dict().items()]
    torch.save(reference_state(shapes), clone.folder / "HR18-WFLW.pth")
    (clone.folder / "data/wflw").symlink_to(SAMPLE.resolve())
    printed = clone.run(block("python -m stages.evaluate --dataset wflw"))
    assert "4.6" in printed, "the published figure beside ours"
    assert json.loads(clone.read("hr18-wflw/metrics.json"))["test"]["n"] == 4
    shutil.rmtree(clone.folder / "hr18-wflw")
    for file in ("HR18-WFLW.pth", "data/wflw"):
        (clone.folder / file).unlink()


def test_data_and_results_are_shared_with_a_second_machine(clone):
    remote = clone.parent / "remote"
    clone.run("git checkout -q -- . && dvc repro")  # without the experiment on own faces
    clone.run(block("dvc add data/mine").replace("/mnt/lab/dvc", str(remote)))
    assert (clone.folder / "data/mine.dvc").exists()
    assert list(remote.rglob("*.dir"))
    assert "mine" in clone.run("git log -1 --stat")
    clone.run(f"git clone -q . {clone.parent}/second")
    second = Clone.__new__(Clone)
    second.folder, second.environment = clone.parent / "second", clone.environment
    (second.folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    printed = second.run(block("dvc pull"))
    assert "Data and pipelines are up to date" in printed
    assert (second.folder / "data/mine").is_dir()


def test_every_block_is_tested():
    assert not [text for text in BLOCKS if text not in TESTED]


def test_the_figures_in_the_readme_are_those_of_the_report():
    """The rows of its table, `NME [low, high]`, in the order of the experiments that they name."""
    rows = [line for line in README.splitlines() if re.search(r"\| \d+\.\d\d \[", line)]
    names = ("demo-quick", "lfpw-quick", "lfpw-quick-from-demo", "lfpw-paper-128", "lfpw-modern-128")
    assert len(rows) == len(names)
    for name, line in zip(names, rows, strict=True):
        test = json.loads((ROOT / f"reports/experiments/{name}/metrics.json").read_text())["test"]
        assert f"{test['nme']:.2f} [{test['nme_ci95'][0]:.2f}, {test['nme_ci95'][1]:.2f}]" in line, name
