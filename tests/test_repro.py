"""What `dvc repro` promises: the same hashes again, resuming after a kill, every run in MLflow."""

import json
import os
import re
import shutil
import signal
import sqlite3

import pytest
import yaml
from conftest import Project, free_port

RUNS = "SELECT r.run_uuid, r.name, r.status FROM runs r WHERE r.lifecycle_stage = 'active' ORDER BY r.start_time"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """A toy project after its first `dvc repro`, with MLflow."""
    project = Project(tmp_path_factory.mktemp("repro")).with_dvc()
    project.environment.pop("LANDMARKS_TRACKING")
    project.run("dvc", "repro")
    return project


def outs(project: Project) -> dict[str, str]:
    """The hash of every out in dvc.lock."""
    stages = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def runs(project: Project, query: str = RUNS) -> list[tuple]:
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        return database.execute(query).fetchall()


def change(project: Project, statement: str) -> None:
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        database.execute(statement)


def forget(project: Project, *names: str) -> None:
    for name in names:
        path = project.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_one_experiment_is_one_finished_run_with_its_training_and_its_results(made):
    ((_, title, status),) = runs(made)
    assert (title.rpartition(" ")[0], status) == ("toy-tiny", "FINISHED")
    logged = dict(runs(made, "SELECT key, value FROM latest_metrics"))
    metrics = json.loads((made.folder / "reports/experiments/toy-tiny/metrics.json").read_text())
    assert logged["test/nme"] == pytest.approx(metrics["test"]["nme"], rel=5e-6), "six significant digits"
    assert logged["test_blur/nme"] == pytest.approx(metrics["blur"]["nme"], rel=5e-6)
    assert metrics["test"]["nme_ci95"] is None or {"test/nme_ci95_low", "test/nme_ci95_high"} <= set(logged)
    assert not [key for key in logged if key.startswith("system/")], "the machine's load, where it is asked for"
    assert {"train/loss", "val/nme"} <= set(logged)
    tags = dict(runs(made, "SELECT key, value FROM tags"))
    crops = outs(made)["data/crops/toy"]
    assert tags["data"] == crops
    assert (tags["entry"], tags["variant"], tags["seed"]) == ("toy-tiny", "", "1")
    assert set(runs(made, "SELECT name, digest FROM datasets")) == {("toy-training", crops), ("toy-test", crops)}
    provenance = json.loads((made.folder / "reports/experiments/toy-tiny/provenance.json").read_text())
    assert provenance["run"] == title.replace(" ", "-")
    assert provenance["run"] in (made.folder / "reports/results.md").read_text()


def test_nothing_runs_again_when_nothing_changed(made):
    assert "Data and pipelines are up to date" in made.run("dvc", "repro")


def test_twice_from_an_empty_cache_gives_identical_hashes(made):
    before = outs(made)
    forget(
        made,
        ".dvc/cache",
        "data/raw",
        "data/crops",
        "models/toy-tiny",
        "data/training",
        "reports/experiments",
        "reports/figures",
    )
    made.run("dvc", "repro", "--force", LANDMARKS_TRACKING="off")
    assert outs(made) == before


def test_what_dvc_restores_from_its_cache_is_entered_in_mlflow(made):
    (name,) = (name for _, name, _ in runs(made))
    forget(made, "mlflow.db", "models/toy-tiny", "data/crops", "data/predictions")
    assert "Running stage" not in made.run("dvc", "repro")
    assert not (made.folder / "mlflow.db").exists()
    assert "entered in MLflow as run" in made.stage("log_restored")
    assert [(n, status) for _, n, status in runs(made)] == [(name, "FINISHED")]
    assert made.stage("log_restored") == "", "and not again"
    epochs = runs(made, "SELECT DISTINCT step FROM metrics WHERE key = 'train/loss' ORDER BY step")
    assert [step for (step,) in epochs] == [1, 2, 3, 4]


def test_what_is_already_entered_leaves_a_finished_run_as_it_was(made):
    query = "SELECT run_uuid, status, start_time, end_time FROM runs"
    tags = "SELECT run_uuid, key, value FROM tags ORDER BY run_uuid, key"
    before = runs(made, query), runs(made, tags)
    assert made.stage("log_restored") == ""
    made.stage("report")
    assert (runs(made, query), runs(made, tags)) == before
    change(made, "DELETE FROM tags WHERE key = 'logged.report'")
    assert "entered in MLflow as run" in made.stage("log_restored"), "the pages"
    assert runs(made, query) == before[0], "what comes afterwards is no longer training time"


def test_a_run_that_was_deleted_stays_deleted_and_can_be_had_back(made):
    (run,) = (run for run, *_ in runs(made))
    change(made, "UPDATE runs SET lifecycle_stage = 'deleted'")
    everything = "SELECT run_uuid, lifecycle_stage FROM runs"
    for _ in range(2):
        printed = made.stage("log_restored")
        assert "its MLflow run was deleted, so nothing is entered. To have it back: " in printed
        assert runs(made, everything) == [(run, "deleted")]
    command = printed.partition("have it back: ")[2].strip()
    made.run("bash", "-c", command)
    assert runs(made, everything) == [(run, "active")]


def test_nothing_is_entered_in_a_store_that_fails(made):
    (version,) = runs(made, "SELECT version_num FROM alembic_version")[0]
    change(made, "DELETE FROM tags WHERE key = 'logged.evaluate'")
    change(made, "UPDATE alembic_version SET version_num = '0c779009ac13'")
    try:
        printed = made.stage("log_restored")
        assert "out-of-date database schema" in printed
        assert "mlflow db upgrade sqlite:///mlflow.db" in printed
        assert printed.count("\n") == 1
        assert "error: MLflow at mlflow.db" in made.stage("ui", "--port", str(free_port()), fails=True)
    finally:
        change(made, f"UPDATE alembic_version SET version_num = '{version}'")
    assert "entered in MLflow as run" in made.stage("log_restored")


def test_another_value_by_dvc_exp_run_is_a_second_run_with_the_same_metrics(made):
    made.run("dvc", "exp", "run", "-S", "params/recipes/tiny.yaml:train.lr=0.005")
    first, second = (run for run, *_ in runs(made))
    of = {
        run: {key for (key,) in runs(made, f"SELECT key FROM latest_metrics WHERE run_uuid = '{run}'")}
        for run in (first, second)
    }
    assert of[first] == of[second] - {"train/seconds"}
    rates = runs(made, "SELECT run_uuid, value FROM params WHERE key = 'train.lr'")
    assert dict(rates) == {first: "0.01", second: "0.005"}
    tags = dict(runs(made, f"SELECT key, value FROM tags WHERE run_uuid = '{second}'"))
    assert (tags["entry"], tags["variant"]) == ("toy-tiny", "lr=0.005")
    (title,) = (name for run, name, _ in runs(made) if run == second)
    assert title.startswith("toy-tiny lr=0.005 ")
    nme = json.loads((made.folder / "reports/experiments/toy-tiny/metrics.json").read_text())["test"]["nme"]
    printed = made.stage("runs", COLUMNS="80")
    assert re.search(rf"toy-tiny +tiny lr=0.005 +{nme:.3f} .*current", printed)
    assert re.search(rf"{tags['dvc_experiment']} +lr=0.005 +toy-tiny +{nme:.3f} .*done", printed)
    assert max(len(line) for line in printed.splitlines()) <= 80


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_dvc_repro_resumes_to_the_same_hashes(made, how):
    made.run("dvc", "repro", LANDMARKS_TRACKING="off")
    before = outs(made)
    forget(made, "models/toy-tiny")
    process = made.start("dvc", "repro", "--force", "--single-item", "train@toy-tiny", PYTHONUNBUFFERED="1")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    os.killpg(process.pid, how)
    process.communicate(timeout=60)
    assert [status for _, _, status in runs(made)].count("RUNNING") == (how == signal.SIGKILL)
    printed = made.run("dvc", "repro", "--force", "--single-item", "train@toy-tiny")
    assert "resuming after epoch" in printed
    assert "RUNNING" not in [status for _, _, status in runs(made)]
    made.run("dvc", "repro", LANDMARKS_TRACKING="off")
    assert outs(made) == before


def test_another_number_of_threads_gives_the_same_metrics_to_the_last_bit(made):
    made.run("dvc", "repro", LANDMARKS_TRACKING="off")
    path = made.folder / "reports/experiments/toy-tiny/metrics.json"
    one = json.loads(path.read_text())
    for stage in ("predict", "evaluate"):
        made.stage(stage, "toy-tiny", OMP_NUM_THREADS="2", LANDMARKS_TRACKING="off")
    assert json.loads(path.read_text()) == one
