"""Two experiments compared face by face: against figures made by hand, all sign flips, and simulated experiments."""

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_report import leave, made

from stages import report
from stages.data.crops import write_index
from stages.data.faces import Faces, list_column
from stages.errors import InputError
from stages.measure import pairs
from stages.measure.compare import compare, holm, paired_bootstrap, signed_rank
from stages.measure.per_face import FaceErrors, read_face_errors, table

WHOLE = {"test": np.ones(4, bool)}


def test_the_difference_is_that_of_the_second_from_the_first():
    found = compare(np.array([4.0, 5, 6, 9]), np.array([3.0, 5, 5, 7]), WHOLE)["test"]
    assert (found.n, found.first, found.second, found.mean) == (4, 6.0, 5.0, -1.0)
    assert found.ci95[0] < -1 < found.ci95[1] <= 0
    assert not found.sure  # four faces


def test_the_rank_test_is_the_share_of_all_sign_flips_as_extreme():
    difference = np.array([0.3, -0.1, 0.5, 0.9, -0.2, 0.7, 0.4, 1.1])
    ranks = np.abs(difference).argsort().argsort() + 1
    flips = np.array([(np.array(signs) * ranks).sum() for signs in product((-1, 1), repeat=8)])
    exact = (np.abs(flips) >= abs((np.sign(difference) * ranks).sum())).mean()
    assert signed_rank(difference) == pytest.approx(exact, abs=1e-12)


def test_holm_multiplies_the_least_by_the_most_and_keeps_the_order():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
    assert found == {"a": pytest.approx(0.03), "b": pytest.approx(0.06), "c": pytest.approx(0.06), "d": None}
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_what_seems_and_what_is_there_of_simulated_experiments():
    """Of experiments that are equal 5 % seem different; the interval holds the truth in 95 %."""
    rng = np.random.default_rng(8)
    held = found = 0
    for seed in range(500):
        faces = rng.lognormal(1.4, 0.5, 100)
        difference = 0.1 * faces * rng.standard_normal(100)
        (low, high), p = paired_bootstrap(difference, seed, resamples=500)
        held += low <= 0 <= high
        found += p < 0.05
    assert 0.93 <= held / 500 <= 0.97
    assert 0.03 <= found / 500 <= 0.07


def test_pairs_find_what_two_intervals_hide():
    rng = np.random.default_rng(3)
    first = rng.lognormal(1.4, 0.6, 300)
    found = compare(first, 0.98 * first + rng.normal(0, 0.05, 300), {"test": np.ones(300, bool)})["test"]
    assert found.sure
    assert found.ci95[1] < 0
    assert pairs.verdict(found, "one", "other") == "other is better"


def test_an_experiment_equals_itself():
    nme = np.random.default_rng(1).lognormal(1, 0.5, 50)
    found = compare(nme, nme, {"test": np.ones(50, bool)})["test"]
    assert (found.mean, found.ci95, found.p_rank, found.p_mean) == (0, (0, 0), 1, 1)
    assert pairs.verdict(found, "a", "b") == "not significant"


@pytest.mark.parametrize("n", [0, 1])
def test_a_subset_of_no_face_or_one_says_nothing(n):
    rows = np.arange(4) < n
    found = compare(np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 2, 2]), {"few": rows})["few"]
    assert (found.n, found.ci95, found.p_rank, found.p_mean, found.sure) == (n, None, None, None, False)
    assert pairs.verdict(found, "a", "b") == "too few faces"


def test_a_face_without_a_prediction_leaves_no_mean_but_ranks():
    first, second = np.array([1.0, 2, 3, np.inf, np.inf]), np.array([np.inf, 2.5, 3.5, np.inf, 4])
    found = compare(first, second, {"test": np.ones(5, bool), "rest": np.array([0, 1, 1, 0, 0], bool)})
    assert (found["test"].first, found["test"].mean, found["test"].ci95) == (None, None, None)
    assert 0 <= found["test"].p_rank <= 1
    assert found["rest"].mean == 0.5


def test_other_faces_are_refused_by_name():
    mine = FaceErrors(["a", "b", "c"], np.ones(3), [(), (), ()])
    other = FaceErrors(["c", "a", "x", "a"], np.arange(4.0), [(), (), (), ()])
    with pytest.raises(InputError) as caught:
        other.like(mine, "B")
    for fault in ("face b: missing", "face x: not one of the 3", "face a: stands 2 times"):
        assert fault in str(caught.value)
    turned = FaceErrors(["c", "a", "b"], np.array([3.0, 1, 2]), [(), (), ()]).like(mine, "B")
    assert turned.nme.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="face b: in subsets blur, and none in the other"):
        FaceErrors(["a", "b", "c"], np.ones(3), [(), ("blur",), ()]).like(mine, "B")


def test_face_errors_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "faces.csv"
    table(FaceErrors(["NA", "b"], np.array([1.5, np.inf]), [("blur", "pose"), ()])).to_csv(file, index=False)
    found = read_face_errors(file)
    assert (found.face_id, found.nme.tolist(), found.subsets) == (["NA", "b"], [1.5, np.inf], [("blur", "pose"), ()])
    file.write_text("face_id,nme,subsets\na,1,\na,-2,\n")
    with pytest.raises(InputError, match="face a: nme is -2"):
        read_face_errors(file)


def drawn(n: int = 30, k: int = 3) -> Faces:
    rng = np.random.default_rng(5)
    return Faces(
        [f"f{i}" for i in range(n)], ["test"] * n, [f"{i}.png" for i in range(n)], np.zeros((n, 2)), np.full(n, 100.0),
        rng.uniform(0, 100, (n, k, 2)), np.ones((n, k), bool), [("blur",) if i % 2 else () for i in range(n)],
    )  # fmt: skip


def predict(root: Path, name: str, faces: Faces, ids: list[str], shift: float, k: int = 3) -> None:
    rows = [faces.face_id.index(face) if face in faces.face_id else 0 for face in ids]
    points = (faces.landmarks[rows][:, :1].repeat(k, 1) + shift).reshape(len(ids), -1)
    nme = shift + np.array(rows) / 10
    columns = {"face_id": pa.array(ids), "landmarks": list_column(points), "scores": list_column(points[:, :k])}
    (root / "data/predictions").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns | {"nme_inter_ocular": nme}), root / f"data/predictions/{name}.parquet")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def two(root) -> tuple[Path, Faces]:
    """demo-a and demo-b on the same faces, the second better by half a percent everywhere, in another order."""
    faces = drawn()
    (root / "data/crops/demo").mkdir(parents=True)
    write_index(root / "data/crops/demo/test.parquet", faces, np.zeros((len(faces), 2, 3)))
    for name, shift in (("demo-a", 5.0), ("demo-b", 4.5)):
        leave(root, name, {"test": 30})
        predict(root, name, faces, faces.face_id[:: 1 if name == "demo-a" else -1], shift)
    return root, faces


def test_two_experiments_are_compared_from_their_predictions(two):
    text = report.compared("demo-a", "demo-b")
    cells = [cell.strip() for cell in text.splitlines()[4].strip().strip("|").split(" | ")]
    assert cells == ["test", "30", "6.45", "5.95", "-0.50 [-0.50, -0.50]", "< 0.001", "< 0.001", "demo-b is better"]
    assert "| blur " in text


@pytest.mark.parametrize(
    ("ids", "k", "said"),
    [
        ([f"f{i}" for i in range(29)], 3, "face f29: missing"),
        ([f"f{i}" for i in range(30)] + ["f3"], 3, "face f3: stands 2 times"),
        ([f"f{i}" for i in range(30)] + ["who"], 3, "face who: not one of the 30"),
        ([f"f{i}" for i in range(30)], 2, "face f0: 4 coordinates, and its 3 landmarks need 6"),
    ],
)
def test_predictions_of_other_faces_are_named_and_refused(two, ids, k, said):
    root, faces = two
    predict(root, "demo-b", faces, ids, 1.0, k)
    with pytest.raises(InputError, match=said) as caught:
        report.compared("demo-a", "demo-b")
    assert "data/predictions/demo-b.parquet" in str(caught.value)
    assert "dvc repro" in str(caught.value)


def test_without_predictions_the_faces_in_git_are_compared(root):
    faces = drawn()
    for name, nme in (("demo-a", 5.0), ("demo-b", 6.0)):
        errors = FaceErrors(faces.face_id, nme + np.arange(30) / 100, faces.subsets)
        blur = np.arange(30) % 2 == 1
        folder = leave(root, name, {}, errors={"test": errors.nme / 100, "blur": errors.nme[blur] / 100})
        table(errors).to_csv(folder / "faces.csv", index=False)
    assert "demo-a is better" in report.compared("demo-a", "demo-b")
    text = made(root)
    assert "### Which is better" in text
    assert "demo-a is better" in text
    (root / "reports/experiments/demo-b/faces.csv").unlink()
    assert "Which is better" not in made(root)
    with pytest.raises(InputError, match=r"data/predictions/demo-b.parquet is missing: run dvc checkout"):
        report.compared("demo-a", "demo-b")


def test_what_does_not_compare_is_refused(two):
    leave(two[0], "demo-eyes", {"test": 30}, "inter_pupil")
    with pytest.raises(InputError, match="demo-eyes on demo by inter_pupil: their figures do not compare"):
        report.compared("demo-a", "demo-eyes")
    with pytest.raises(InputError, match=r"demo-c: no such experiment[\s\S]*Measured are: demo-a, demo-b"):
        report.compared("demo-a", "demo-c")
