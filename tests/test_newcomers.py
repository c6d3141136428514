"""A team lead's task: a sweep of five variants with two seeds, whose best is told without opening a run.

The other two newcomers' tasks, from a clone to a table for LaTeX and from COCO JSON to a model with its page, are in
test_readme.py and test_import_dataset.py.
"""

import json
import re
import sys

import numpy as np
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
