"""The GitHub workflow is what a person runs, and the table of metric differences that it makes of a pull request."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, outside_environment

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
(JOB,) = WORKFLOW["jobs"].values()
RUN = {step["name"]: step["run"] for step in JOB["steps"] if "run" in step}
METRICS = "reports/experiments/demo-quick/metrics.json"


def test_it_runs_at_every_push_and_pull_request_and_may_change_nothing():
    assert set(WORKFLOW[True]) == {"push", "pull_request"}, "YAML 1.1 reads `on` as true"
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_actions_are_pinned_by_major_version():
    used = [step["uses"] for step in JOB["steps"] if "uses" in step]
    assert [re.sub(r"@v\d+$", "", action) for action in used] == ["actions/checkout", "actions/setup-python"]


def test_the_python_is_the_oldest_that_the_project_allows():
    (version,) = (step["with"]["python-version"] for step in JOB["steps"] if "setup-python" in step.get("uses", ""))
    assert f'requires-python = ">={version}"' in (ROOT / "pyproject.toml").read_text()


def test_its_commands_are_targets_of_the_makefile_that_readme_names():
    commands = [RUN[name].split("#")[0].split() for name in ("Lint", "Tests", "Demo")]
    assert commands == [["make", "lint"], ["make", "openvino", "test", "test-slow"], ["make", "repro"]]
    targets = [target for _, *targets in commands for target in targets]
    planned = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True)
    assert planned.returncode == 0, planned.stderr
    readme = (ROOT / "README.md").read_text()
    assert [target for target in targets if f"make {target}" not in readme] == []


def test_pytorch_is_the_pinned_one_from_the_index_that_readme_names():
    pinned = re.search(r"\$\((grep .*?)\)", RUN["PyTorch for the CPU"]).group(1)
    printed = subprocess.run(["bash", "-c", pinned], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+\n", printed)
    index = re.search(r"--index-url (\S+)", RUN["PyTorch for the CPU"]).group(1)
    assert index in (ROOT / "README.md").read_text()


@pytest.fixture
def pull_request(tmp_path):
    """A checkout as GitHub makes it, of a branch that changes one metric; in the workspace it is another once more."""
    for name in ("dvc.yaml", "dvc.lock", ".dvc/config", METRICS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / ".gitignore").write_text(".venv\n/summary.md\n")
    metrics = json.loads((tmp_path / METRICS).read_text())

    def write(nme: float) -> None:
        metrics["test"]["nme"] = nme
        (tmp_path / METRICS).write_text(json.dumps(metrics))

    def git(*command: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=tmp_path, check=True)

    write(5.5)
    git("init", "-qb", "main")
    git("add", "-A")
    git("commit", "-qm", "base")
    git("checkout", "-qb", "change")
    write(5.25)
    git("commit", "-qam", "change")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "--no-edit", "change")
    write(5.26)
    return tmp_path


def test_a_pull_request_gets_a_table_of_the_metrics_that_it_changes(pull_request):
    summary = pull_request / "summary.md"
    done = subprocess.run(
        ["bash", "-e", "-c", RUN["Metric differences"]], cwd=pull_request, capture_output=True, text=True,
        env=outside_environment() | {"GITHUB_STEP_SUMMARY": str(summary)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    committed, made = summary.read_text().split("### ")[1:]
    for table, numbers in ((committed, ["5.5", "5.25", "-0.25"]), (made, ["5.25", "5.26", "0.01"])):
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
        assert rows[2:] == [[METRICS, "test.nme", *numbers]]
    (step,) = (step for step in JOB["steps"] if step.get("name") == "Metric differences")
    assert step["if"] == "github.event_name == 'pull_request'"
