"""Hidden and absent landmarks are never taken for positions, whichever way the files mark them."""

import numpy as np
import pytest

from stages.config.dataset import CsvForm, PtsForm
from stages.sources import csv_files, pts
from stages.sources.plausibility import position_faults
from stages.sources.visibility import signs_as_visibility, with_visibility

HEADER = "image_name,scale,center_w,center_h,original_0_x,original_0_y,original_1_x,original_1_y,visible_0,visible_1"


def write_pts(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(f"{x} {y}\n" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{body}}}\n")
    path.with_suffix(".jpg").touch()


def read_pts(folder, hidden, count=4):
    form = PtsForm(images=".", train=["a"], test=["b"], hidden=hidden)
    return pts.read(form, folder, None, count, ("train", "test"))


def test_cocos_v_says_what_is_annotated_and_what_is_visible():
    landmarks, visible = with_visibility(np.array([[[1.0, 2], [3, 4], [0, 0]]]), np.array([[2, 1, 0]]))
    assert np.array_equal(landmarks, [[[1, 2], [3, 4], [np.nan, np.nan]]], equal_nan=True)
    assert visible.tolist() == [[True, False, False]]


def test_signs_mark_what_is_hidden_as_in_merl_rav():
    points = np.array([[[10.0, 20], [-30, -40.5], [-1, -1], [-3, 50], [-1, -7]]])
    positions, v = signs_as_visibility(points)
    assert v.tolist() == [[2, 1, 0, 2, 1]]
    assert positions[0, [0, 1, 3, 4]].tolist() == [[10, 20], [30, 40.5], [-3, 50], [1, 7]]


def test_a_pts_file_with_signs_is_read_by_the_parameter(tmp_path):
    write_pts(tmp_path / "a/x.pts", [(10, 20), (-30, -22), (-1, -1), (20, 50)])
    write_pts(tmp_path / "b/y.pts", [(10, 20), (30, 22), (20, 40), (20, 50)])
    faces, faults = read_pts(tmp_path, "negative")
    assert faults == []
    assert faces.visible.tolist() == [[True, False, False, True], [True] * 4]
    assert faces.annotated.tolist() == [[True, True, False, True], [True] * 4]
    assert faces.landmarks[0, 1].tolist() == [30, 22]
    assert (faces.center[0].tolist(), faces.side[0]) == ([20, 35], 30)  # of the annotated landmarks: 10–30, 20–50
    assert position_faults(faces) == []


def test_without_the_parameter_a_marked_file_is_refused_by_face_and_landmark(tmp_path):
    write_pts(tmp_path / "a/x.pts", [(100, 120), (-130, -122), (120, 140), (120, 150)])
    write_pts(tmp_path / "b/y.pts", [(100, 120), (130, 122), (-1, -1), (0, 0)])
    faces, faults = read_pts(tmp_path, "none")
    assert faults == []
    one, other = position_faults(faces)
    assert "face train/a/x.jpg: landmark 1 is at (-130, -122), outside image and face" in one
    assert "face test/b/y.jpg: landmark 2 is at (-1, -1) (and 1 more)" in other
    assert "source.pts.hidden: negative" in one


def test_a_face_of_which_nothing_is_annotated_is_named(tmp_path):
    write_pts(tmp_path / "a/x.pts", [(-1, -1)] * 4)
    write_pts(tmp_path / "b/y.pts", [(10, 20), (30, 22), (20, 40), (20, 50)])
    assert read_pts(tmp_path, "negative")[1] == [
        f"{tmp_path / 'a/x.pts'}: none of its landmarks is annotated. Leave the file out"
    ]


def read_csv(path, *rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return csv_files.read_rows(path, 2)


def test_columns_of_a_csv_file_are_read_as_cocos_v(tmp_path):
    rows = read_csv(tmp_path / "a.csv", "a.jpg,1,2,3,4,5,6,7,2,1", "b.jpg,1,2,3,4,5,,,1,0", "c.jpg,1,2,3,0,0,6,7,0,2")
    assert rows.faults == []
    assert rows.visible.tolist() == [[True, False], [False, False], [False, True]]
    nan = np.nan
    assert np.array_equal(
        rows.landmarks, [[[4, 5], [6, 7]], [[4, 5], [nan, nan]], [[nan, nan], [6, 7]]], equal_nan=True
    )


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("a.jpg,1,2,3,4,5,6,7,2,3", "visible_1 is 3; it is 2 (visible), 1 (hidden) or 0 (not annotated)"),
        ("a.jpg,1,2,3,4,5,6,7,2,", "visible_1 is '', not a number"),
        ("a.jpg,1,2,3,4,5,,7,2,2", "original_1_x is nan, and visible_1 does not say that it is not annotated (0)"),
        ("a.jpg,1,,3,4,5,6,7,2,2", "center_w is '', not a number"),
        ("a.jpg,1,2,3,,,,,0,0", "none of its landmarks is annotated. Leave the row out"),
    ],
)
def test_the_faults_of_these_columns_are_reported_with_their_line(tmp_path, row, fault):
    rows = read_csv(tmp_path / "a.csv", "z.jpg,1,2,3,4,5,6,7,2,2", row)
    assert (rows.images, rows.faults) == (["z.jpg"], [f"{tmp_path / 'a.csv'}, line 3: {fault}"])


def test_one_of_these_columns_needs_all(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER.removesuffix(",visible_1") + "\n")
    assert csv_files.read_rows(tmp_path / "a.csv", 2).faults == [f"{tmp_path / 'a.csv'}: column visible_1 is missing"]


def test_the_rows_of_a_subset_are_found_where_landmarks_are_absent(tmp_path):
    read_csv(tmp_path / "test.csv", "a.jpg,1,2,3,4,5,,,1,0", "a.jpg,1,2,3,4,5,6,7,1,2")
    read_csv(tmp_path / "blur.csv", "a.jpg,1,2,3,4,5,,,1,0")
    form = CsvForm(images="images", train=None, test="test.csv", subsets={"blur": "blur.csv"})
    faces, faults = csv_files.read(form, tmp_path, None, 2, ("test",))
    assert (faults, faces.subsets) == ([], [("blur",), ()])
