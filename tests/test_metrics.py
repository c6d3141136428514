"""NME, failure rate, CED and AUC against figures made by hand, an independent integration and the published method."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.errors import InputError
from stages.measure.metrics import auc, ced, face_errors, failure_rate, normalisers, summarise

SHARED = Path(__file__).parents[1] / "../shared"

# three faces of two landmarks: 3-4-5 triangles give distances of 5 and 10 px
TRUTH = np.array([[[0, 0], [100, 0]], [[10, 10], [10, 60]], [[0, 0], [3, 4]]], float)
PREDICTED = TRUTH + np.array([[[3, 4], [6, 8]], [[0, 0], [-3, 4]], [[5, 0], [0, -5]]])


def test_a_face_s_error_is_its_mean_distance_over_its_normaliser():
    # (5 + 10)/2 / 100, (0 + 5)/2 / 50, (5 + 5)/2 / 5
    np.testing.assert_allclose(face_errors(PREDICTED, TRUTH, np.array([100, 50, 5])), [0.075, 0.05, 1], rtol=1e-15)


def test_a_face_without_a_prediction_fails_at_every_threshold():
    predicted = PREDICTED.copy()
    predicted[0, 1, 0] = np.nan
    errors = face_errors(predicted, TRUTH, np.array([100, 50, 5]))
    assert errors.tolist() == [np.inf, 0.05, 1.0]
    assert failure_rate(errors, 10.0) == 1 / 3
    assert auc(errors, 0.1) == pytest.approx((0 + 0.5 + 0) / 3)
    found = summarise(errors, seed=1)
    assert found["nme"] is None
    assert found["nme_ci95"] is None
    assert found["fr_0.10"] == pytest.approx(200 / 3)


def test_a_similarity_of_both_point_sets_changes_no_error():
    rng = np.random.default_rng(12)
    truth = rng.uniform(0, 200, (50, 7, 2))
    predicted = truth + rng.normal(0, 4, truth.shape)
    definitions = {"inter_ocular": [0, 1], "inter_pupil": [[2, 3], [4]]}

    def errors(points, true):
        return {name: face_errors(points, true, px) for name, px in normalisers(true, np.ones(50), definitions).items()}

    before = errors(predicted, truth)
    turn = 2.7 * np.array([[np.cos(0.8), -np.sin(0.8)], [np.sin(0.8), np.cos(0.8)]])
    for name in definitions:
        after = errors(predicted @ turn.T + [30, -5], truth @ turn.T + [30, -5])[name]
        np.testing.assert_allclose(after, before[name], rtol=1e-12)
    for name, after in errors(2.7 * predicted + [30, -5], 2.7 * truth + [30, -5]).items():  # boxes do not turn
        np.testing.assert_allclose(after, before[name], rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 1), (1,), (2,)])
def test_arrays_of_different_faces_are_refused(shape):
    with pytest.raises(ValueError, match="differ"):
        face_errors(PREDICTED, TRUTH, np.ones(shape))


@pytest.mark.parametrize("name", ["wflw", "300w"])
def test_errors_are_the_published_method_s(name):
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


def test_normalisers_are_what_their_definitions_say():
    truth = np.array([[[0, 0], [2, 0], [30, 40], [32, 40]], [[5, 1], [5, 3], [5, 12], [9, 4]]], float)
    found = normalisers(
        truth, np.array([50.0, 20.0]), {"inter_ocular": [0, 2], "inter_pupil": [[0, 1], [2, 3]], "box_side": "box"}
    )
    assert found["inter_ocular"].tolist() == [50, 11]
    assert found["inter_pupil"].tolist() == [50, pytest.approx(np.hypot(2, 6))]  # (5, 2) to (7, 8)
    assert found["box_side"].tolist() == [50, 20]
    assert found["box_sqrt"].tolist() == [pytest.approx(np.sqrt(32 * 40)), pytest.approx(np.sqrt(4 * 11))]
    assert found["box_diagonal"].tolist() == [pytest.approx(np.hypot(32, 40)), pytest.approx(np.hypot(4, 11))]


def test_a_normaliser_of_zero_names_its_faces():
    truth = np.array([[[0, 0], [9, 9]], [[4, 4], [4, 4]], [[1, 0], [0, 2]]], float)
    with pytest.raises(InputError, match=r"face 1 .*inter_ocular is 0 px") as caught:
        normalisers(truth, np.array([9.0, 9.0, np.nan]), {"inter_ocular": [0, 1], "box_side": "box"})
    assert "face 2 (row of the split, from 0): box_side is nan px" in str(caught.value)
    assert "face 0" not in str(caught.value)


def test_a_normaliser_of_landmarks_that_do_not_exist_is_refused():
    with pytest.raises(InputError, match=r"inter_ocular names landmarks \[72\]; there are 2"):
        normalisers(TRUTH, np.ones(3), {"inter_ocular": [0, 72]})


def test_the_failure_rate_counts_what_lies_above_the_threshold():
    assert failure_rate(np.array([0.02, 0.08, 0.09, 0.30]), 0.08) == 0.5


def test_the_ced_steps_where_faces_lie():
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


def test_a_subset_s_summary_is_in_percent():
    found = summarise(np.array([0.02, 0.04, 0.09, 0.15]), seed=3)
    low, high = found.pop("nme_ci95")
    wilson = found.pop("fr_0.10_ci95")
    assert wilson == pytest.approx([4.56, 69.94], abs=0.01)  # 1 of 4
    bounds = {key: found.pop(key) for key in ("fr_0.08_ci95", "auc_0.08_ci95", "auc_0.10_ci95")}
    assert all(lower < found[key.removesuffix("_ci95")] < upper for key, (lower, upper) in bounds.items())
    assert found == pytest.approx(
        {
            "n": 4,
            "nme": 7.5,
            "fr_0.08": 50.0,
            "fr_0.10": 25.0,
            "auc_0.08": 100 * (0.75 + 0.5) / 4,
            "auc_0.10": 100 * (0.8 + 0.6 + 0.1) / 4,
        }
    )
    assert 2 < low < 7.5 < high < 15


@pytest.mark.parametrize(("nme", "mean", "failed"), [([], None, None), ([0.09], 9.0, 100.0)])
def test_a_subset_of_no_face_or_one_has_no_interval(nme, mean, failed):
    found = summarise(np.array(nme), seed=0)
    assert (found["n"], found["nme"], found["nme_ci95"], found["fr_0.08"]) == (len(nme), mean, None, failed)
    json.dumps(found, allow_nan=False)
