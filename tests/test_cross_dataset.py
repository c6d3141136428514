"""A model on another dataset's faces, by corresponding landmarks; here both datasets hold the same faces."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import TOY_DATASET, Project, draw_toy
from test_report import row

from stages.data.crops import read_index, write_index
from stages.data.faces import read_table

# The toy's faces under another dataset's name and order of landmarks, with one more that the toy has not
OTHER = TOY_DATASET.replace("scheme: three", "scheme: four")
FOUR = "{count: 4, flip_pairs: [[0, 2]], groups: {eyes: [0, 2], mouth: [1], middle: [3]}, inter_ocular: [0, 2]}"
SAME = [1, 2, 0]  # of the toy's landmarks, for the other's first three
CORRESPONDENCE = """
correspondences:
  - {schemes: [three, four], pairs: [[0, 2], [1, 0], [2, 1]]}
"""
PIPELINE = """
datasets:
  toy: {source: data/toy}
  other: {source: data/other}
  only: {source: data/toy} # the toy's test faces alone
experiments:
  toy-tiny: {dataset: toy, recipe: tiny, init: random}
  other-tiny: {dataset: other, recipe: tiny, init: random}
cross_dataset:
  there: {experiment: toy-tiny, dataset: other}
  back: {experiment: other-tiny, dataset: toy}
  alone: {experiment: toy-tiny, dataset: only}
"""


def write_other(project: Project) -> None:
    draw_toy(project.folder / "data/other")
    for split in ("train", "test", "test_blur"):
        table = pd.read_csv(project.folder / f"data/other/{split}.csv", dtype=str)
        given = table[[f"original_{i}_{axis}" for i in SAME for axis in "xy"]].to_numpy()
        points = np.concatenate([given, table[["center_w", "center_h"]].to_numpy()], 1)
        for i, axis in enumerate(f"{k}_{a}" for k in range(4) for a in "xy"):
            table[f"original_{axis}"] = points[:, i]
        table.to_csv(project.folder / f"data/other/{split}.csv", index=False)
    (project.folder / "params/datasets/other.yaml").write_text(OTHER)
    (project.folder / "params/datasets/only.yaml").write_text(TOY_DATASET.replace("train: train.csv", "train: null"))
    (project.folder / "params/schemes/four.yaml").write_text(FOUR)
    (project.folder / "params/correspondence.yaml").write_text(CORRESPONDENCE)
    (project.folder / "params/pipeline.yaml").write_text(PIPELINE)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Project:
    """Both datasets' models on each other's faces."""
    project = Project(tmp_path_factory.mktemp("evaluated"))
    write_other(project)
    project.with_dvc().make(OMP_NUM_THREADS="2")
    for dataset in ("toy", "other", "only"):
        project.stage("explore", dataset)
    project.run("dvc", "commit", "--force")
    return project


def predicted(project: Project, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) and the official NME (N,) of an experiment or a cross-dataset evaluation."""
    table = read_table(project.folder / f"data/predictions/{name}.parquet")
    errors = pd.read_csv(project.folder / f"reports/experiments/{name}/faces.csv")
    assert errors["face_id"].tolist() == table["face_id"].to_pylist()
    return np.array(table["landmarks"].to_pylist()).reshape(len(errors), -1, 2), errors["nme"].to_numpy()


def results(project: Project, name: str, file: str = "metrics") -> dict:
    return json.loads((project.folder / f"reports/experiments/{name}/{file}.json").read_text())


def test_the_same_faces_under_another_name_give_the_same_points_and_errors(evaluated):
    own, cross = predicted(evaluated, "toy-tiny"), predicted(evaluated, "there")
    np.testing.assert_array_equal(cross[0], own[0][:, SAME])
    np.testing.assert_allclose(cross[1], own[1], rtol=1e-7)
    made, metrics, same = (
        results(evaluated, "there", "provenance"),
        results(evaluated, "there"),
        results(evaluated, "toy-tiny"),
    )
    assert (made["kind"], made["experiment"], made["trained_on"]) == ("cross_dataset", "toy-tiny", "toy")
    assert (made["landmarks"], made["landmark_count"]) == ([0, 1, 2], 4)
    assert metrics.keys() == same.keys()
    for key in ("n", "nme", "fr_0.08", "auc_0.10"):
        assert metrics["test"][key] == pytest.approx(same["test"][key], rel=1e-9)
    assert made["fingerprint"] == results(evaluated, "toy-tiny", "provenance")["fingerprint"]


def test_a_model_of_more_landmarks_is_asked_for_those_that_both_have(evaluated):
    own, cross = predicted(evaluated, "other-tiny"), predicted(evaluated, "back")
    np.testing.assert_array_equal(cross[0], own[0][:, [2, 0, 1]])


def test_the_matrix_has_both_directions_and_the_dataset_s_own_model_by_the_same_landmarks(evaluated):
    text = (evaluated.folder / "reports/results.md").read_text()
    matrix = text[text.index("## Cross-dataset evaluation") : text.index("## Provenance")]
    column = row(matrix, "model", "trained on").index("other (3 of 4 landmarks, inter-ocular)")
    assert "toy (3 landmarks, inter-ocular)" in matrix
    points, _ = predicted(evaluated, "other-tiny")
    truth = read_table(evaluated.folder / "data/crops/other/test.parquet")
    truth = np.array(truth["landmarks"].to_pylist()).reshape(len(points), 4, 2)
    apart = np.hypot(*(truth[:, 0] - truth[:, 2]).T)
    nme = 100 * (np.hypot(*np.moveaxis(points - truth, -1, 0))[:, :3].mean(1) / apart).mean()
    own = row(matrix, "other-tiny", "other")
    assert float(own[column].strip("*")) == pytest.approx(nme, abs=0.006)
    there = results(evaluated, "there")["test"]["nme"]
    assert float(row(matrix, "toy-tiny", "toy")[column].split()[0]) == pytest.approx(there, abs=0.006)
    mean_shape = results(evaluated, "there")["test"]["nme_mean_shape"]
    assert row(matrix, "mean-shape baseline")[column] == f"{mean_shape:.2f}"


def test_a_dataset_with_test_faces_only_is_measured_without_a_mean_shape_baseline(evaluated):
    alone, same = results(evaluated, "alone"), results(evaluated, "toy-tiny")
    assert alone["test"]["nme"] == pytest.approx(same["test"]["nme"], rel=1e-9)
    assert "nme_mean_shape" not in alone["test"]
    assert (evaluated.folder / "reports/pages/alone.md").exists()


def test_it_runs_again_only_when_the_correspondence_changes(evaluated):
    assert "predict_cross@" not in evaluated.run("dvc", "status")
    evaluated.change("params/correspondence.yaml", "pairs: [[0, 2], [1, 0], [2, 1]]", "pairs: [[0, 2], [1, 0]]")
    status = evaluated.run("dvc", "status")
    evaluated.change("params/correspondence.yaml", "pairs: [[0, 2], [1, 0]]", "pairs: [[0, 2], [1, 0], [2, 1]]")
    assert "predict_cross@there" in status
    assert "predict@" not in status


@pytest.fixture
def copied(evaluated, tmp_path) -> Project:
    """A copy, to be changed."""
    project = Project(tmp_path)
    write_other(project)
    for name in ("data", "models"):
        shutil.copytree(evaluated.folder / name, project.folder / name, dirs_exist_ok=True)
    return project


def change_test_faces(project: Project, **changes) -> None:
    """Replace columns of the test faces of `other`."""
    folder = project.folder / "data/crops/other"
    faces, to_image = read_index(folder, "test")
    write_index(folder / "test.parquet", replace(faces, **changes), to_image)


def test_faces_without_any_landmark_in_common_are_left_out_and_counted(copied):
    faces, _ = read_index(copied.folder / "data/crops/other", "test")
    truth = faces.landmarks.copy()
    truth[0, :3] = np.nan  # the fourth is not in common
    truth[4, 0] = np.nan  # no inter-ocular distance
    truth[5, 1] = np.nan  # measured, by the eyes
    change_test_faces(copied, landmarks=truth, visible=np.isfinite(truth).all(-1))
    printed = copied.stage("evaluate", "there")
    assert "2 of 12 faces are left out, which lack the normaliser or all of these landmarks" in printed
    measured = results(copied, "there", "details")
    assert measured["left_out"] == [faces.face_id[0], faces.face_id[4]]
    table = pd.read_csv(copied.folder / "reports/experiments/there/faces.csv")
    kept = [i for i in range(12) if i not in (0, 4)]
    assert table["face_id"].tolist() == [faces.face_id[i] for i in kept]
    points = read_table(copied.folder / "data/predictions/there.parquet")["landmarks"].to_pylist()
    distance = np.hypot(*np.moveaxis(np.reshape(points, (12, 3, 2)) - truth[:, :3], -1, 0))
    apart = np.hypot(*(truth[:, 0] - truth[:, 2]).T)
    distance[5, 1] = (distance[5, 0] + distance[5, 2]) / 2  # a face's mean over two landmarks
    expected = 100 * (distance.mean(1) / apart)[kept]
    np.testing.assert_allclose(table["nme"], expected, rtol=1e-7)
    assert results(copied, "there")["test"]["nme"] == pytest.approx(expected.mean(), rel=1e-9)
    copied.stage("report")
    for page in ("results.md", "pages/there.md"):
        assert "2 of 12 faces are left out" in (copied.folder / "reports" / page).read_text()


def test_an_evaluation_without_a_face_to_measure_is_refused(copied):
    faces, _ = read_index(copied.folder / "data/crops/other", "test")
    truth = faces.landmarks.copy()
    truth[:, :3] = np.nan
    change_test_faces(copied, landmarks=truth, visible=np.isfinite(truth).all(-1))
    printed = copied.stage("evaluate", "there", fails=True)
    assert (
        "there: none of the 12 test faces of other has its inter_ocular and one of the landmarks in common" in printed
    )


def test_test_faces_that_the_model_was_trained_on_are_marked(copied):
    """The other dataset's test images may be training images of the model's."""
    change_test_faces(copied, extra={"image_sha256": [f"{i:064x}" for i in range(12)]})
    (copied.folder / "data/training/toy-tiny/images.txt").write_text("".join(f"{i:064x}\n" for i in range(3, 40)))
    words = "9 of 12 test faces are of images that the model was trained on: optimistic"
    assert words in copied.stage("evaluate", "there")
    assert results(copied, "there", "provenance")["seen_in_training"] == 9
    copied.stage("report")
    matrix = (copied.folder / "reports/results.md").read_text().partition("## Cross-dataset evaluation")[2]
    assert f"- there: {words}." in matrix
    assert f"**Note**: {words}." in (copied.folder / "reports/pages/there.md").read_text()


def test_schemes_that_do_not_correspond_are_refused(evaluated, tmp_path):
    other = Project(tmp_path)
    write_other(other)
    for name in ("data", "models"):
        shutil.copytree(evaluated.folder / name, other.folder / name, dirs_exist_ok=True)
    (other.folder / "data/predictions/there.parquet").unlink()
    (other.folder / "params/correspondence.yaml").write_text("correspondences: []")
    printed = other.stage("predict", "there", fails=True)
    assert "does not say which landmarks of three and four correspond" in printed
    assert "there is no experiment 'nowhere'" in other.stage("predict", "nowhere", fails=True)
    assert not (other.folder / "data/predictions/there.parquet").exists()
