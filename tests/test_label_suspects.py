"""Doubtful labels: found where they were moved on purpose, with no more false alarms than are stated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, Project, draw_toy

from stages import label_suspects
from stages.data.crops import read_crops, read_index
from stages.data.faces import Faces
from stages.metrics.label_suspects import Null, fit_null, score, upright
from stages.metrics.moved_labels import moved_labels, simulate
from stages.metrics.suspect_table import groups, instability, sensitivity, suspect_table
from stages.predictions.table import Made, Predictions, Submitted, read_predictions, write_predictions
from stages.submissions import reading
from stages.submissions.matching import match
from stages.system.errors import InputError

SPIGA = ROOT / "../shared/data/predictions/spiga_lfpw.csv"
N, K = 400, 30


def faces(seed: int = 0, *, rotation: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two methods (2, N, K, 2), right labels (N, K, 2) and normalisers (N,), px.

    Errors are longer in x than in y of the upright face, larger on some landmarks and in some regions of some faces,
    half of them shared by the methods, which have biases of their own. Labels are scattered like the shared errors.
    """
    rng = np.random.default_rng(seed)
    mean = np.stack([np.linspace(-1, 1, K), np.sin(np.linspace(0, 3 * np.pi, K))], -1)
    normaliser = rng.uniform(50, 200, N)
    smooth = np.cumsum(rng.normal(0, 0.1, (N, K)), 1) + rng.normal(0, 0.3, (N, 1))
    size = np.exp(smooth)[..., None] * rng.uniform(0.5, 2, (K, 1)) * [2, 0.7]  # percent of the normaliser
    shared, own = rng.standard_normal((N, K, 2)), rng.standard_normal((2, N, K, 2))
    errors = size * (shared + own) + rng.normal(0, 1, (2, 1, K, 2))
    angle = rng.uniform(-rotation, rotation, N)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    unit = normaliser[:, None, None]
    truth = np.einsum("nij,kj->nki", turn, mean) * unit + rng.uniform(0, 300, (N, 1, 2))
    predictions = truth + np.einsum("nij,mnkj->mnki", turn, errors) / 100 * unit
    return predictions, truth, normaliser


@pytest.fixture(scope="module")
def moved():
    """Of `faces`, the labels with 1 % moved by 25 % of the normaliser, and which."""
    predictions, truth, normaliser = faces()
    labels, moved = moved_labels(truth, normaliser, 25, 0.01, np.random.default_rng(1))
    return predictions, labels, normaliser, moved


@pytest.mark.parametrize("stated", [0.05, 0.2])
def test_moved_labels_are_found_with_no_more_false_alarms_than_stated(moved, stated):
    predictions, labels, normaliser, moved = moved
    suspects = score(predictions, labels, normaliser).suspects(stated)
    assert (suspects & moved).sum() > 0.6 * moved.sum()
    false, n = (suspects & ~moved).sum(), suspects.sum()
    assert false <= n * stated + 2 * np.sqrt(n * stated)


def test_right_labels_give_no_list():
    predictions, truth, normaliser = faces(3)
    assert score(predictions, truth, normaliser).suspects(0.1).sum() <= 2


def test_a_label_moved_along_the_usual_ambiguity_scores_less_than_one_moved_across_it():
    predictions, truth, normaliser = faces(rotation=0)
    along, across = truth.copy(), truth.copy()
    along[:20, 5] += 0.1 * normaliser[:20, None] * [1, 0]
    across[:20, 5] += 0.1 * normaliser[:20, None] * [0, 1]
    scores = [np.median(score(predictions, labels, normaliser).score[:20, 5]) for labels in (along, across)]
    assert scores[1] > 1.5 * scores[0]


def test_a_bias_of_a_method_makes_no_suspect():
    predictions, truth, normaliser = faces(rotation=0)
    before = score(predictions, truth, normaliser).score
    predictions[:, :, 7] += 0.3 * normaliser[:, None] * [1, 0]
    np.testing.assert_allclose(score(predictions, truth, normaliser).score, before, rtol=0.05, atol=0.02)


def test_a_label_that_one_of_two_methods_agrees_with_is_no_suspect():
    predictions, truth, normaliser = faces()
    predictions[0, 10, 4] += 0.8 * normaliser[10]
    assert score(predictions, truth, normaliser).score[10, 4] < 1.5


def test_what_moves_with_the_face_box_is_less_certain():
    predictions, truth, normaliser = faces()
    truth[10, 4] += 0.3 * normaliser[10]
    steady = np.full((N, K), 0.01) * normaliser[:, None]
    unsteady = steady.copy()
    unsteady[10, 4] = 0.3 * normaliser[10]
    plain, same, doubted = (
        score(predictions, truth, normaliser, moves).score[10, 4] for moves in (None, steady, unsteady)
    )
    assert same == pytest.approx(plain)
    assert doubted < 0.7 * plain


def test_another_unit_and_a_shift_of_image_and_landmarks_change_no_score(moved):
    predictions, labels, normaliser, _ = moved
    one, other = score(predictions, labels, normaliser), score(3 * predictions + 9, 3 * labels + 9, 3 * normaliser)
    np.testing.assert_allclose(other.score, one.score, rtol=1e-6)


def test_upright_undoes_the_rotation_of_a_shape():
    shape = np.array([[0, 0], [3, 0], [0, 2], [np.nan, np.nan]])
    angles = np.array([0.3, -0.2, 0.05])
    turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])
    product = upright(np.einsum("nij,kj->nki", turns, shape)) @ turns
    np.testing.assert_allclose(product - product[:1], 0, atol=1e-9)


def test_what_is_missing_has_no_score_and_changes_little_else(moved):
    predictions, labels, normaliser, _ = (array.copy() for array in moved)
    whole = score(predictions, labels, normaliser)
    predictions[0, 3], labels[4, 5], normaliser[6], predictions[:, 8, 9] = np.nan, np.nan, np.nan, np.nan
    scores = score(predictions, labels, normaliser)
    missing = np.isnan(scores.score)
    assert missing[3].all()
    assert missing[6].all()
    assert missing[4, 5]
    assert missing[8, 9]
    assert missing.sum() == 2 * K + 2
    assert not scores.suspects(0.9)[missing].any()
    assert np.nanmedian(np.abs(scores.score - whole.score)) < 0.02


def test_a_third_method_that_is_poor_does_not_hide_a_suspect(moved):
    predictions, labels, normaliser, moved = moved
    poor = predictions[:1] + np.random.default_rng(2).normal(0, 0.2, predictions[:1].shape) * normaliser[:, None, None]
    with_poor = score(np.concatenate([predictions, poor]), labels, normaliser).suspects(0.2)
    assert (with_poor & moved).sum() > 0.8 * (score(predictions, labels, normaliser).suspects(0.2) & moved).sum()


def test_with_one_method_moved_labels_come_first(moved):
    predictions, labels, normaliser, moved = moved
    scores = score(predictions[:1], labels, normaliser)
    first = np.argsort(-scores.score, axis=None)[: moved.sum() // 2]
    assert moved.flat[first].mean() > 0.8
    assert (scores.spread == 0).all()


@pytest.mark.parametrize("freedom", [4.0, 30.0])
def test_the_tail_is_fitted_to_what_it_draws(freedom):
    values = Null(freedom, 1.5).draw((50_000,), np.random.default_rng(4))
    for between in ((0.9, 1), (0.5, 0.975)):
        fitted = fit_null(values, between)
        beyond = Null(freedom, 1.5).tail(5.0)
        assert 0.6 < fitted.tail(5.0) / beyond < 1.7
    assert np.mean(values > 3) == pytest.approx(Null(freedom, 1.5).tail(3.0), rel=0.1)


def test_shapes_that_differ_and_too_few_labels_are_refused():
    predictions, truth, normaliser = faces()
    with pytest.raises(ValueError, match="differ"):
        score(predictions[:, :, :-1], truth, normaliser)
    with pytest.raises(ValueError, match="too few"):
        score(predictions[:, :3], truth[:3], normaliser[:3])


def test_the_simulation_measures_at_most_the_share_stated(moved):
    predictions, labels, normaliser, _ = moved
    found = simulate(
        score(predictions, labels, normaliser),
        predictions,
        labels,
        normaliser,
        by=25,
        share=0.01,
        false_alarms=0.2,
        seed=1,
    )
    assert found.moved == 3 * round(0.01 * N * K)
    assert found.recall > 0.5
    assert found.false_alarms < 0.25


def test_neighbours_moved_alike_are_a_group_and_others_are_not():
    suspects, residual = np.zeros((3, 10), bool), np.zeros((3, 10, 2))
    suspects[0, [1, 2, 4, 8]] = True
    residual[0] = [1, 0]
    suspects[1, [1, 2, 3]] = True
    residual[1, :3] = [1, 0]
    residual[1, 3:] = [-1, 0]  # the other way
    suspects[2, [5, 6]] = True
    names = groups(suspects, residual, {"jaw": range(10)})
    assert names[0].tolist() == ["", *["jaw 1–4"] * 2, "", "jaw 1–4", *[""] * 5]
    assert not names[1:].any()


def test_a_jaw_moved_along_the_contour_is_one_group_of_the_table():
    predictions, truth, normaliser = faces(rotation=0)
    truth[7, 10:16] += [0.4 * normaliser[7], 0]
    scores = score(predictions, truth, normaliser)
    ids = [f"face {i}" for i in range(N)]
    table = suspect_table(
        scores, scores.suspects(0.1), truth, normaliser, ids, {"jaw": range(20), "brows": range(20, 30)}
    )
    face = table[table["face_id"] == "face 7"]
    assert len(set(face["landmark"]) & set(range(10, 16))) >= 4
    assert len(set(face["group"])) == 1
    assert face["group"].iloc[0].startswith("jaw 1")
    assert (face["suspects_of_face"] == len(face)).all()
    np.testing.assert_allclose(face["distance_px"] * 100 / normaliser[7], face["distance_percent"])
    consensus = truth[7, face["landmark"]] - [0.4 * normaliser[7], 0]
    assert np.abs(face[["consensus_x", "consensus_y"]] - consensus).to_numpy().max() < 0.1 * normaliser[7]


def test_the_sensitivity_figure_leaves_the_suspects_out():
    truth = np.zeros((2, 2, 2))
    points, suspects = truth + [3, 4], np.array([[True, False], [False, False]])
    points[0, 0] += 100
    (nme, _), (without, interval) = sensitivity(points, truth, np.array([100.0, 100.0]), suspects)
    assert nme == pytest.approx((np.hypot(103, 104) + 3 * 5) / 4)
    assert without == pytest.approx(5)
    assert interval is None  # of two faces


# The command


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Project:
    """A project with 60 test faces of 3 landmarks, three of whose labels are wrong, and 60 training faces."""
    project = Project(tmp_path_factory.mktemp("suspects"))
    shutil.rmtree(project.folder / "data")
    draw_toy(project.folder / "data/toy", train=60, test=60)
    for split, rows in (("test", (5, 17, 40)), ("train", (3, 30, 50))):
        file = project.folder / f"data/toy/{split}.csv"
        table = pd.read_csv(file)
        table.loc[list(rows), "original_2_x"] += 14.0
        table.to_csv(file, index=False)
    for stage in ("obtain", "fetch", "preprocess"):
        project.stage(stage, "toy")
    return project


WRONG = {"test/test5.png", "test/test17.png", "test/test40.png"}


@pytest.fixture
def predicted(cut, tmp_path, monkeypatch):
    """A copy of the project, this process in it, and a function that writes predictions near the right labels."""
    folder = tmp_path / "project"
    shutil.copytree(cut.folder, folder, symlinks=True)
    monkeypatch.chdir(folder)
    test, _ = read_index(Path("data/crops/toy"), "test")

    def write(name: str, seed: int, faces: Faces = test, **made) -> None:
        submission = Submitted(form="csv", scheme="three", count=3, origin=0, annotation_origin=0)
        made = {"dataset": "toy", "landmarks": [0, 1, 2], "submission": submission} | made
        points = right(faces) + np.random.default_rng(seed).normal(0, 0.4, faces.landmarks.shape)
        points = points[:, made["landmarks"]]
        scores = np.full(points.shape[:2], np.nan)
        path = Path(f"data/predictions/{name}.parquet")
        write_predictions(path, Predictions(faces, points, scores, made=Made(**made)))

    return write


def right(faces: Faces) -> np.ndarray:
    points = faces.landmarks.copy()
    points[np.isin(faces.face_id, [*WRONG, "train/train3.png", "train/train30.png", "train/train50.png"]), 2, 0] -= 14
    return points


def listed(name: str = "toy") -> pd.DataFrame:
    return pd.read_csv(f"reports/label-suspects/{name}.csv")


def test_the_command_lists_wrong_labels_with_a_page_and_pictures(predicted, capsys):
    predicted("one", 1)
    predicted("other", 2)
    label_suspects.main("toy", None, False, 0.1)
    assert "3 of 180 labels are doubtful" in capsys.readouterr().out
    table = listed()
    assert set(table["face_id"]) == WRONG
    assert (table["landmark"] == 2).all()
    assert table["distance_px"].to_numpy() == pytest.approx([14] * 3, abs=2)
    assert {"distance_percent", "spread_percent", "score", "expected_false_share", "group"} <= set(table)
    page = Path("reports/label-suspects/toy.md").read_text()
    assert "3 of 180 annotated landmarks, on 3 faces" in page
    assert "other (other)" in page
    assert (Path("reports/label-suspects") / "toy/suspects-1.jpg").read_bytes().startswith(b"\xff\xd8")
    assert Path("data/label-suspects/toy/suspects-1.jpg").is_file()


def test_pictures_that_may_not_be_shared_stay_out_of_the_reports(predicted):
    predicted("one", 1)
    predicted("other", 2)
    file = Path("params/datasets/toy.yaml")
    file.write_text(file.read_text().replace("share_pictures: true", "share_pictures: false"))
    label_suspects.main("toy", None, False, 0.1)
    assert not Path("reports/label-suspects/toy").exists()
    assert Path("data/label-suspects/toy/suspects-1.jpg").is_file()
    assert "![" not in Path("reports/label-suspects/toy.md").read_text()


def test_experiments_are_one_kind_unless_they_are_said_to_be_unlike(predicted, capsys):
    predicted("first", 1, submission=None)
    predicted("second", 2, submission=None)
    with pytest.raises(
        InputError, match=r"two unlike methods are needed, and there are only those of first, second \(HR"
    ):
        label_suspects.main("toy", None, False, 0.1)
    label_suspects.main("toy", ["first", "second"], True, 0.1)
    assert set(listed()["face_id"]) == WRONG
    predicted("third", 3)
    label_suspects.main("toy", None, False, 0.1)
    assert capsys.readouterr().out.count("(HRNet)") == 1


def test_submissions_of_one_title_are_one_kind_and_those_that_saw_the_test_faces_have_no_vote(predicted):
    about = (
        "about: {title: '%s', trained_on: x, epoch_chosen_on: val, box: image, seen_test_faces: %s}\nfile: {path: x}\n"
    )
    pipeline = Path("params/pipeline.yaml")
    entries = {"mesh-a": ("Mesh, fixed map", "false"), "mesh-b": ("Mesh, other map", "false"), "seen": ("X", "true")}
    for seed, (name, values) in enumerate(entries.items()):
        (Path("params/submissions") / f"{name}.yaml").write_text(about % values)
        predicted(name, seed)
    listed = ", ".join(f"{name}: {{dataset: toy}}" for name in entries)
    pipeline.write_text(pipeline.read_text() + f"submissions: {{{listed}}}\n")
    assert label_suspects.choose_methods("toy", None, False) == {"mesh-a": "Mesh", "mesh-b": "Mesh"}


def test_what_cannot_be_examined_is_named(predicted):
    with pytest.raises(InputError, match="there are none"):
        label_suspects.main("toy", None, False, 0.1)
    predicted("one", 1)
    with pytest.raises(InputError, match=r"no predictions of toy by onne. Did you mean one\?"):
        label_suspects.main("toy", ["one", "onne"], False, 0.1)
    with pytest.raises(InputError, match="toyy"):
        label_suspects.main("toyy", None, False, 0.1)
    predicted("other", 2)
    predicted("elsewhere", 3, dataset="demo")
    with pytest.raises(InputError, match="no predictions of toy by elsewhere"):
        label_suspects.main("toy", ["one", "elsewhere"], False, 0.1)
    table = pq.read_table("data/predictions/other.parquet")
    made = json.dumps(json.loads(table.schema.metadata[b"predictions"]) | {"landmarks": [0, 1, 5]})
    pq.write_table(table.replace_schema_metadata({b"predictions": made}), "data/predictions/other.parquet")
    with pytest.raises(InputError, match="landmark 5: the faces have 3"):
        label_suspects.main("toy", None, False, 0.1)
    assert not Path("reports/label-suspects").exists()


def test_a_method_of_some_landmarks_votes_on_these(predicted):
    predicted("one", 1)
    predicted("other", 2, landmarks=[1, 2])
    label_suspects.main("toy", None, False, 0.1)
    assert set(listed()["face_id"]) == WRONG


def test_cross_fitting_examines_training_faces_by_models_that_have_not_seen_them(predicted, monkeypatch):
    seen = []

    def stand_in(name: str, folder: Path) -> None:
        parts = {split: read_crops(folder / "data/crops/toy", split).faces for split in ("train", "val", "test")}
        seen.append({split: set(faces.face_id) for split, faces in parts.items()})
        assert (folder / "params/pipeline.yaml").is_file()
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            predicted(name, len(seen), parts["test"], submission=None)

    monkeypatch.setattr(label_suspects, "train_and_predict", stand_in)
    label_suspects.cross_fit("toy-tiny", 3, 0.3)
    everything = {face for split in ("train", "val") for face in read_index(Path("data/crops/toy"), split)[0].face_id}
    assert len(everything) == 60
    for fold in seen:
        assert fold["train"] | fold["val"] | fold["test"] == everything
        assert not fold["test"] & (fold["train"] | fold["val"])
    assert set.union(*(fold["test"] for fold in seen)) == everything
    table = listed("toy-train")
    assert {"train/train3.png", "train/train30.png", "train/train50.png"} == set(table["face_id"][:3])
    assert "cannot tell whether" in Path("reports/label-suspects/toy-train.md").read_text()
    assert not list(Path(".training/cross-fit").glob("*"))


# Real faces: LFPW's test split by two networks


@pytest.fixture(scope="module")
def lfpw():
    """Predictions of an HRNet and of SPIGA, the HRNet's instability, the annotation and the normalisers."""
    network = ROOT / "data/predictions/lfpw-modern-128.parquet"
    if not (network.is_file() and SPIGA.is_file()):
        pytest.skip("no predictions of LFPW's test faces here")
    test, _ = read_index(ROOT / "data/crops/lfpw", "test")
    one = read_predictions(network, test)
    submission = reading.read(SPIGA, None, None)
    other = match(submission, test, str(SPIGA)).predicted(submission) + 1
    normaliser = np.hypot(*(test.landmarks[:, 36] - test.landmarks[:, 45]).T)
    return np.stack([one.points, other]), test.landmarks, normaliser, instability(one)


def test_labels_of_real_faces_that_were_moved_are_found(lfpw):
    points, truth, normaliser, moves = lfpw
    before = score(points, truth, normaliser, moves).suspects(0.1)
    labels, moved = moved_labels(truth, normaliser, 10, 40 / truth[..., 0].size, np.random.default_rng(1))
    suspects = score(points, labels, normaliser, moves).suspects(0.1)
    assert moved.sum() == 40
    assert (suspects & moved).sum() >= 24
    assert (suspects & before & ~moved).sum() >= 0.9 * (before & ~moved).sum()


def test_among_right_labels_of_real_faces_the_false_alarms_are_those_stated(lfpw):
    points, truth, normaliser, moves = lfpw
    scores = score(points, truth, normaliser, moves)
    found = simulate(scores, points, truth, normaliser, moves, by=10, share=0.01, false_alarms=0.1, seed=1)
    assert found.recall > 0.5
    assert found.false_alarms <= 0.12
