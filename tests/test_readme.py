"""The README's first shell blocks run in a fresh clone, in the order in which they are read, and do what they say.

The clone's drawn faces are fewer and smaller and its trainings an epoch long; a path that a reader has of their own is
replaced by one of the test.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, free_port, outside_environment, start

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
YAML = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


class Clone:
    """A fresh clone, its commands and what they printed."""

    def __init__(self, folder: Path):
        self.folder, self.parent = folder, folder.parent
        self.environment = outside_environment() | {
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"
        }  # fmt: skip
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
    return found[0]


def test_first_everything_is_made_and_listed(clone):
    printed = clone.run(block("make repro   #"))
    assert "| " in clone.read("reports/results.md")
    assert "demo-quick" in printed.split("reports/results.md")[-1], "make runs lists it"
    made = json.loads(clone.read("reports/experiments/demo-quick/metrics.json"))
    assert made["test"]["n"] == 16


def test_the_environment_is_the_project_s(clone):
    used = clone.run(block("source .venv/bin/activate") + "which dvc").strip()
    assert Path(used).resolve() == (clone.folder / ".venv/bin/dvc").resolve()


def test_variants_are_trained_and_compared(clone):
    variants = next(text for text in YAML if "demo-quick-lr2" in text)
    (clone.folder / "params/pipeline.yaml").write_text(variants.replace("[1, 2, 3]", "[1, 2]"))
    lines = block("python -m stages.report compare").splitlines(keepends=True)
    printed = clone.run("".join(line for line in lines if not line.startswith("make ui")))
    assert "A = demo-quick, B = demo-quick-lr2" in printed
    page = clone.read("reports/results.md")
    assert "demo-quick-wide" in page
    assert "±" in page
    seeds = [json.loads(clone.read(f"reports/experiments/demo-quick-wide-s{seed}/provenance.json")) for seed in (1, 2)]
    assert [made["set"] for made in seeds] == [{"model.width": 12, "train.seed": seed} for seed in (1, 2)]
    assert any(line.startswith("make ui") for line in lines)
    port = free_port()
    server = start(["make", "ui", f"PORT={port}"], clone.folder, clone.environment)
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
        os.killpg(server.pid, signal.SIGINT)
        server.wait(timeout=60)


def test_a_table_for_latex_is_printed(clone):
    clone.run(block("python -m stages.report --latex demo"))
    table = clone.read("demo.tex")
    assert r"\toprule" in table
    assert "demo-quick-wide" in table
    (clone.folder / "demo.tex").unlink()


def test_the_figures_in_the_readme_are_those_of_the_report():
    """The rows of its table, `NME [low, high]`, in the order of the experiments that they name."""
    rows = [line for line in README.splitlines() if re.search(r"\| \d+\.\d\d \[", line)]
    names = ("demo-quick", "lfpw-quick", "lfpw-quick-from-demo", "lfpw-paper-128", "lfpw-modern-128")
    assert len(rows) == len(names)
    for name, line in zip(names, rows, strict=True):
        test = json.loads((ROOT / f"reports/experiments/{name}/metrics.json").read_text())["test"]
        assert f"{test['nme']:.2f} [{test['nme_ci95'][0]:.2f}, {test['nme_ci95'][1]:.2f}]" in line, name
