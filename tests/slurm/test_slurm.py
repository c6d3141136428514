"""The scripts of docs/training.md, word for word, under Slurm's own daemons: two nodes, a process on each, gloo.

`make slurm-test` runs this; Debian and Ubuntu have what it needs as `slurm-wlm munge`.
"""

import getpass
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project, still_running

from slurm.cluster import NODES, Cluster, missing, submit, wait_for

pytestmark = [
    pytest.mark.skipif("SLURM_TEST" not in os.environ, reason="make slurm-test runs it"),
    pytest.mark.skipif(
        bool(missing()), reason=f"{', '.join(missing())} not installed: apt-get install slurm-wlm munge"
    ),
]
SCRIPTS = dict(
    re.findall(r"`(\w+\.sh)`[^`]*\n\n```bash\n(.*?)^```", (ROOT / "docs/training.md").read_text(), re.M | re.S)
)
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@t")
COMMANDS = re.findall(r"^sbatch .*?(?= +#|$)", (ROOT / "docs/training.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """A git and DVC repository with both scripts, whose faces are cut; SLOW is the seconds that a step waits."""
    toy = Project(tmp_path_factory.mktemp("checkout") / "checkout")
    toy.change("params/recipes/tiny.yaml", "epochs: 4", "epochs: 10")
    toy.change(
        "stages/model/fit.py", "    state.step += 1\n",
        '    state.step += 1\n    time.sleep(float(__import__("os").environ.get("SLOW", 0)))\n',
    )  # fmt: skip
    for name, text in SCRIPTS.items():
        (toy.folder / name).write_text(text)
    (toy.folder / ".venv").symlink_to(sys.prefix)
    toy.environment |= {"PROCESSES": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    toy.with_dvc()
    toy.run("dvc", "repro", "preprocess@toy")
    return toy


@pytest.fixture(autouse=True)
def nothing_left(cluster, made):
    """No job and no checkpoint of a test that has failed disturbs the next one."""
    yield
    cluster.ask("scancel", "--user", getpass.getuser())
    wait_for(lambda: not cluster.ask("squeue", "-h"), 60, "jobs do not end")
    shutil.rmtree(made.folder / ".training", ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(made) -> dict[str, bytes]:
    """The model of two processes that torchrun starts on one machine, without Slurm."""
    made.stage("train", "toy-tiny", LANDMARKS_LAUNCHER="torchrun --standalone --nproc-per-node 2")
    return take_model(made)


def take_model(made: Project) -> dict[str, bytes]:
    """The files of the trained model, which is removed."""
    folder = made.folder / "models/toy-tiny"
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    assert json.loads((made.folder / "data/training/toy-tiny/training.json").read_text())["processes"] == 2
    for path in (folder, made.folder / "data/training/toy-tiny"):
        shutil.rmtree(path)
    return files


def train(cluster, made, *options: str, **environment: str) -> tuple[str, Path]:
    """Submit the documented command for the toy; the job's number and its output."""
    (command,) = (command for command in COMMANDS if "train.sh" in command)
    words = command.replace("wflw-modern", "toy-tiny").split()[1:]
    number = submit(cluster, made.folder, [*options, *words], made.environment | environment)
    return number, made.folder / f"slurm-{number}.out"


def wait_until_printed(output: Path, text: str, seconds: float = 60) -> None:
    wait_for(lambda: output.exists() and text in output.read_text(), seconds, f"{text!r} was not printed")


def test_the_job_trains_over_two_nodes_to_the_weights_of_one_machine(cluster, made, undisturbed):
    number, output = train(cluster, made, SLOW="0.1")
    wait_until_printed(output, "epoch 1/10")
    for node in NODES:
        assert len(cluster.processes(node, "-m stages.train toy-tiny")) >= 2, "torchrun and its worker"
    wait_for(lambda: not cluster.running(number), 60, "the job does not end")
    assert cluster.job(number)["JobState"] == "COMPLETED", output.read_text()
    made.run("dvc", "commit", "--force", "train@toy-tiny")
    assert "train" not in made.run("dvc", "status", "train@toy-tiny").replace("stages.train", "")
    assert take_model(made) == undisturbed


def test_a_job_that_reaches_its_limit_is_queued_again_and_continues_to_the_same_weights(cluster, made, undisturbed):
    """Slurm looks every 30 s whether a job's limit is near: the training takes 80."""
    number, output = train(cluster, made, SLOW="2")
    wait_until_printed(output, "epoch 1/10")
    cluster.ask("scontrol", "update", f"JobId={number}", "TimeLimit=2")  # what is left is less than the script's 120 s
    wait_for(lambda: "Restarts=1 " in cluster.ask("scontrol", "show", "job", number), 60, "it was not queued again")
    wait_for(lambda: cluster.job(number)["JobState"] == "PENDING", 60, "it does not end")
    cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now", "TimeLimit=60")  # StartTime: not in 2 minutes
    wait_for(lambda: not cluster.running(number), 120, "it does not complete")
    assert cluster.job(number)["JobState"] == "COMPLETED"
    printed = output.read_text()
    stopped = re.findall(r"stopping after epoch (\d+, step \d)", printed)
    resumed = re.findall(r"resuming after epoch (\d+, step \d)", printed)
    assert resumed, printed
    assert set(stopped) <= set(resumed), "each continues where the one before stopped"  # or, in a validation, before it
    assert "error: p" not in printed, "no process is left waiting for another"
    assert take_model(made) == undisturbed


@pytest.mark.parametrize(
    "victim", ["torchrun of rank 1", "slurmstepd of rank 0", "slurmstepd of rank 1", "all of a node"]
)
def test_a_node_that_dies_ends_the_job_within_a_minute_and_another_continues(cluster, made, undisturbed, victim):
    number, output = train(cluster, made, SLOW="0.5")
    wait_until_printed(output, "epoch 2/10")
    on = {node: cluster.processes(node, "-m stages.train") for node in NODES}
    ranks = {process.environ().get("RANK"): node for node in NODES for process in on[node]}
    node = NODES[1] if victim == "all of a node" else ranks[victim[-1]]
    (launcher,) = (process for process in on[node] if process.cmdline()[1].endswith("/torchrun"))
    (step,) = (process for process in launcher.parents() if process.name() == "slurmstepd")
    if victim == "all of a node":
        cluster.daemons[node].kill()
    victims = [launcher] if "torchrun" in victim else [step] if "slurmstepd" in victim else [step, *on[node]]
    for process in victims:
        process.kill()
    ended = ("COMPLETING", "FAILED")  # the first until Slurm gives up the node
    wait_for(lambda: cluster.job(number)["JobState"] in ended, 60, "the job did not end within a minute")
    printed = output.read_text()
    assert cluster.job(number)["ExitCode"] != "0:0", printed
    assert re.search(r"is gone|waited for another one that ended|since process \d of 2 was told to", printed), printed
    assert not still_running([*on[NODES[0]], *on[NODES[1]]], 10)
    if victim == "all of a node":
        cluster.start_node(node)
    again, output = train(cluster, made)
    wait_for(lambda: not cluster.running(again), 120, "the second job does not end")
    assert "resuming after epoch" in output.read_text()
    assert take_model(made) == undisturbed


def test_the_tasks_of_a_sweep_s_array_hand_their_experiments_back_to_one_checkout(cluster, made):
    """Each in a clone of its own, at once, with DVC's cache in common."""
    made.run("dvc", "add", "data/toy")
    made.run("dvc", "repro")
    made.run("git", "add", "-A")
    made.run("git", *IDENTITY, "commit", "-qm", "toy trained")
    (command,) = (command for command in COMMANDS if "sweep.sh" in command)
    words = command.replace("modern", "tiny").split()[1:]
    rates = words[-3:]
    number = submit(cluster, made.folder, words, made.environment)
    wait_for(lambda: not cluster.running(number), 240, "the array does not end")
    printed = {path.name: path.read_text() for path in made.folder.glob(f"slurm-{number}_*.out")}
    assert len(printed) == 3
    listed = made.stage("runs")
    for rate in rates:
        value = f"{float(rate):g}"
        assert re.search(rf"lr={value} +toy-tiny +\d+\.\d+", listed), (listed, printed)
    assert all("Running stage 'train@toy-tiny'" in text for text in printed.values())
    assert not any("Running stage 'preprocess@toy'" in text for text in printed.values()), "the cache is shared"
    assert not list(made.folder.parent.glob("sweep-*")), "the clones are removed"
    assert made.run("git", "status", "--porcelain", "-uno") == "", "the checkout is as it was"
    experiment = re.search(rf"sweep-{number}-\d", listed).group()
    made.run("dvc", "exp", "apply", experiment)
    assert (made.folder / "models/toy-tiny/model.safetensors").is_file()
