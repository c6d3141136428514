"""Paired tests against hand-computed figures, all sign flips, and simulated experiments."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report import leave, render

from stages import report
from stages.metrics.paired_tests import compare, holm, paired_bootstrap, signed_rank
from stages.metrics.per_face import FaceErrors, read_face_errors, table
from stages.reporting import comparisons
from stages.system.errors import InputError

WHOLE = {"test": np.ones(4, bool)}


def test_the_difference_is_the_second_minus_the_first():
    difference = compare(np.array([4.0, 5, 6, 9]), np.array([3.0, 5, 5, 7]), WHOLE)["test"]
    assert (difference.n, difference.first, difference.second, difference.mean) == (4, 6.0, 5.0, -1.0)
    assert difference.ci95[0] < -1 < difference.ci95[1] <= 0
    assert not difference.significant  # four faces


def test_the_rank_test_is_the_share_of_all_sign_flips_as_extreme():
    difference = np.array([0.3, -0.1, 0.5, 0.9, -0.2, 0.7, 0.4, 1.1])
    ranks = np.abs(difference).argsort().argsort() + 1
    flips = np.array([(np.array(signs) * ranks).sum() for signs in product((-1, 1), repeat=8)])
    exact = (np.abs(flips) >= abs((np.sign(difference) * ranks).sum())).mean()
    assert signed_rank(difference) == pytest.approx(exact, abs=1e-12)


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests_and_keeps_the_order():
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
    assert corrected == {"a": pytest.approx(0.03), "b": pytest.approx(0.06), "c": pytest.approx(0.06), "d": None}
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_false_rejections_and_coverage_of_simulated_experiments():
    """Of equal experiments 5 % are called different; the interval contains the true difference in 95 %."""
    rng = np.random.default_rng(8)
    covered = rejected = 0
    for seed in range(500):
        faces = rng.lognormal(1.4, 0.5, 100)
        difference = 0.1 * faces * rng.standard_normal(100)
        (low, high), p = paired_bootstrap(difference, seed, resamples=500)
        covered += low <= 0 <= high
        rejected += p < 0.05
    assert 0.93 <= covered / 500 <= 0.97
    assert 0.03 <= rejected / 500 <= 0.07


def test_a_small_difference_is_significant_by_pairs_of_faces():
    rng = np.random.default_rng(3)
    first = rng.lognormal(1.4, 0.6, 300)
    difference = compare(first, 0.98 * first + rng.normal(0, 0.05, 300), {"test": np.ones(300, bool)})["test"]
    assert difference.significant
    assert difference.ci95[1] < 0
    assert comparisons.verdict(difference, "one", "other") == "other is better"


def test_an_experiment_equals_itself():
    nme = np.random.default_rng(1).lognormal(1, 0.5, 50)
    difference = compare(nme, nme, {"test": np.ones(50, bool)})["test"]
    assert (difference.mean, difference.ci95, difference.p_rank, difference.p_mean) == (0, (0, 0), 1, 1)
    assert comparisons.verdict(difference, "a", "b") == "not significant"


@pytest.mark.parametrize("n", [0, 1])
def test_a_subset_of_no_face_or_one_has_no_verdict(n):
    rows = np.arange(4) < n
    few = compare(np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 2, 2]), {"few": rows})["few"]
    assert (few.n, few.ci95, few.p_rank, few.p_mean, few.significant) == (n, None, None, None, False)
    assert comparisons.verdict(few, "a", "b") == "too few faces"


def test_with_a_face_without_a_prediction_there_is_a_rank_test_and_no_mean():
    first, second = np.array([1.0, 2, 3, np.inf, np.inf]), np.array([np.inf, 2.5, 3.5, np.inf, 4])
    differences = compare(first, second, {"test": np.ones(5, bool), "rest": np.array([0, 1, 1, 0, 0], bool)})
    assert (differences["test"].first, differences["test"].mean, differences["test"].ci95) == (None, None, None)
    assert 0 <= differences["test"].p_rank <= 1
    assert differences["rest"].mean == 0.5


def test_other_faces_are_refused_by_name():
    first = FaceErrors(["a", "b", "c"], np.ones(3), [(), (), ()])
    second = FaceErrors(["c", "a", "x", "a"], np.arange(4.0), [(), (), (), ()])
    with pytest.raises(InputError) as caught:
        second.aligned_to(first, "B")
    for fault in ("face b: missing", "face x: not one of the 3", "face a: duplicated (2 rows)"):
        assert fault in str(caught.value)
    aligned = FaceErrors(["c", "a", "b"], np.array([3.0, 1, 2]), [(), (), ()]).aligned_to(first, "B")
    assert aligned.nme.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="face b: in subsets blur, and none in the other"):
        FaceErrors(["a", "b", "c"], np.ones(3), [(), ("blur",), ()]).aligned_to(first, "B")


def test_face_errors_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "faces.csv"
    table(FaceErrors(["NA", "b"], np.array([1.5, np.inf]), [("blur", "pose"), ()])).to_csv(file, index=False)
    faces = read_face_errors(file)
    assert (faces.face_id, faces.nme.tolist(), faces.subsets) == (["NA", "b"], [1.5, np.inf], [("blur", "pose"), ()])
    file.write_text("face_id,nme,subsets\na,1,\na,-2,\n")
    with pytest.raises(InputError, match="face a: nme is -2"):
        read_face_errors(file)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def two(root) -> Path:
    """demo-a and demo-b on the same 30 faces, the second better by half a percent everywhere, in another order."""
    blur = np.arange(30) < 15
    for name, error in (("demo-a", 5.0), ("demo-b", 4.5)):
        nme = error + np.arange(30) / 10
        folder = leave(root, name, {}, errors={"test": nme / 100, "blur": nme[blur] / 100})
        rows = pd.read_csv(folder / "faces.csv", keep_default_na=False)
        rows.iloc[:: 1 if name == "demo-a" else -1].to_csv(folder / "faces.csv", index=False)
    return root


def test_two_experiments_are_compared_by_their_faces(two):
    text = report.compare_experiments("demo-a", "demo-b")
    cells = [cell.strip() for cell in text.splitlines()[4].strip().strip("|").split(" | ")]
    assert cells == ["test", "30", "6.45", "5.95", "-0.50 [-0.50, -0.50]", "< 0.001", "< 0.001", "demo-b is better"]
    assert "| blur " in text
    page = render(two)
    assert "### Paired comparison" in page
    assert "demo-b is better" in page
    assert "By subset: A = demo-a, B = demo-b" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda faces: faces[faces["face_id"] != "f29"], "face f29: missing"),
        (lambda faces: pd.concat([faces, faces[faces["face_id"] == "f3"]]), r"face f3: duplicated \(2 rows\)"),
        (lambda faces: faces.replace({"face_id": {"f7": "who"}}), "face who: not one of the 30"),
    ],
)
def test_results_of_other_faces_are_named_and_refused(two, change, message):
    file = two / "reports/experiments/demo-b/faces.csv"
    change(pd.read_csv(file, keep_default_na=False)).to_csv(file, index=False)
    with pytest.raises(InputError, match=message) as caught:
        report.compare_experiments("demo-a", "demo-b")
    assert "demo-b" in str(caught.value)
    assert "dvc repro" in str(caught.value)


def test_experiments_that_do_not_compare_are_refused(two):
    leave(two, "demo-eyes", {"test": 30}, "inter_pupil")
    with pytest.raises(InputError, match="demo-eyes on demo by inter_pupil: their figures do not compare"):
        report.compare_experiments("demo-a", "demo-eyes")
    leave(two, "demo-part", {"test": 30}, landmarks=[0, 1])
    with pytest.raises(InputError, match="different landmarks: their figures do not compare"):
        report.compare_experiments("demo-a", "demo-part")
    with pytest.raises(InputError, match=r"demo-c: no such experiment[\s\S]*There are results of: demo-a, demo-b"):
        report.compare_experiments("demo-a", "demo-c")
