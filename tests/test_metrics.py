"""NME, failure rate, CED and AUC against hand-computed figures, an independent integration and the published method."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.data.faces import Faces
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme
from stages.metrics.evaluation import evaluate, mean_shape_predictions
from stages.metrics.summary import auc, ced, failure_rate, summarise
from stages.predictions.table import Made, Predictions
from stages.system.errors import InputError

THRESHOLDS = (0.08, 0.10)
SHARED = Path(__file__).parents[1] / "../shared"

# three faces of two landmarks: 3-4-5 triangles give distances of 5 and 10 px
TRUTH = np.array([[[0, 0], [100, 0]], [[10, 10], [10, 60]], [[0, 0], [3, 4]]], float)
PREDICTED = TRUTH + np.array([[[3, 4], [6, 8]], [[0, 0], [-3, 4]], [[5, 0], [0, -5]]])


def test_the_error_of_a_face_is_its_mean_distance_over_its_normaliser():
    # (5 + 10)/2 / 100, (0 + 5)/2 / 50, (5 + 5)/2 / 5
    np.testing.assert_allclose(face_errors(PREDICTED, TRUTH, np.array([100, 50, 5])), [0.075, 0.05, 1], rtol=1e-15)


def test_a_face_without_a_prediction_fails_at_every_threshold():
    predicted = PREDICTED.copy()
    predicted[0, 1, 0] = np.nan
    errors = face_errors(predicted, TRUTH, np.array([100, 50, 5]))
    assert errors.tolist() == [np.inf, 0.05, 1.0]
    assert failure_rate(errors, 10.0) == 1 / 3
    assert auc(errors, 0.1) == pytest.approx((0 + 0.5 + 0) / 3)
    entry = summarise(errors, 1, THRESHOLDS)
    assert entry["nme"] is None
    assert entry["nme_ci95"] is None
    assert entry["fr_0.10"] == pytest.approx(200 / 3)


def test_a_similarity_transform_of_both_point_sets_changes_no_error():
    rng = np.random.default_rng(12)
    truth = rng.uniform(0, 200, (50, 7, 2))
    predicted = truth + rng.normal(0, 4, truth.shape)
    definitions = {"inter_ocular": [0, 1], "inter_pupil": [[2, 3], [4]]}

    def errors(points, true):
        return {name: face_errors(points, true, px) for name, px in normalisers(true, np.ones(50), definitions).items()}

    before = errors(predicted, truth)
    rotation = 2.7 * np.array([[np.cos(0.8), -np.sin(0.8)], [np.sin(0.8), np.cos(0.8)]])
    for name in definitions:
        after = errors(predicted @ rotation.T + [30, -5], truth @ rotation.T + [30, -5])[name]
        np.testing.assert_allclose(after, before[name], rtol=1e-12)
    for name, after in errors(2.7 * predicted + [30, -5], 2.7 * truth + [30, -5]).items():  # boxes do not rotate
        np.testing.assert_allclose(after, before[name], rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 1), (1,), (2,)])
def test_arrays_of_different_faces_are_refused(shape):
    with pytest.raises(ValueError, match="differ"):
        face_errors(PREDICTED, TRUTH, np.ones(shape))


@pytest.mark.parametrize("name", ["wflw", "300w"])
def test_errors_equal_those_of_the_published_method(name):
    reference = SHARED / "reference/paper_protocol" / f"{name}.npz"
    if not reference.is_file():
        pytest.skip("the published method's figures are not beside the repository (../shared/reference)")
    table = pd.read_csv(SHARED / f"data/samples/{name}/face_landmarks_{name}_test.csv")
    columns = table.columns.str.startswith("original_")
    truth = table.loc[:, columns].to_numpy(float).reshape(len(table), -1, 2)
    eyes = {"wflw": [60, 72], "300w": [36, 45]}[name]
    px = normalisers(truth, 200 * table["scale"].to_numpy(float), {"inter_ocular": eyes})["inter_ocular"]
    with np.load(reference) as published:
        np.testing.assert_allclose(face_errors(published["decoded"], truth, px), published["nme"], rtol=1e-6)


def test_normalisers_follow_their_definitions():
    truth = np.array([[[0, 0], [2, 0], [30, 40], [32, 40]], [[5, 1], [5, 3], [5, 12], [9, 4]]], float)
    lengths = normalisers(
        truth, np.array([50.0, 20.0]), {"inter_ocular": [0, 2], "inter_pupil": [[0, 1], [2, 3]], "box_side": "box"}
    )
    assert lengths["inter_ocular"].tolist() == [50, 11]
    assert lengths["inter_pupil"].tolist() == [50, pytest.approx(np.hypot(2, 6))]  # (5, 2) to (7, 8)
    assert lengths["box_side"].tolist() == [50, 20]
    assert lengths["box_sqrt"].tolist() == [pytest.approx(np.sqrt(32 * 40)), pytest.approx(np.sqrt(4 * 11))]
    assert lengths["box_diagonal"].tolist() == [pytest.approx(np.hypot(32, 40)), pytest.approx(np.hypot(4, 11))]


def test_a_normaliser_of_zero_or_of_a_landmark_that_is_not_annotated_is_nan():
    truth = np.array([[[0, 0], [9, 0]], [[4, 4], [4, 4]], [[1, 0], [np.nan, np.nan]]], float)
    lengths = normalisers(truth, np.array([9.0, 8.0, np.nan]), {"inter_ocular": [0, 1], "box_side": "box"})
    np.testing.assert_array_equal(lengths["inter_ocular"], [9, np.nan, np.nan])
    np.testing.assert_array_equal(lengths["box_side"], [9, 8, np.nan])
    np.testing.assert_array_equal(lengths["box_sqrt"], np.full(3, np.nan))  # no height
    np.testing.assert_array_equal(lengths["box_diagonal"], [9, np.nan, np.nan])


def test_the_error_of_a_face_is_that_of_its_annotated_landmarks():
    truth, predicted = TRUTH.copy(), PREDICTED.copy()
    truth[0, 1] = truth[2] = np.nan
    predicted[0, 1] = np.nan  # nobody asks for it
    np.testing.assert_array_equal(face_errors(predicted, truth, np.array([100, 50, 5])), [0.05, 0.05, np.nan])
    predicted[0, 0] = np.nan
    assert face_errors(predicted, truth, np.array([100, 50, 5]))[0] == np.inf


def test_a_normaliser_of_landmarks_that_do_not_exist_is_refused():
    with pytest.raises(InputError, match=r"inter_ocular names landmarks \[72\]; there are 2"):
        normalisers(TRUTH, np.ones(3), {"inter_ocular": [0, 72]})


def test_the_failure_rate_counts_errors_above_the_threshold():
    assert failure_rate(np.array([0.02, 0.08, 0.09, 0.30]), 0.08) == 0.5


def test_the_ced_has_a_step_at_every_error():
    values, share = ced(np.array([0.05, 0.01, np.inf, 0.05]))
    assert values.tolist() == [0.01, 0.05]
    assert share.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("threshold", [0.08, 0.1])
def test_the_auc_is_the_exact_area_under_the_ced(threshold):
    nme = np.random.default_rng(5).lognormal(-2.8, 0.7, 400).round(3)  # rounded: with ties and with failures
    values, share = ced(nme)
    inside = values <= threshold
    edges = np.concatenate([[0], values[inside], [threshold]])  # rectangle by rectangle
    heights = np.concatenate([[0], share[inside]])
    area = sum(height * (right - left) for height, left, right in zip(heights, edges, edges[1:], strict=False))
    assert auc(nme, threshold) == pytest.approx(area / threshold, rel=1e-12)


def test_the_summary_of_a_subset_is_in_percent():
    entry = summarise(np.repeat([0.02, 0.04, 0.09, 0.15], 50), seed=3, thresholds=THRESHOLDS)
    low, high = entry.pop("nme_ci95")
    assert entry.pop("fr_0.10_ci95") == pytest.approx([19.16, 31.60], abs=0.01)  # 50 of 200
    bounds = {key: entry.pop(key) for key in ("fr_0.08_ci95", "auc_0.08_ci95", "auc_0.10_ci95")}
    assert all(lower < entry[key.removesuffix("_ci95")] < upper for key, (lower, upper) in bounds.items())
    assert entry == pytest.approx(
        {
            "n": 200,
            "nme": 7.5,
            "fr_0.08": 50.0,
            "fr_0.10": 25.0,
            "auc_0.08": 100 * (0.75 + 0.5) / 4,
            "auc_0.10": 100 * (0.8 + 0.6 + 0.1) / 4,
        }
    )
    assert 6.5 < low < 7.5 < high < 8.5


@pytest.mark.parametrize(("nme", "mean", "failed"), [([], None, None), ([0.09], 9.0, 100.0)])
def test_a_subset_of_no_face_or_one_has_no_interval(nme, mean, failed):
    entry = summarise(np.array(nme), seed=0, thresholds=THRESHOLDS)
    assert (entry["n"], entry["nme"], entry["nme_ci95"], entry["fr_0.08"]) == (len(nme), mean, None, failed)
    json.dumps(entry, allow_nan=False)


SCHEME = DatasetScheme(
    count=4, flip_pairs=[[0, 1]], groups={"eyes": [0, 1], "rest": [3]}, inter_ocular=[0, 1], scheme="four",
    normaliser="inter_ocular",
)  # fmt: skip


def some_faces(n: int = 30) -> Faces:
    rng = np.random.default_rng(3)
    shape = np.array([[-30.0, 0], [30, 0], [0, 20], [0, 40]])
    return Faces(
        [f"f{i}" for i in range(n)], ["test"] * n, [f"{i}.png" for i in range(n)], np.full((n, 2), 60.0),
        np.full(n, 80.0), 60 + shape + rng.normal(0, 2, (n, 4, 2)), np.ones((n, 4), bool),
        [("blur",) if i < 10 else () for i in range(n)],
    )  # fmt: skip


def predict(faces: Faces, landmarks: list[int], noise: float = 3.0) -> Predictions:
    made = Made(
        dataset="d", landmarks=landmarks, protocol="exact", flip_test=False, batch=8, input_px=64, box=1.25, model="m",
        cost={}, workload="w",
    )  # fmt: skip
    truth = faces.landmarks[:, landmarks]
    points = truth + np.random.default_rng(4).normal(0, noise, truth.shape)
    return Predictions(faces, points, np.ones(points.shape[:2]), {"shift_5": points + 1}, made)


def test_predictions_are_measured_over_the_landmarks_they_have_by_normalisers_of_all():
    faces = some_faces()
    evaluation = evaluate(predict(faces, [3, 2]), SCHEME)
    distance = np.hypot(*np.moveaxis(evaluation.predictions.points - faces.landmarks[:, [3, 2]], -1, 0)).mean(1)
    eyes = np.hypot(*(faces.landmarks[:, 0] - faces.landmarks[:, 1]).T)
    np.testing.assert_allclose(evaluation.official, distance / eyes, rtol=1e-12)
    metrics = evaluation.metrics(THRESHOLDS)
    assert metrics["test"]["nme"] == pytest.approx(100 * (distance / eyes).mean(), rel=1e-12)
    assert metrics["blur"]["n"] == 10
    assert evaluation.perturbed["shift_5"].shape == (30,)
    np.testing.assert_array_equal(evaluation.nme_columns()["nme"], evaluation.nme_columns()["nme_inter_ocular"])


def test_the_baseline_predicts_the_mean_shape_of_the_training_faces_in_every_box():
    train, test = some_faces(50), some_faces()
    test.center, test.side = test.center + 5, test.side / 2
    points = mean_shape_predictions(train, predict(test, [3, 2])).points
    mean = ((train.landmarks - 60) / 80).mean(0)
    np.testing.assert_allclose(points, np.tile(65 + 40 * mean[[3, 2]], (30, 1, 1)), rtol=1e-12)
    baseline = evaluate(mean_shape_predictions(train, predict(test, [3, 2])), SCHEME)
    metrics = evaluate(predict(test, [3, 2]), SCHEME).metrics(THRESHOLDS, baseline)
    assert metrics["test"]["nme_mean_shape"] == pytest.approx(100 * baseline.official.mean(), rel=1e-12)


def test_galleries_show_random_best_and_worst_faces_and_the_failure_cases_of_a_subset():
    predictions = predict(some_faces(), [0, 1, 2, 3])
    predictions.points[7] = np.nan
    evaluation = evaluate(predictions, SCHEME)
    order = np.argsort(evaluation.official)
    rows = evaluation.gallery_rows()
    assert [row for row, _ in rows[4:]] == [*order[:4], *order[:-5:-1]]
    assert [caption.split(":")[0] for _, caption in rows] == ["random"] * 4 + ["best"] * 4 + ["worst"] * 4
    assert rows[8] == (7, "worst: no prediction")
    assert rows[4][1] == f"best: {100 * evaluation.official[order[0]]:.1f} %"
    cases = evaluation.failure_cases(np.ones(30, bool))
    assert [row for row, _ in cases] == [*order[::-1][:12], *order[::-1][9:21]]
    few = evaluation.failure_cases(evaluation.subsets()["blur"])
    assert [caption.split(":")[0] for _, caption in few] == ["worst"] * 10 + ["median"] * 10
