"""The notebooks' tables against hand-counted figures and pandas; their figures show the values they were given."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.data.faces import Faces
from stages.data.geometry import in_boxes
from stages.model import augment
from stages.reporting import exploration
from stages.system.errors import InputError


def faces(subsets: list[tuple[str, ...]]) -> Faces:
    """Faces of two landmarks whose boxes have side 10 and centre (20, 30)."""
    n = len(subsets)
    return Faces(
        face_id=[f"f{i}" for i in range(n)], split=["test"] * n, image=["i.png"] * n,
        center=np.full((n, 2), [20.0, 30.0]), side=np.full(n, 10.0),
        landmarks=np.tile([[20.0, 30.0], [25.0, 28.0]], (n, 1, 1)), visible=np.ones((n, 2), bool), subsets=subsets,
    )  # fmt: skip


def test_a_face_is_counted_in_each_of_its_subsets():
    counts = exploration.face_counts({"train": faces([()]), "test": faces([("blur", "pose"), ("blur",), ()])})
    assert counts.to_dict("index") == {
        "all faces": {"train": 1, "test": 3},
        "blur": {"train": 0, "test": 2},
        "pose": {"train": 0, "test": 1},
    }


def test_shapes_are_measured_from_the_centre_of_the_box_in_its_sides():
    table = faces([()])
    assert in_boxes(table.landmarks, table.center, table.side).tolist() == [[[0, 0], [0.5, -0.2]]]


def test_the_percentiles_of_errors_are_errors_that_occur():
    errors = np.arange(1.0, 101).reshape(10, 10)
    summary = exploration.error_summary({"all": errors, "none": errors[:0]})
    assert summary.loc["all"].to_dict() == {"n": 100, "mean": 50.5, "P50": 50, "P90": 90, "P95": 95, "P99": 99}
    assert summary.loc["none", "n"] == 0
    assert summary.loc["none", "mean":].isna().all()
    infinite = exploration.error_summary({"a": np.array([1.0, 2, 3, np.inf])}).loc["a"]
    assert (infinite["mean"], infinite["P50"], infinite["P99"]) == (np.inf, 2, np.inf)


def test_values_that_are_not_known_are_left_out():
    """As of landmarks that are not annotated."""
    rng = np.random.default_rng(7)
    x, y = rng.uniform(0, 1, 200), rng.lognormal(0, 1, 200)
    holes = np.arange(200) % 3 == 0
    x_holes, y_holes = np.where(holes & (np.arange(200) % 2 == 0), np.nan, x), np.where(holes, np.nan, y)
    pd.testing.assert_frame_equal(
        exploration.binned_quartiles(x_holes, y_holes, 4), exploration.binned_quartiles(x[~holes], y[~holes], 4)
    )
    pd.testing.assert_frame_equal(
        exploration.error_summary({"a": y_holes.reshape(20, 10)}), exploration.error_summary({"a": y[~holes]})
    )
    line = exploration.cumulative_distribution({"a": y_holes}, "error").axes[0].lines[0]
    assert line.get_label() == f"a ({(~holes).sum()})"
    assert line.get_ydata()[-1] == pytest.approx(100)
    shape, values = rng.normal(size=(20, 2)), np.where(np.arange(20) > 15, np.nan, np.arange(20.0))
    shape[19] = np.nan
    figure = exploration.mean_face(shape, values, "error")
    assert [text.get_text() for text in figure.axes[0].texts] == ["15", "14", "13", "12", "11"]
    for drawn in (figure, exploration.error_scatter(x_holes, y_holes, "size")):
        drawn.draw_without_rendering()


def test_bins_have_equally_many_values_and_the_quartiles_of_them():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 1, 1000), rng.lognormal(0, 1, 1000)
    bins = exploration.binned_quartiles(x, y, 4)
    groups = pd.DataFrame({"x": x, "y": y}).groupby(pd.qcut(x, 4), observed=True)
    assert bins["n"].tolist() == [250] * 4
    np.testing.assert_allclose(bins["x"], groups["x"].mean())
    for column, rank in (("P25", 63), ("P50", 125), ("P75", 188)):  # the smallest numbers of 250 with that share
        assert bins[column].tolist() == [sorted(group)[rank - 1] for _, group in groups["y"]]


def test_equal_values_stay_in_one_bin():
    assert exploration.binned_quartiles(np.ones(20), np.arange(20.0))["n"].tolist() == [20]
    mostly_equal = np.concatenate([np.linspace(0, 90, 8), np.full(12, 100.0)])
    bins = exploration.binned_quartiles(mostly_equal, np.arange(20.0))
    assert bins["n"].sum() == 20
    assert bins["n"].iloc[-1] >= 12


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


def test_finished_runs_are_sorted_newest_first():
    assert exploration.finished_runs(RUNS, ["a", "b"]).index.tolist() == ["a-2", "b-1", "a-1"]
    assert exploration.finished_runs(RUNS, ["b"]).index.tolist() == ["b-1"]


@pytest.mark.parametrize("runs", [RUNS, RUNS.iloc[:0], pd.DataFrame()])
def test_an_experiment_without_a_finished_run_is_named(runs):
    with pytest.raises(InputError, match="experiment c: no finished run"):
        exploration.finished_runs(runs, ["c"])


def test_only_parameters_that_differ_between_runs_are_shown():
    differing = exploration.differing_parameters(exploration.finished_runs(RUNS, ["a", "b"]))
    assert differing.T.to_dict() == {
        "train.lr": {"a-2": "0.1", "b-1": "0.2", "a-1": "0.1"},
        "code": {"a-2": "y", "b-1": "x", "a-1": "x"},
    }
    assert exploration.differing_parameters(exploration.finished_runs(RUNS, ["b"])).empty
    weights = RUNS.assign(**{"tags.initial_weights": ["w", "w", "v", "u"], "tags.host": list("hijk")})
    differing = exploration.differing_parameters(exploration.finished_runs(weights, ["a"]))
    assert differing.index.tolist() == ["code", "initial_weights"]


def test_the_input_of_the_network_is_shown_as_the_original_pixels():
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    normalised = augment.normalise(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    assert (exploration.pixels(normalised.numpy(), augment.MEAN, augment.STD) == images).all()


def test_a_group_has_one_colour_and_landmarks_of_no_group_are_grey():
    assert exploration.group_colours({"eyes": [0, 2], "mouth": [3]}, 5) == [
        exploration.PALETTE[0], exploration.GREY, exploration.PALETTE[0], exploration.PALETTE[1], exploration.GREY,
    ]  # fmt: skip


def test_occluded_landmarks_are_hollow_and_missing_ones_are_not_drawn():
    points = np.array([[[1.0, 2.0], [3.0, 4.0], [np.nan, np.nan]]])
    visible = np.array([[True, False, True]])
    figure = exploration.annotated_faces(np.zeros((1, 8, 8, 3), np.uint8), points, {"eyes": [0, 1]}, ["face"], visible)
    dots = figure.axes[0].collections[1]
    assert np.ma.getdata(dots.get_offsets())[:2].tolist() == [[1, 2], [3, 4]]
    assert dots.get_facecolor()[:, 3].tolist()[:2] == [1, 0]
    figure.draw_without_rendering()


def test_the_landmarks_of_the_highest_values_are_labelled_on_the_mean_face():
    shape = np.random.default_rng(5).normal(size=(20, 2))
    figure = exploration.mean_face(shape, np.arange(20.0), "error")
    assert [text.get_text() for text in figure.axes[0].texts] == ["19", "18", "17", "16", "15"]
    assert figure.axes[0].collections[0].get_offsets().tolist() == shape.tolist()


def test_figures_can_be_drawn_with_faces_without_a_prediction():
    nme = np.array([3.0, 4.0, np.inf, 8.0])
    for figure in (
        exploration.error_scatter(np.arange(4.0), nme, "size"),
        exploration.paired_scatter(nme, nme[::-1], ("a", "b")),
        exploration.cumulative_distribution({"train": np.arange(4.0), "val": np.empty(0)}, "side"),
        exploration.training_curves({"val/nme": {"a": [(2, 4.0), (1, 5.0)], "b": []}}),
    ):
        figure.draw_without_rendering()


def test_training_curves_are_drawn_in_the_order_of_epochs():
    figure = exploration.training_curves({"val/nme": {"a": [(3, 4.0), (1, 6.0), (2, 5.0)]}})
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 6], [2, 5], [3, 4]]


def test_the_paired_scatter_shows_on_what_share_of_faces_the_second_is_better():
    figure = exploration.paired_scatter(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 2, 3]), ("a", "b"))
    assert "b is better: 75 %" in figure.axes[0].get_title()
