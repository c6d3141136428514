"""A team lead's task: a sweep of five variants with two seeds, whose best is told without opening a run.

The other two newcomers' tasks, from a clone to a table for LaTeX and from COCO JSON to a model with its page, are in
test_readme.py and test_import_dataset.py.
"""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import Project

VARIANTS = {"base": "{}", **{f"lr{lr}": f"{{train.lr: {lr}}}" for lr in (0.0001, 0.003, 0.05)},
            "wide": "{model.width: 8}"}  # fmt: skip
LOGGED = """
import json, mlflow
from stages.tracking import store
mlflow.set_tracking_uri(store.store_uri(store.project_root()))
runs = mlflow.search_runs(experiment_names=[store.EXPERIMENT], order_by=["metrics.`test/nme`"])
columns = {"tags.entry": "entry", "tags.seed": "seed", "tags.variant": "variant", "metrics.test/nme": "nme",
           "tags.mlflow.runName": "name"}
print(json.dumps(runs.reindex(columns=list(columns)).rename(columns=columns).to_dict("records")))
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("sweep"))
    project.change("params/recipes/tiny.yaml", "epochs: 4", "epochs: 2")
    project.change("params/recipes/tiny.yaml", "milestones: [3]", "milestones: []")
    lines = "".join(f"  {name}: {{dataset: toy, recipe: tiny, set: {changes}, seeds: [1, 2]}}\n"
                    for name, changes in VARIANTS.items())  # fmt: skip
    (project.folder / "params/pipeline.yaml").write_text(
        f"datasets:\n  toy: {{source: data/toy}}\nexperiments:\n{lines}baseline: base\n"
    )
    del project.environment["LANDMARKS_TRACKING"]
    project.make()
    return project


@pytest.fixture(scope="module")
def means(swept) -> dict[str, float]:
    """The mean NME of each entry's two seeds, best first."""
    folder = swept.folder / "reports/experiments"
    means = {
        name: float(np.mean([json.loads((folder / f"{name}-s{seed}/metrics.json").read_text())["test"]["nme"]
                             for seed in (1, 2)]))
        for name in VARIANTS
    }  # fmt: skip
    return dict(sorted(means.items(), key=lambda item: item[1]))


def test_the_page_has_a_row_for_each_variant_the_best_first(swept, means):
    page = (swept.folder / "reports/results.md").read_text(encoding="utf-8")
    table = page[page.index("## toy") : page.index("<details>")]
    rows = [line for line in table.splitlines() if "±" in line]
    listed = [
        next(name for name in VARIANTS if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", row)) for row in rows
    ]
    assert listed == list(means)
    assert f"{means[listed[0]]:.2f}" in rows[0]
    assert "lr=0.05" in rows[listed.index("lr0.05")]


def test_the_table_of_runs_tells_variant_seed_and_nme(swept, means):
    runs = json.loads(swept.run(sys.executable, "-c", LOGGED).splitlines()[-1])
    assert len(runs) == 2 * len(VARIANTS)
    assert {(run["entry"], run["seed"]) for run in runs} == {(name, seed) for name in VARIANTS for seed in ("1", "2")}
    logged = {name: np.mean([run["nme"] for run in runs if run["entry"] == name]) for name in VARIANTS}
    assert logged == pytest.approx(means, rel=1e-4)
    assert {run["variant"] for run in runs if run["entry"] == "wide"} == {"width=8"}
    assert len({run["name"] for run in runs}) == 2 * len(VARIANTS)


def test_a_study_compares_the_variants_on_val_face_by_face(swept):
    """Against figures computed here from the tables of val; too few faces for an interval."""
    names = ["base", "lr*", "wide"]
    swept.stage("study", "sweep", *names, "--title", "What each is worth")
    study = json.loads((swept.folder / "reports/studies/sweep.json").read_text())
    of_val = {
        name: np.mean(
            [pd.read_csv(swept.folder / f"data/training/{name}-s{seed}/val.csv")["nme"] for seed in (1, 2)], 0
        )
        for name in VARIANTS
    }
    assert study["split"] == "val"
    assert {row["name"]: row["nme"] for row in study["variants"]} == pytest.approx(
        {name: nme.mean() for name, nme in of_val.items()}
    )
    assert {row["name"]: row["differs"] for row in study["variants"]} == {
        "base": "", "lr0.0001": "lr=0.0001", "lr0.003": "lr=0.003", "lr0.05": "lr=0.05", "wide": "width=8",
    }  # fmt: skip
    assert {d["second"]: d["mean"] for d in study["differences"]} == pytest.approx(
        {name: (nme - of_val["base"]).mean() for name, nme in of_val.items() if name != "base"}
    )
    assert all(d["first"] == "base" and d["ci95"] is None for d in study["differences"])
    swept.stage("report")
    page = (swept.folder / "reports/results.md").read_text(encoding="utf-8")
    table = page[page.index("### What each is worth") :]
    assert re.search(rf"\| wide \(width=8\) +\| random +\| +{of_val['wide'].mean():.2f} \| +\S+ \| +base \|", table)


def test_a_curve_has_a_point_for_each_value_of_its_key(swept):
    swept.stage("study", "rates", "base", "lr*", "--by", "train.lr", "--title", "Which learning rate?")
    study = json.loads((swept.folder / "reports/studies/rates.json").read_text())
    assert (study["split"], study["by"]) == ("test", "train.lr")
    assert sorted(row["x"] for row in study["variants"]) == [0.0001, 0.003, 0.01, 0.05]
    assert study["differences"] == [], "nothing has the value of another with other initial weights"
    swept.stage("report")
    assert (swept.folder / "reports/figures/study-rates.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_refuses_what_does_not_compare(swept):
    told = swept.stage("study", "x", "base", "none", "--title", "x", fails=True)
    assert "none: params/pipeline.yaml has no such entry" in told
    told = swept.stage("study", "x", "base", "--by", "train.loss", "--title", "x", fails=True)
    assert "--by train.loss: base-s1 has 'mse' there, and an axis needs a number" in told
    assert not (swept.folder / "reports/studies/x.json").exists()
