"""The expected error of landmarks: from the shape of heat maps, fitted on val, checked on other faces."""

import numpy as np
import pytest
import torch

from stages.inference import calibration, uncertainty
from stages.metrics.expected import expected_errors
from stages.model import heatmap
from stages.predictions.detections import BoxMap
from stages.system.errors import InputError


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_the_spread_of_a_gaussian_is_its_standard_deviation(sigma):
    points = torch.tensor([[[20.3, 30.8], [12.0, 15.5]]], dtype=torch.float64)
    maps = heatmap.encode(points, 64, sigma).float()
    widths = heatmap.spread(maps, points.float())
    np.testing.assert_allclose(widths, sigma, rtol=0.12)  # what is beyond nine cells is missing


def test_two_peaks_are_wider_than_one_and_no_peak_has_no_width():
    points = torch.tensor([[[20.0, 30.0]], [[23.0, 30.0]]], dtype=torch.float64)
    one, other = heatmap.encode(points, 64, 1.5).float()
    maps = torch.stack([one, one + 0.8 * other, torch.zeros_like(one)])
    single, double, none = heatmap.spread(maps, points[:1].float().expand(3, -1, -1))[:, 0].tolist()
    assert double > 1.2 * single
    assert np.isnan(none)


def drawn(faces: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Errors that are exponential about a mean of the model's form; scores, spreads and these means."""
    rng = np.random.default_rng(seed)
    scores, spreads = rng.uniform(0.2, 1.0, (faces, 5)), rng.uniform(1.0, 3.0, (faces, 5))
    mean = np.exp(np.array([-4.0, -3.5, -3.0, -4.5, -4.0]) - 1.5 * np.log(scores) + 0.7 * np.log(spreads))
    return mean * rng.exponential(1, mean.shape), scores, spreads, mean


def test_the_mean_error_of_every_landmark_is_found_and_the_bound_covers_nine_of_ten():
    errors, scores, spreads, _ = drawn(400, 1)
    errors[:30, 2] = np.nan  # not annotated
    fitted = uncertainty.fit(errors, scores, spreads)
    assert fitted.height == pytest.approx(-1.5, abs=0.15)
    assert fitted.width == pytest.approx(0.7, abs=0.15)
    assert fitted.bound == pytest.approx(np.log(10), rel=0.05)  # the 90 % quantile of an exponential distribution
    errors, scores, spreads, mean = drawn(2000, 2)
    expected = fitted.expected(scores, spreads)
    np.testing.assert_allclose(expected, mean, rtol=0.25)
    assert (errors < fitted.bound * expected).mean() == pytest.approx(0.9, abs=0.01)


def test_too_few_faces_fit_nothing():
    errors, scores, spreads, _ = drawn(19, 1)
    assert uncertainty.fit(errors, scores, spreads) is None


def test_what_was_fitted_is_read_back_and_a_damaged_file_is_named(tmp_path):
    fitted = calibration.Calibration(boxes=BoxMap(0.01, 0.13, 0.77), errors=uncertainty.fit(*drawn(50, 1)[:3]))
    (tmp_path / "a.json").write_text(fitted.model_dump_json())
    assert calibration.read(tmp_path / "a.json") == fitted
    assert calibration.read(tmp_path / "absent.json") == calibration.Calibration()
    (tmp_path / "a.json").write_text(fitted.model_dump_json()[:50])
    with pytest.raises(InputError, match=r"a\.json is damaged: run dvc repro"):
        calibration.read(tmp_path / "a.json")


def test_coverage_and_reliability_are_those_of_the_landmarks():
    expected = np.array([[1.0, 2.0], [1.0, 4.0], [np.nan, 2.0]])
    errors = np.array([[1.5, 5.0], [2.5, 3.0], [9.0, 1.0]])
    measured = expected_errors(expected, errors, 2.0, {"left": [0], "right": [1]})
    assert measured["covered"] == pytest.approx(3 / 5)
    assert measured["groups"] == {"left": pytest.approx(1 / 2), "right": pytest.approx(2 / 3)}
    assert sum(bin["n"] for bin in measured["bins"]) == 5
    assert expected_errors(np.full((2, 2), np.nan), errors[:2], 2.0, {}) is None
