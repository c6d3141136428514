"""`make runs`: what differs in each experiment, its NME and whether it is current, in the width of a terminal."""

import json
import shutil

import pytest
from conftest import ROOT, Project

from stages import runs

SWEEP = """
datasets:
  toy: {source: data/toy}
experiments:
  base: {dataset: toy, recipe: tiny, seeds: [1, 2]}
  wide: {dataset: toy, recipe: tiny, set: {model.width: 12, train.lr: 0.002}, seeds: [1, 2]}
  new: {dataset: toy, recipe: tiny, set: {train.epochs: 8}}
cross_dataset: {}
"""


def give_result(project: Project, name: str, nme: float, entry: str = "", changes: dict | None = None) -> None:
    """Results as evaluate leaves them, made of those that are committed."""
    folder = project.folder / "reports/experiments" / name
    folder.mkdir(parents=True)
    committed = ROOT / "reports/experiments/demo-quick"
    made = json.loads((committed / "provenance.json").read_text())
    made |= {"name": name, "experiment": name, "dataset": "toy", "recipe": "tiny", "entry": entry, "set": changes or {}}
    made["hashes"]["code"] = "of another commit"
    (folder / "provenance.json").write_text(json.dumps(made))
    metrics = json.loads((committed / "metrics.json").read_text())
    metrics["test"] |= {"nme": nme, "nme_ci95": [nme - 0.5, nme + 0.75]}
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def swept(project, monkeypatch) -> Project:
    (project.folder / "params/pipeline.yaml").write_text(SWEEP)
    for seed, nme in ((1, 4.5), (2, 4.25)):
        give_result(project, f"base-s{seed}", nme, "base", {"train.seed": seed})
    for seed, nme in ((1, 4.0), (2, 4.375)):
        changes = {"model.width": 12, "train.lr": 0.002, "train.seed": seed}
        give_result(project, f"wide-s{seed}", nme, "wide", changes)
    monkeypatch.chdir(project.folder)
    return project


def listed(capsys, width=80, commits=1) -> list[list[str]]:
    """The lines that are printed, each by its columns."""
    runs.main(commits, width)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert max(len(line) for line in lines) <= width
    return [[cell.strip() for cell in line.split("  ") if cell] for line in lines]


def test_the_best_entry_is_first_and_its_seeds_are_together(swept, capsys):
    lines = listed(capsys, 90)
    assert lines[0] == ["toy, inter-ocular, 300 faces"]
    table = lines[1:6]
    assert table[0] == ["experiment", "recipe", "test NME", "95 % CI", "seeds' mean", "state"]
    assert [row[:-1] for row in table[1:]] == [
        ["wide-s1", "tiny width=12 lr=0.002", "4.000", "3.50 – 4.75", "4.188 of 2"],
        ["wide-s2", "tiny width=12 lr=0.002", "4.375", "3.88 – 5.12"],
        ["base-s1", "tiny", "4.500", "4.00 – 5.25", "4.375 of 2"],
        ["base-s2", "tiny", "4.250", "3.75 – 5.00"],
    ]


def test_what_is_stale_missing_damaged_or_unlisted_is_said(swept, capsys):
    give_result(swept, "dropped", 4.7)
    (swept.folder / "reports/experiments/base-s2/metrics.json").write_text('{"test": {"n": 3}}')
    printed = {line[0]: line[-1].strip() for line in listed(capsys, 120)}
    assert printed["wide-s1"].startswith("stale: code"), "the results were made of other code"
    assert (printed["dropped"], printed["base-s2"], printed["new"]) == ("unlisted", "damaged", "no result")
    assert "stale: code, parameters or data have changed since; `dvc repro` makes it again" in printed


def test_results_are_current_until_code_parameters_or_data_change(cut_project, tmp_path, monkeypatch):
    from stages.config.experiment import load_experiment
    from stages.tracking.provenance import changed_since, identify

    shutil.copytree(cut_project.folder, tmp_path / "copy", symlinks=True)
    copy = cut_project.at(tmp_path / "copy")
    monkeypatch.chdir(copy.folder)
    experiment = load_experiment("toy-tiny")
    hashes = dict(identify(experiment).hashes)
    lock = {"stages": {"preprocess@toy": {"outs": [{"path": "data/crops/toy", "md5": hashes["data"]}]}}}
    (copy.folder / "dvc.lock").write_text(json.dumps(lock))
    assert changed_since(experiment, hashes) == []
    assert changed_since(experiment, hashes | {"data": "other"}) == ["data"]
    copy.change("params/recipes/tiny.yaml", "lr: 0.01", "lr: 0.02")
    assert changed_since(load_experiment("toy-tiny"), hashes) == ["parameters"]
    with (copy.folder / "stages/metrics/evaluation.py").open("a") as file:
        file.write("\n# changed\n")
    assert changed_since(load_experiment("toy-tiny"), hashes) == ["code", "parameters"]


@pytest.mark.parametrize("width", [80, 120])
def test_twenty_experiments_fit_the_terminal(project, monkeypatch, capsys, width):
    monkeypatch.chdir(project.folder)
    for i in range(20):
        changes = {"train.milestones": [30, 50], "train.lr": i / 1000, "augment.occlusion": 0.25, "model.width": 12}
        give_result(project, f"an-experiment-with-a-long-name-{i}", 4 + i / 16, changes=changes)
    lines = listed(capsys, width)
    assert [line[-1] for line in lines].count("unlisted") == 20


def revision(rev, width=4, nme=5.0, name=None):
    """A revision as `dvc exp show --json` gives it, of which runs reads a part."""
    recipe = {"data": {"model": {"width": width}, "train": {"lr": 0.01, "seed": 1}}}
    params = {"params/recipes/tiny.yaml": recipe, "params/resolved.yaml": {"data": {"set": {rev: {}}}}}
    metrics = {"reports/experiments/toy-tiny/metrics.json": {"data": {"test": {"nme": nme, "nme_ci95": [4.0, 6.0]}}}}
    return {"rev": rev, "name": name, "data": {"params": params, "metrics": metrics}}


def test_a_dvc_experiment_is_listed_with_what_differs_from_its_commit():
    def experiment(made, state):
        return {"name": made["name"], "revs": [made], "executor": {"state": state, "name": "dvc-task"}}

    baseline = revision("a" * 40, name="main") | {
        "experiments": [
            experiment(revision("b" * 40, 8, 4.5, "puffy-lads"), "success"),
            experiment(revision("c" * 40, 6, 4.25, "rosy-hats"), "success"),
            {"name": None, "revs": [revision("d" * 40, 12)], "executor": {"state": "queued", "name": None}},
            experiment(revision("e" * 40, 16, 5.0, "grim-jaws"), "failed"),
        ]
    }
    header, *rows = runs.dvc_table([revision("workspace") | {"experiments": None}, baseline])
    assert header[0] == "DVC experiment"
    assert rows == [
        ["rosy-hats", "width=6", "toy-tiny", "4.250", "4.00 – 6.00", "done"],
        ["puffy-lads", "width=8", "toy-tiny", "4.500", "4.00 – 6.00", "done"],
        ["ddddddd", "width=12", "", "", "", "queued"],
        ["grim-jaws", "width=16", "", "", "", "failed"],
    ]
