"""A crop shows the part of the image that its transform gives, to a small fraction of a pixel."""

import re

import numpy as np
import pytest

from stages.data import crops
from stages.data.faces import Faces
from stages.data.geometry import apply, flip_order, invert, landmark_box, window_to_image
from stages.system.errors import InputError


@pytest.mark.parametrize("step", [0.31, 0.8, 1.0, 1.7, 2.4, 3.6])
def test_a_crop_samples_the_image_at_the_points_of_its_transform(step):
    y, x = np.mgrid[:256, :256].astype(np.float32)
    image, size = np.stack([x, y, x], -1), 64  # a pixel's colour is its position
    to_image = window_to_image(np.array([[126.3, 128.8]]), np.array([step * size]), size)[0]
    inner = np.stack(np.meshgrid(np.arange(2.0, size - 2), np.arange(2.0, size - 2)), -1)
    expected = apply(to_image[None], inner.reshape(1, -1, 2))[0].reshape(inner.shape)
    np.testing.assert_allclose(crops.cut(image, to_image, size)[2:-2, 2:-2, :2], expected, atol=1e-3)


def test_pixels_outside_the_image_are_black():
    image = np.full((50, 50, 3), 200, np.uint8)
    for side in (64, 400):
        to_image = window_to_image(np.array([[0.0, 0.0]]), np.array([float(side)]), 64)[0]
        cut = crops.cut(image, to_image, 64)
        assert (cut[:20, :20] == 0).all()
        assert (cut[34, 34] == 200).all()
    far = window_to_image(np.array([[9000.0, 0.0]]), np.array([400.0]), 64)[0]
    assert (crops.cut(image, far, 64) == 0).all()


def test_a_transform_and_its_inverse_cancel():
    rng = np.random.default_rng(0)
    matrix, points = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 7, 2))
    np.testing.assert_allclose(apply(invert(matrix), apply(matrix, points)), points, atol=1e-9)


def test_the_landmark_box_is_that_of_the_published_files():
    landmarks = np.array([[[10.2, 20.9], [40.1, 25.0], [12.0, 31.5]]])
    center, side = landmark_box(landmarks)
    np.testing.assert_array_equal(center, [[(10 + 41) / 2, (20 + 32) / 2]])
    np.testing.assert_array_equal(side, [31])


def test_mirroring_swaps_the_landmarks_of_each_pair():
    np.testing.assert_array_equal(flip_order([[0, 2], [3, 4]], 6), [2, 1, 0, 4, 3, 5])


def some_faces(n: int, k: int = 5) -> Faces:
    rng = np.random.default_rng(1)
    return Faces(
        face_id=[f"f{i}" for i in range(n)],
        split=["test"] * n,
        image=["a.png"] * n,
        center=rng.uniform(50, 60, (n, 2)),
        side=rng.uniform(20, 30, n),
        landmarks=rng.uniform(40, 70, (n, k, 2)),
        visible=rng.random((n, k)) < 0.5,
        subsets=[("blur",) if i % 2 else () for i in range(n)],
    )


@pytest.mark.parametrize("n", [0, 3])
def test_a_split_is_read_back_as_it_was_written(tmp_path, n):
    faces = some_faces(n)
    to_image = crops.windows(faces, 32, 2.0)
    crops.write_index(tmp_path / "test.parquet", faces, to_image)
    crops.reserve(tmp_path / "test.npy", n, 32)
    read = crops.read_crops(tmp_path, "test")
    assert (len(read), read.size, read.faces.subsets) == (n, 32, faces.subsets)
    if n:
        assert read.context == pytest.approx(2.0, abs=1e-12)
        np.testing.assert_array_equal(read.faces.visible, faces.visible)
        np.testing.assert_allclose(apply(read.to_image, read.landmarks()), faces.landmarks, atol=1e-9)


def test_an_array_of_another_run_is_refused(tmp_path):
    faces = some_faces(3)
    crops.write_index(tmp_path / "test.parquet", faces, crops.windows(faces, 32, 2.0))
    with pytest.raises(InputError, match="test.npy is missing"):
        crops.read_crops(tmp_path, "test")
    crops.reserve(tmp_path / "test.npy", 2, 32)
    with pytest.raises(InputError, match="not of one run"):
        crops.read_crops(tmp_path, "test")
    (tmp_path / "test.npy").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="no readable array"):
        crops.read_crops(tmp_path, "test")


# ---- boxes and landmarks that cannot be right

SHAPE = (200, 300)  # height, width of the image
FACE = np.array([[120.0, 80], [160, 80], [140, 120]])


def fault(center=(140, 100), side=60.0, landmarks=FACE, context=2.1875):
    window = window_to_image(np.array([center], float), np.array([side * context]), 448)[0]
    return crops.window_fault(window, np.asarray(landmarks, float), 448, context, SHAPE)


@pytest.mark.parametrize(
    "face",
    [
        {},
        {"context": 1.25},
        {"center": (0, 0), "landmarks": FACE - [140, 100]},  # three quarters of it outside
        {"center": (-20, 100), "landmarks": FACE - [160, 0]},
        {"center": (170, 130)},  # half a box off
        {"side": 12.0, "landmarks": [[139, 99], [141, 99], [140, 101]]},
        {"side": 1200.0},  # the face of a person before the camera
        {"landmarks": [*FACE, [-400, 100]]},  # a landmark that leaves the image
        {"landmarks": [*FACE, [np.nan, np.nan]]},
        {"landmarks": [[np.nan, np.nan], [np.nan, np.nan], [140, 120]]},
    ],
)
def test_faces_at_the_border_and_boxes_that_are_odd_are_cut(face):
    assert fault(**face) is None


@pytest.mark.parametrize(
    ("face", "reason"),
    [
        ({"side": 0.002}, "its box is 0.002 px wide, too small for a face"),
        ({"side": 2.9}, "its box is 2.9 px wide, too small for a face"),
        ({"side": 1e308}, "its crop would be inf px wide in an image of 300×200 px"),
        ({"side": 1400.0}, "its crop would be 3062.5 px wide in an image of 300×200 px"),
        ({"center": (140, 700)}, "its box is outside its image of 300×200 px"),
        ({"center": (-31, 100), "landmarks": FACE - [171, 0]}, "its box is outside its image of 300×200 px"),
        ({"center": (331, 100), "landmarks": FACE + [191, 0]}, "its box is outside its image of 300×200 px"),
        ({"landmarks": [*FACE, [1e308, 9]]}, r"its landmark 3 is at \(1e\+308, 9\), far outside its image"),
        ({"landmarks": FACE + [500, 0]}, "none of its landmarks is in its crop"),
        ({"landmarks": [[np.nan, np.nan], [640, 100]]}, "none of its landmarks is in its crop"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_box_or_landmarks_that_cannot_be_right_are_a_fault(face, reason):
    assert re.match(reason, fault(**face))
