"""Faces that cannot be right are refused by name, odd ones are named in a warning, and no real face is either."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.config.dataset import MatForm
from stages.config.schemes import load_dataset_scheme
from stages.data.faces import concatenate
from stages.data.scheme import DatasetScheme
from stages.sources import checks, csv_files, mat
from stages.sources.assemble import split_faces
from stages.sources.plausibility import position_faults, position_warnings

SHARED = Path(__file__).parents[1] / "../shared/data"
needs_samples = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
REAL = {
    "annotations/300w/face_landmarks_300w_valid.csv": "300w",
    "annotations/300w/face_landmarks_300w_test.csv": "300w",
    "annotations/wflw/face_landmarks_wflw_test_attributes_union.csv": "wflw",
    "lfpw/face_landmarks_lfpw_train.csv": "300w",
    "lfpw/face_landmarks_lfpw_test.csv": "300w",
    "samples/wflw/face_landmarks_wflw_test.csv": "wflw",
    "samples/aflw/face_landmarks_aflw_test.csv": "aflw",
    "samples/cofw": "cofw",
}
NORMALISER = {"aflw": "box_side"}


def real_faces(file, scheme, tmp_path):
    if scheme.scheme == "cofw":
        form = MatForm(train="COFW_train_color.mat", test="COFW_test_color.mat")
        return mat.read(form, SHARED / file, tmp_path, scheme.count, ("test",))[0]
    rows = csv_files.read_rows(SHARED / file, scheme.count)
    return split_faces("test", rows.images, rows.landmarks, box=rows.box)


def ten(n=10):
    """Ten test faces of eyes and mouth, 40 px from eye to eye."""
    points = np.tile([[60.0, 80], [100, 80], [80, 120]], (n, 1, 1))
    images = [f"{i}.jpg" for i in range(n)]
    return split_faces("test", images, points, box=(np.full((n, 2), 80.0), np.full(n, 100.0)))


SCHEME = DatasetScheme(
    count=3, flip_pairs=[[0, 1]], groups={}, inter_ocular=[0, 1], scheme="three", normaliser="inter_ocular"
)


@needs_samples
@pytest.mark.parametrize("file", REAL)
def test_no_face_of_a_benchmark_is_refused_or_warned_of(file, tmp_path):
    scheme = load_dataset_scheme(REAL[file], NORMALISER.get(REAL[file], "inter_ocular"), REAL[file])
    faces = real_faces(file, scheme, tmp_path)
    assert checks.face_faults(faces, scheme) == []
    assert checks.face_warnings(faces, scheme) == []


@pytest.mark.parametrize(
    ("face", "fault"),
    [
        ({"landmark": (1, (1e308, 80))}, "landmark 1 is at (1e+308, 80), and no image is that large"),
        (
            {"landmark": (2, (80, 400))},
            "landmark 2 is at (80, 400), more than 2 sides of its box from the box's centre",
        ),
        ({"center": (580, 80)}, "its landmarks are 5.0 sides of its box (100 px) from the box"),
        ({"side": 0.002}, "its box is 0.002 px wide, which shows no face"),
        ({"landmark": (0, (-60, -80))}, "landmark 0 is at (-60, -80), outside image and face"),
        ({"landmark": (2, (0, 0))}, "landmark 2 is at (0, 0), outside image and face"),
    ],
)
def test_a_face_that_cannot_be_right_is_refused_by_name(face, fault):
    faces = ten()
    if "landmark" in face:
        landmark, position = face["landmark"]
        faces.landmarks[3, landmark] = position
    faces.center[3] = face.get("center", faces.center[3])
    faces.side[3] = face.get("side", faces.side[3])
    (message,) = position_faults(faces)
    assert message.startswith(f"face test/3.jpg: {fault}")


def test_an_outlier_of_many_landmarks_is_refused_where_the_box_is_that_of_the_landmarks():
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points = 200 + 50 * np.stack([np.cos(angle), np.sin(angle)], -1)[None]
    assert position_faults(split_faces("test", ["a.jpg"], points)) == []
    points[0, 7] = 200, 4000
    (message,) = position_faults(split_faces("test", ["a.jpg"], points))
    assert message.startswith("face test/a.jpg: landmark 7 is at (200, 4000), far from the face's other landmarks")


def test_a_face_at_the_corner_of_its_image_may_reach_beyond_it():
    faces = ten()
    faces.landmarks -= [75, 90]  # one eye at (-15, -10)
    faces.center -= [75, 90]
    assert position_faults(faces) == []


def test_landmarks_in_another_unit_than_the_box_are_warned_of():
    faces = ten()
    faces.landmarks = faces.landmarks / 200 + 80
    (warning,) = position_warnings(faces)
    assert warning.startswith("faces whose landmarks span less than 5% of their box: 10 (test/0.jpg first)")


def test_a_test_face_whose_normaliser_is_next_to_nothing_is_refused_and_a_short_one_is_warned_of():
    faces = ten()
    faces.landmarks[3, 1] = 60.01, 80
    faces.landmarks[4, 1] = 64, 80
    (fault,) = checks.normaliser_faults(faces, SCHEME)
    assert fault.startswith("face test/3.jpg: landmarks 0 and 1 are 0.01 px apart, so its inter_ocular distance")
    kept = faces.where(np.arange(10) != 3)
    (warning,) = checks.normaliser_warnings(kept, SCHEME)
    assert warning.startswith("test faces whose inter_ocular distance is below 5% of their box: 1 (test/4.jpg: 4.0%)")


def test_a_normaliser_that_needs_an_absent_landmark_is_refused_with_the_remedy():
    faces = ten()
    faces.landmarks[3, 1] = np.nan
    (fault,) = checks.normaliser_faults(faces, SCHEME)
    assert fault.startswith("face test/3.jpg: landmarks [1] are not annotated")
    assert fault.endswith("set landmarks.normaliser: box_side")
    assert checks.normaliser_faults(faces, SCHEME.model_copy(update={"normaliser": "box_side"})) == []
    faces.split = ["train"] * 10
    assert checks.normaliser_faults(faces, SCHEME) == []


def test_a_normaliser_that_is_not_the_official_one_refuses_nothing():
    """Two landmarks at one height: the box of the landmarks has no area, the distance of the eyes is sound."""
    faces = ten()
    flat = replace(faces, landmarks=faces.landmarks[:, :2], visible=faces.visible[:, :2])
    scheme = SCHEME.model_copy(update={"count": 2, "inter_pupil": [[0], [0]]})
    assert checks.face_faults(flat, scheme) == []


def test_duplicated_faces_and_test_faces_of_train_are_counted():
    faces = ten()
    faces.image[1] = faces.image[0]
    assert checks.duplicate_warnings(faces) == [
        "duplicated faces (same image, landmarks and box) in test: 1 (0.jpg first)"
    ]
    train = ten(n=4)
    train.landmarks += 1
    train.landmarks[2] -= 1
    train.split = ["train"] * 4
    both = concatenate([train, ten()])
    assert checks.duplicate_warnings(both) == [
        "test faces that are in train too (same image and landmarks): 1 (test/2.jpg first); "
        "results on them are optimistic"
    ]
