"""A model on another dataset's faces, by the landmarks that both have; here the two datasets hold the same faces."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import TOY_DATASET, Project, draw_toy
from test_report import row

from stages.data.faces import read_table

# The toy's faces under another dataset's name and order of landmarks, with one more that the toy has not
OTHER = TOY_DATASET.replace("root: toy", "root: other").replace(
    "count: 3, flip_pairs: [[0, 1]], groups: {eyes: [0, 1], mouth: [2]}",
    "count: 4, flip_pairs: [[0, 2]], groups: {eyes: [0, 2], mouth: [1], middle: [3]}",
).replace("inter_ocular: [0, 1]", "inter_ocular: [0, 2]")  # fmt: skip
SAME = [1, 2, 0]  # of the toy's landmarks, for the other's first three
LAYOUTS = """
layouts:
  three: {landmarks: 3, datasets: [toy]}
  four: {landmarks: 4, datasets: [other]}
partners:
  - {layouts: [three, four], pairs: [[0, 2], [1, 0], [2, 1]]}
"""
PIPELINE = """
datasets: [toy, other]
experiments:
  toy-tiny: {dataset: toy, recipe: tiny}
  other-tiny: {dataset: other, recipe: tiny}
crossings:
  there: {experiment: toy-tiny, dataset: other}
  back: {experiment: other-tiny, dataset: toy}
"""


def write_other(project: Project) -> None:
    draw_toy(project.folder / "other")
    for split in ("train", "test", "test_blur"):
        table = pd.read_csv(project.folder / f"other/{split}.csv", dtype=str)
        given = table[[f"original_{i}_{axis}" for i in SAME for axis in "xy"]].to_numpy()
        points = np.concatenate([given, table[["center_w", "center_h"]].to_numpy()], 1)
        for i, axis in enumerate(f"{k}_{a}" for k in range(4) for a in "xy"):
            table[f"original_{axis}"] = points[:, i]
        table.to_csv(project.folder / f"other/{split}.csv", index=False)
    (project.folder / "params/datasets/other.yaml").write_text(OTHER)
    (project.folder / "params/layouts.yaml").write_text(LAYOUTS)
    (project.folder / "params/pipeline.yaml").write_text(PIPELINE)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory) -> Project:
    """Both datasets' models on each other's faces, made by DVC."""
    project = Project(tmp_path_factory.mktemp("crossed"))
    write_other(project)
    project.with_dvc().run("dvc", "repro", OMP_NUM_THREADS="2")
    return project


def found(project: Project, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) and the official NME (N,) of a file of predictions."""
    table = read_table(project.folder / f"data/predictions/{file}.parquet")
    n = table.num_rows
    return np.array(table["landmarks"].to_pylist()).reshape(n, -1, 2), table["nme"].to_numpy()


def results(project: Project, experiment: str, crossing: str) -> dict:
    path = project.folder / f"reports/experiments/{experiment}/crossings/{crossing}.json"
    return json.loads(path.read_text())


def test_the_same_faces_under_another_name_give_the_same_points_and_errors(crossed):
    own, crossing = found(crossed, "toy-tiny"), found(crossed, "there")
    np.testing.assert_array_equal(crossing[0], own[0][:, SAME])
    np.testing.assert_allclose(crossing[1], own[1], rtol=1e-12)
    told = results(crossed, "toy-tiny", "there")
    measured = json.loads((crossed.folder / "reports/experiments/toy-tiny/metrics.json").read_text())
    assert told["landmarks"] == [0, 1, 2]
    assert told["of"] == 4
    assert told["metrics"].keys() == measured.keys()
    for key in ("n", "nme", "fr_0.08", "auc_0.10"):
        assert told["metrics"]["test"][key] == pytest.approx(measured["test"][key], rel=1e-9)


def test_a_model_of_more_landmarks_is_asked_for_those_that_both_have(crossed):
    own, crossing = found(crossed, "other-tiny"), found(crossed, "back")
    np.testing.assert_array_equal(crossing[0], own[0][:, [2, 0, 1]])


def test_the_matrix_tells_both_ways_and_what_was_trained_on_a_column_by_its_landmarks(crossed):
    text = (crossed.folder / "reports/results.md").read_text()
    matrix = text[text.index("## Across datasets") : text.index("## Where the figures come from")]
    assert "other (3 of 4 landmarks, inter-ocular)" in matrix
    assert "toy (3 landmarks, inter-ocular)" in matrix
    points, _ = found(crossed, "other-tiny")
    truth = read_table(crossed.folder / "data/crops/other/test.parquet")
    truth = np.array(truth["landmarks"].to_pylist()).reshape(len(points), 4, 2)
    apart = np.hypot(*(truth[:, 0] - truth[:, 2]).T)
    nme = 100 * (np.hypot(*np.moveaxis(points - truth, -1, 0))[:, :3].mean(1) / apart).mean()
    own = row(matrix, "other-tiny", "other")
    assert float(own[2].strip("*")) == pytest.approx(nme, abs=0.06)  # shown with the digits of its interval
    there = results(crossed, "toy-tiny", "there")["metrics"]["test"]["nme"]
    assert float(row(matrix, "toy-tiny", "toy")[2].split()[0]) == pytest.approx(there, abs=0.06)
    assert (
        row(matrix, "mean shape")[2]
        == f"{results(crossed, 'toy-tiny', 'there')['metrics']['test']['nme_mean_shape']:.1f}"
    )


def test_it_is_made_again_only_when_it_changes(crossed):
    assert "cross@" not in crossed.run("dvc", "status")
    crossed.change("params/layouts.yaml", "pairs: [[0, 2], [1, 0], [2, 1]]", "pairs: [[0, 2], [1, 0]]")
    told = crossed.run("dvc", "status")
    crossed.change("params/layouts.yaml", "pairs: [[0, 2], [1, 0]]", "pairs: [[0, 2], [1, 0], [2, 1]]")
    assert "cross@there" in told
    assert "evaluate@" not in told


def test_what_cannot_be_crossed_is_told(crossed, tmp_path):
    other = Project(tmp_path)
    write_other(other)
    for name in ("data", "models"):
        shutil.copytree(crossed.folder / name, other.folder / name)
    other.change("params/layouts.yaml", "datasets: [other]", "datasets: []")
    told = other.stage("cross", "there", fails=True)
    assert "params/layouts.yaml: 1 fault\n  - other: in no layout's list of datasets" in told
    assert "there is no crossing 'nowhere'" in other.stage("cross", "nowhere", fails=True)
    assert not (other.folder / "reports/experiments").exists()
