"""The notebooks' tables against counts made by hand and by pandas; their figures hold what they were given."""

import numpy as np
import pandas as pd
import pytest

from stages.data.faces import Faces
from stages.errors import InputError
from stages.measure import explore
from stages.model import augment


def faces(subsets: list[tuple[str, ...]]) -> Faces:
    """Faces with boxes of side 10 about (20, 30) and two landmarks."""
    n = len(subsets)
    return Faces(
        face_id=[f"f{i}" for i in range(n)], split=["test"] * n, image=["i.png"] * n,
        center=np.full((n, 2), [20.0, 30.0]), side=np.full(n, 10.0),
        landmarks=np.tile([[20.0, 30.0], [25.0, 28.0]], (n, 1, 1)), visible=np.ones((n, 2), bool), subsets=subsets,
    )  # fmt: skip


def test_a_face_counts_in_each_of_its_subsets():
    found = explore.counts({"train": faces([()]), "test": faces([("blur", "pose"), ("blur",), ()])})
    assert found.to_dict("index") == {
        "all faces": {"train": 1, "test": 3},
        "blur": {"train": 0, "test": 2},
        "pose": {"train": 0, "test": 1},
    }


def test_shapes_are_in_sides_of_the_box_from_its_middle():
    assert explore.shapes(faces([()])).tolist() == [[[0, 0], [0.5, -0.2]]]


def test_the_spread_of_errors_tells_values_that_occur():
    errors = np.arange(1.0, 101).reshape(10, 10)
    found = explore.spread({"all": errors, "none": errors[:0]})
    assert found.loc["all"].to_dict() == {"n": 100, "mean": 50.5, "P50": 50, "P90": 90, "P95": 95, "P99": 99}
    assert found.loc["none", "n"] == 0
    assert found.loc["none", "mean":].isna().all()
    lost = explore.spread({"a": np.array([1.0, 2, 3, np.inf])}).loc["a"]
    assert (lost["mean"], lost["P50"], lost["P99"]) == (np.inf, 2, np.inf)


def test_bins_hold_equally_many_values_and_their_quartiles():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 1, 1000), rng.lognormal(0, 1, 1000)
    found = explore.bins(x, y, 4)
    groups = pd.DataFrame({"x": x, "y": y}).groupby(pd.qcut(x, 4), observed=True)
    assert found["n"].tolist() == [250] * 4
    np.testing.assert_allclose(found["x"], groups["x"].mean())
    for column, place in (("P25", 63), ("P50", 125), ("P75", 188)):  # so many of 250 are at least that share
        assert found[column].tolist() == [sorted(group)[place - 1] for _, group in groups["y"]]


def test_equal_values_stay_in_one_bin():
    assert explore.bins(np.ones(20), np.arange(20.0))["n"].tolist() == [20]
    mostly_whole = np.concatenate([np.linspace(0, 90, 8), np.full(12, 100.0)])
    found = explore.bins(mostly_whole, np.arange(20.0))
    assert found["n"].sum() == 20
    assert found["n"].iloc[-1] >= 12


RUNS = pd.DataFrame(
    [
        ("a-1", "a", "FINISHED", 1, "0.1", "8", "x"),
        ("b-1", "b", "FINISHED", 2, "0.2", "8", "x"),
        ("a-2", "a", "FINISHED", 3, "0.1", "8", "y"),
        ("a-3", "a", "KILLED", 4, "0.3", "8", "x"),
    ],
    columns=[
        "tags.mlflow.runName", "tags.experiment", "status", "start_time", "params.train.lr", "params.train.batch",
        "tags.code",
    ],
)  # fmt: skip


def test_the_finished_runs_of_experiments_come_newest_first():
    assert explore.runs_of(RUNS, ["a", "b"]).index.tolist() == ["a-2", "b-1", "a-1"]
    assert explore.runs_of(RUNS, ["b"]).index.tolist() == ["b-1"]


@pytest.mark.parametrize("runs", [RUNS, RUNS.iloc[:0], pd.DataFrame()])
def test_an_experiment_without_a_finished_run_is_named(runs):
    with pytest.raises(InputError, match="experiment c: no finished run"):
        explore.runs_of(runs, ["c"])


def test_only_what_differs_between_runs_is_shown():
    found = explore.differing(explore.runs_of(RUNS, ["a", "b"]))
    assert found.T.to_dict() == {
        "train.lr": {"a-2": "0.1", "b-1": "0.2", "a-1": "0.1"},
        "code": {"a-2": "y", "b-1": "x", "a-1": "x"},
    }
    assert explore.differing(explore.runs_of(RUNS, ["b"])).empty


def test_what_the_network_reads_is_shown_as_it_was():
    import torch

    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    read = augment.normalise(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    assert (explore.pixels(read.numpy(), augment.MEAN, augment.STD) == images).all()


def test_a_group_has_one_colour_and_a_landmark_of_no_group_is_grey():
    assert explore.colours({"eyes": [0, 2], "mouth": [3]}, 5) == [
        explore.PALETTE[0], explore.GREY, explore.PALETTE[0], explore.PALETTE[1], explore.GREY,
    ]  # fmt: skip


def test_hidden_landmarks_are_hollow_and_those_without_a_place_are_not_drawn():
    points = np.array([[[1.0, 2.0], [3.0, 4.0], [np.nan, np.nan]]])
    visible = np.array([[True, False, True]])
    figure = explore.annotated(np.zeros((1, 8, 8, 3), np.uint8), points, {"eyes": [0, 1]}, ["face"], visible)
    dots = figure.axes[0].collections[1]
    assert np.ma.getdata(dots.get_offsets())[:2].tolist() == [[1, 2], [3, 4]]
    assert dots.get_facecolor()[:, 3].tolist()[:2] == [1, 0]
    figure.draw_without_rendering()


def test_the_mean_face_names_its_highest_landmarks():
    shape = np.random.default_rng(5).normal(size=(20, 2))
    figure = explore.mean_face(shape, np.arange(20.0), "error")
    assert [text.get_text() for text in figure.axes[0].texts] == ["19", "18", "17", "16", "15"]
    assert figure.axes[0].collections[0].get_offsets().tolist() == shape.tolist()


def test_faces_without_a_prediction_leave_the_figures_drawable():
    nme = np.array([3.0, 4.0, np.inf, 8.0])
    for figure in (
        explore.against(np.arange(4.0), nme, "size"),
        explore.paired(nme, nme[::-1], ("a", "b")),
        explore.distribution({"train": np.arange(4.0), "val": np.empty(0)}, "side"),
        explore.courses({"val/nme": {"a": [(2, 4.0), (1, 5.0)], "b": []}}),
    ):
        figure.draw_without_rendering()


def test_a_training_is_drawn_in_the_order_of_its_epochs():
    figure = explore.courses({"val/nme": {"a": [(3, 4.0), (1, 6.0), (2, 5.0)]}})
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 6], [2, 5], [3, 4]]


def test_the_paired_figure_says_on_how_many_faces_the_second_is_better():
    figure = explore.paired(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 2, 3]), ("a", "b"))
    assert "b is better: 75 %" in figure.axes[0].get_title()
