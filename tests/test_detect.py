"""Models measured from a detector's face boxes beside the annotated ones."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project
from test_landmarks import save_model

from stages import detect
from stages.data.crops import read_crops
from stages.inference.detected import NAME
from stages.inference.perturbation import directions
from stages.inference.protocol import predict_from_crops
from stages.metrics.detected import detector_errors
from stages.model import checkpoint
from stages.predictions.detections import BoxMap, Detections

LFPW = ROOT / "../shared/data/lfpw"


@pytest.fixture(scope="module")
def predicted(cut_project, tmp_path_factory):
    """What gives the points from boxes (center, side), and all that a plain prediction gives."""
    crops = read_crops(cut_project.folder / "data/crops/toy", "test")
    model, description = checkpoint.load(save_model(tmp_path_factory.mktemp("m") / "three", "three", 3, [[0, 1]]))

    def run(center: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, dict]:
        points, _, moved = predict_from_crops(
            model, crops, checkpoint.input_of(description), batch=4, flip_order=None, perturbed=True,
            detections=Detections(center, side),
        )  # fmt: skip
        return points, moved

    return crops.faces, run


def test_boxes_that_are_the_annotated_ones_give_the_same_points(predicted):
    faces, run = predicted
    points, moved = run(faces.center, faces.side)
    np.testing.assert_array_equal(moved[NAME], points)


def test_a_shifted_box_is_the_perturbation_of_that_name_and_a_missing_one_has_no_points(predicted):
    faces, run = predicted
    center = faces.center + 0.10 * faces.side[:, None] * directions(len(faces))
    side = faces.side.copy()
    side[3] = np.nan
    _, moved = run(center, side)
    found = np.isfinite(side)
    assert np.isnan(moved[NAME][3]).all()
    np.testing.assert_allclose(moved[NAME][found], moved["shift_10"][found], atol=1e-4)
    _, moved = run(faces.center, faces.side * 1.2)
    np.testing.assert_allclose(moved[NAME], moved["scale_20"], atol=1e-4)


def test_each_detected_box_is_of_one_face_the_one_it_overlaps_best(cut_project):
    faces = read_crops(cut_project.folder / "data/crops/toy", "test").faces.where(np.array([0, 1, 2]))
    same = BoxMap(0, 0, 1)
    faces = replace(faces, image=["a", "a", "b"])
    own = np.concatenate([faces.center - faces.side[:, None] / 2, faces.center + faces.side[:, None] / 2], 1)
    far = own[2] + 500
    boxes, scores = detect.matched(
        faces,
        [(np.stack([own[0] + 2, far]), np.array([0.9, 0.8]))] * 2 + [(far[None], np.array([0.7]))],
        same,
    )
    center = faces.center
    nearest = int(np.argmin(np.hypot(*(center[:2] - (own[0, :2] + own[0, 2:]) / 2 - 2).T)))
    assert np.isfinite(scores).tolist() == [nearest == 0, nearest == 1, False]
    np.testing.assert_allclose(boxes[nearest], own[0] + 2)


def test_faces_that_are_not_found_are_failures_and_in_no_mean():
    nme, detected = np.array([2.0, 3.0, 4.0, 5.0]), np.array([2.5, 3.0, np.inf, 9.0])
    measured = detector_errors(nme, detected, [0.08, 0.10])
    assert (measured["n"], measured["found"]) == (4, 3)
    assert measured["nme"] == pytest.approx(14.5 / 3)
    assert measured["annotated_boxes"] == pytest.approx(10 / 3)
    assert measured["difference"] == pytest.approx(4.5 / 3)
    assert measured["fr"] == {"0.08": 50.0, "0.10": 25.0}
    assert measured["ci95"] is None  # too few faces
    assert detector_errors(nme, np.full(4, np.inf), [0.08])["nme"] is None


@pytest.mark.skipif(not LFPW.is_dir(), reason="no ../shared/data/lfpw: photographs of faces")
def test_a_dataset_with_a_detector_has_its_figure_in_the_report(tmp_path, yunet):
    """Some photographs of LFPW, a network with random weights: what matters is where its figure goes."""
    project = Project(tmp_path / "project")
    folder = project.folder / "data/lfpw"
    folder.mkdir()
    (folder / "images").symlink_to((LFPW / "images").resolve())
    for split, step in (("train", 20), ("test", 20)):
        table = pd.read_csv(LFPW / f"face_landmarks_lfpw_{split}.csv").iloc[::step]
        table.to_csv(folder / f"face_landmarks_lfpw_{split}.csv", index=False)
    project.change("params/datasets/lfpw.yaml", "source:\n", "source:\n  partial: true\n")
    project.change("params/datasets/lfpw.yaml", "size: 448", "size: 112")
    (project.folder / "params/pipeline.yaml").write_text(
        "datasets: {lfpw: {source: data/lfpw, detector: yunet}}\nexperiments: {x: {dataset: lfpw, recipe: tiny}}\n"
    )
    (project.folder / "models/face_detection_yunet_2023mar.onnx").write_bytes(yunet.read_bytes())
    project.change("params/recipes/tiny.yaml", "epochs: 4", "epochs: 1")
    project.change("params/recipes/tiny.yaml", "milestones: [3]", "milestones: []")
    for stage in ("obtain", "fetch", "preprocess"):
        project.stage(stage, "lfpw")
    assert "12 of 12 test faces found" in project.stage("detect", "lfpw", "--detector", "yunet")
    fitted = json.loads((project.folder / "data/detections/lfpw.json").read_text())
    assert fitted["train_found"] == fitted["train"] == 41
    assert fitted["centre_off_percent"]["p50"] < 6
    for stage in ("train", "predict", "evaluate"):
        project.stage(stage, "x")
    project.stage("report")
    calibration = json.loads((project.folder / "data/calibration/x.json").read_text())
    assert calibration["boxes"] == fitted["map"], "it goes with the model"
    details = json.loads((project.folder / "reports/experiments/x/details.json").read_text())
    assert details["detector"]["found"] == 12
    page = (project.folder / "reports/results.md").read_text()
    assert f"{details['detector']['nme']:.2f}" in page
    assert "NME, detector boxes" in page
    assert "12 of 12 test faces are found" in (project.folder / "reports/pages/x.md").read_text()
