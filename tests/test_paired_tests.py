"""Paired comparisons against hand-computed figures, a bootstrap one by one, and simulated experiments."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from test_report import leave, render, row

from stages import report
from stages.metrics.intervals import MINIMUM_FACES
from stages.metrics.paired_tests import adjusted, compare, compare_all, simultaneous
from stages.metrics.per_face import FaceErrors, read_face_errors, table
from stages.reporting import comparisons
from stages.system.errors import InputError
from tests.simulations import alike, failing, false_verdicts, unequal_tails


def whole(n: int) -> dict[str, np.ndarray]:
    return {"test": np.ones(n, bool)}


def test_the_difference_is_the_second_minus_the_first():
    difference = compare(np.array([4.0, 5, 6, 9]), np.array([3.0, 5, 5, 7]), whole(4))["test"]
    assert (difference.n, difference.first, difference.second, difference.mean) == (4, 6.0, 5.0, -1.0)
    assert (difference.first_better, difference.second_better) == (0, 3)
    assert difference.p_sign == 0.25  # three of three


def test_p_is_the_share_of_resamples_in_which_any_of_the_family_is_as_extreme():
    """The most extreme |t*| of 39 resamples are 1, 2, … 39, each in one or the other quantity."""
    largest = np.arange(1.0, 40)
    resampled = np.stack([largest, largest / 2], axis=1)
    resampled[::2] = -resampled[::2, ::-1]
    p, critical = adjusted(np.array([39.5, -39, 38.5, 20, 0]), resampled)
    assert p.tolist() == [1 / 40, 2 / 40, 2 / 40, 21 / 40, 1]
    assert critical == 39  # beyond which p is below 0.05
    assert adjusted(np.array([1.0]), np.zeros((39, 1)))[0] == [1 / 40]


def test_means_intervals_and_p_are_those_of_a_bootstrap_one_by_one():
    rng = np.random.default_rng(2)
    values = rng.standard_t(3, (150, 2)) + 0.2
    values[rng.random(150) < 0.2, 1] = np.nan

    def statistics(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = [column[~np.isnan(column)] for column in sample.T]
        return np.array([c.mean() for c in columns]), np.array([c.std() / np.sqrt(len(c)) for c in columns])

    mean, error = statistics(values)
    resamples = [statistics(values[faces]) for faces in np.random.default_rng(9).integers(150, size=(399, 150))]
    largest = np.sort([np.abs((m - mean) / e).max() for m, e in resamples])
    means, intervals, p = simultaneous(values, 9, 399)
    assert means == pytest.approx(mean)
    assert p == pytest.approx([(1 + (largest >= abs(t)).sum()) / 400 for t in mean / error])
    half = largest[-19] * error  # p < 0.05 where fewer than 19 of 399 are as large
    np.testing.assert_allclose(intervals, np.stack([mean - half, mean + half], axis=1), rtol=1e-3)


def test_zero_is_outside_the_interval_exactly_where_p_is_below_5_percent():
    """1,200 skewed differences, in families of six pairs or of one."""
    rng, rejected = np.random.default_rng(12), 0
    for seed in range(150):
        errors = unequal_tails(rng, (MINIMUM_FACES, 1))[:, 0] + rng.normal(0, 0.3, 4)
        pairs = np.stack([errors[:, b] - errors[:, a] for a in range(4) for b in range(a)], axis=1)
        for differences in (pairs, pairs[:, :1], pairs[:, 3:4]):
            _, intervals, p = simultaneous(differences, seed, 399)
            outside = (intervals[:, 0] > 0) | (intervals[:, 1] < 0)
            assert (outside == (p < 0.05)).all()
            rejected += outside.sum()
    assert 200 < rejected < 1000


@pytest.mark.parametrize("methods", [alike, failing, unequal_tails])
@pytest.mark.parametrize("n", [224, 689])
def test_of_equal_methods_at_most_5_of_100_tables_call_any_better(methods, n):
    """Four methods, so six pairs; 1,000 tables: three Monte Carlo errors are 2.1 %."""
    assert false_verdicts(methods, n, 1000, 399) <= 0.05 + 0.021


def test_the_whole_table_is_one_family():
    """A pair has a larger p, and a wider interval, beside others than alone."""
    rng = np.random.default_rng(1)
    errors = dict(zip("abcd", alike(rng, (200, 1))[:, 0].T + np.array([[0.0], [0.2], [0.3], [0.4]]), strict=True))
    alone, beside = compare_all({name: errors[name] for name in "ac"})["a", "c"], compare_all(errors)["a", "c"]
    assert alone.mean == pytest.approx(beside.mean, rel=1e-12)
    assert alone.p < beside.p
    assert alone.ci95[0] > beside.ci95[0]
    assert beside.p_sign == pytest.approx(min(1, 6 * alone.p_sign))


def test_a_pair_that_differs_in_two_faces_has_no_verdict_and_spoils_no_other():
    rng = np.random.default_rng(1)
    first, third = rng.lognormal(1.4, 0.5, (2, 200))
    second = np.where(np.arange(200) < 2, first + 5, first)
    pairs = compare_all({"a": first, "b": second, "c": third + 1})
    assert (pairs["a", "b"].p, pairs["a", "b"].ci95) == (1, None)
    assert comparisons.verdict(pairs["a", "b"], "a", "b") == "not significant"
    assert comparisons.verdict(pairs["a", "c"], "a", "c") == "a is better"
    assert "+0.05 |" in comparisons.pair_table("a", "b", {"test": pairs["a", "b"]})


def test_a_small_difference_is_significant_by_pairs_of_faces():
    rng = np.random.default_rng(3)
    first = rng.lognormal(1.4, 0.6, 300)
    difference = compare(first, 0.98 * first + rng.normal(0, 0.05, 300), whole(300))["test"]
    assert difference.significant
    assert difference.ci95[1] < 0
    assert comparisons.verdict(difference, "one", "other") == "other is better"


@pytest.mark.parametrize(
    ("worse", "verdict"),
    [
        (8.0, "a is better in the mean, b on most faces"),
        (2.8, "not significant, but b is better on most faces"),
        (0.1, "b is better"),
    ],
)
def test_the_verdict_says_where_mean_and_most_faces_disagree(worse, verdict):
    """B is better by 0.2 on 280 of 300 faces, and worse by about `worse` on 20."""
    rng = np.random.default_rng(4)
    first = rng.lognormal(1.4, 0.5, 300)
    change = np.where(np.arange(300) < 280, -0.2, worse) * rng.uniform(0.8, 1.2, 300)
    difference = compare(first, first + change, whole(300))["test"]
    assert (difference.first_better, difference.second_better) == (20, 280)
    assert difference.p_sign == pytest.approx(binomtest(20, 300).pvalue)
    assert comparisons.verdict(difference, "a", "b") == verdict
    assert "| 93 % |" in " ".join(comparisons.pair_table("a", "b", {"test": difference}).split())


def test_an_experiment_equals_itself():
    nme = np.random.default_rng(1).lognormal(1, 0.5, 150)
    difference = compare(nme, nme, whole(150))["test"]
    assert (difference.mean, difference.ci95, difference.p, difference.p_sign) == (0, (0, 0), 1, 1)
    assert comparisons.verdict(difference, "a", "b") == "not significant"


@pytest.mark.parametrize("n", [0, 1, 34, MINIMUM_FACES - 1])
def test_a_subset_of_few_faces_has_no_verdict_and_does_not_count_for_others(n):
    rng = np.random.default_rng(n)
    first, second = rng.lognormal(1, 0.5, (2, 200))
    subsets = whole(200) | {"few": np.arange(200) < n}
    differences = compare(first, second + 1, subsets)
    few = differences["few"]
    assert (few.n, few.ci95, few.p, few.significant) == (n, None, None, False)
    assert (few.mean is None) == (n == 0)
    assert comparisons.verdict(few, "a", "b") == "too few faces"
    assert differences["test"].ci95 == compare(first, second + 1, whole(200))["test"].ci95


def test_with_a_face_without_a_prediction_there_is_no_mean_and_no_verdict():
    first, second = np.full(200, 2.0), np.full(200, 1.0) + np.arange(200) / 1000
    first[[0, 1]], second[[1, 2]] = np.inf, np.inf
    differences = compare(first, second, whole(200) | {"rest": np.arange(200) > 2})
    test = differences["test"]
    assert (test.first, test.second, test.mean, test.ci95, test.p) == (None, None, None, None, None)
    assert (test.without, test.first_better, test.second_better) == (3, 1, 198)
    assert comparisons.verdict(test, "a", "b") == "no mean: 3 faces without a prediction"
    assert "| ∞ | ∞ | – | – | 99 % |" in " ".join(comparisons.pair_table("a", "b", {"test": test}).split())
    assert comparisons.verdict(differences["rest"], "a", "b") == "b is better"


def test_errors_of_other_faces_are_refused():
    with pytest.raises(ValueError, match="not of the same faces"):
        compare(np.ones(4), np.ones(5), whole(4))


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (0.0001, "< 0.001"), (0.0131, "0.013"), (0.04996, "< 0.05"), (0.05, "0.050")]
)
def test_a_p_beside_5_percent_tells_its_side(p, text):
    assert comparisons.p_value(p) == text


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
    """demo-a and demo-b on the same 140 faces, the second better by half a percent everywhere, in another order."""
    blur, profile = np.arange(140) < 135, np.arange(140) < 15
    for name, error in (("demo-a", 5.0), ("demo-b", 4.5)):
        nme = (error + np.arange(140) / 20) / 100
        folder = leave(root, name, {}, errors={"test": nme, "blur": nme[blur], "profile": nme[profile]})
        rows = pd.read_csv(folder / "faces.csv", keep_default_na=False)
        rows.iloc[:: 1 if name == "demo-a" else -1].to_csv(folder / "faces.csv", index=False)
    return root


def test_two_experiments_are_compared_by_their_faces(two):
    text = report.compare_experiments("demo-a", "demo-b")
    expected = ["140", "8.47", "7.97", "-0.50 [-0.50, -0.50]", "< 0.001", "100 %", "demo-b is better"]
    assert row(text, "test") == ["test", *expected]
    assert row(text, "profile") == ["profile", "15", "5.35", "4.85", "-0.50", "–", "100 %", "too few faces"]
    page = render(two)
    section = page[page.index("Paired comparisons: ") :]
    section = section[: section.index("</details>")]
    assert row(section, "demo-a", "demo-b") == ["demo-a", "demo-b", *expected]
    assert row(section, "B", "blur (n 135)") == ["B", "blur (n 135)", "profile (n 15)"]
    assert row(section, "demo-b") == ["demo-b", "-0.50 [-0.50, -0.50]", "-0.50"]
    assert "Every two" not in section  # there is one pair


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda faces: faces[faces["face_id"] != "f139"], "face f139: missing"),
        (lambda faces: pd.concat([faces, faces[faces["face_id"] == "f3"]]), r"face f3: duplicated \(2 rows\)"),
        (lambda faces: faces.replace({"face_id": {"f7": "who"}}), "face who: not one of the 140"),
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
    leave(two, "demo-eyes", {"test": 140}, "inter_pupil")
    with pytest.raises(InputError, match="demo-eyes on demo by inter_pupil: their figures do not compare"):
        report.compare_experiments("demo-a", "demo-eyes")
    leave(two, "demo-part", {"test": 140}, landmarks=[0, 1])
    with pytest.raises(InputError, match="different landmarks: their figures do not compare"):
        report.compare_experiments("demo-a", "demo-part")
    with pytest.raises(InputError, match=r"demo-c: no such experiment[\s\S]*There are results of: demo-a, demo-b"):
        report.compare_experiments("demo-a", "demo-c")
