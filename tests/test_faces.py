"""The face table: what it accepts, and landmarks that are not annotated."""

import numpy as np
import pytest

from stages.data.faces import Faces, read_faces, read_table, write_faces
from stages.data.geometry import corners, iou, landmark_box, outside_window
from stages.system.errors import InputError


def faces_of(landmarks: np.ndarray) -> Faces:
    n, k, _ = landmarks.shape
    return Faces(
        [f"test/{i}" for i in range(n)], ["test"] * n, [f"{i}.png" for i in range(n)], np.full((n, 2), 5.0),
        np.full(n, 9.0), landmarks, np.isfinite(landmarks).all(-1), [()] * n,
    )  # fmt: skip


def test_a_landmark_that_is_not_annotated_survives_the_file(tmp_path):
    landmarks = np.arange(12, dtype=float).reshape(2, 3, 2)
    landmarks[1, 2] = np.nan
    write_faces(faces_of(landmarks), tmp_path / "faces.parquet")
    read = read_faces(tmp_path / "faces.parquet")
    np.testing.assert_array_equal(read.landmarks, landmarks)
    assert read.annotated.tolist() == [[True] * 3, [True, True, False]]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([np.inf, 1.0], "face test/1: a landmark is infinite, or has one coordinate alone"),
        ([np.nan, 1.0], "face test/1: a landmark is infinite, or has one coordinate alone"),
    ],
)
def test_half_a_landmark_is_refused(value, fault, tmp_path):
    landmarks = np.arange(12, dtype=float).reshape(2, 3, 2)
    landmarks[1, 2] = value
    with pytest.raises(InputError, match=fault):
        write_faces(faces_of(landmarks), tmp_path / "faces.parquet")


def test_a_face_without_an_annotated_landmark_is_refused(tmp_path):
    landmarks = np.arange(12, dtype=float).reshape(2, 3, 2)
    landmarks[0] = np.nan
    with pytest.raises(InputError, match="face test/0: none of its landmarks is annotated"):
        write_faces(faces_of(landmarks), tmp_path / "faces.parquet")


def test_a_landmark_that_is_not_annotated_cannot_be_visible(tmp_path):
    faces = faces_of(np.arange(12, dtype=float).reshape(2, 3, 2))
    faces.landmarks[1, 0] = np.nan
    with pytest.raises(InputError, match="face test/1: a landmark that is not annotated is marked as visible"):
        write_faces(faces, tmp_path / "faces.parquet")


def test_boxes_are_those_of_the_annotated_landmarks():
    landmarks = np.array([[[10.0, 20], [30, 60], [np.nan, np.nan]]])
    center, side = landmark_box(landmarks)
    assert (center.tolist(), side.tolist()) == ([[20, 40]], [40])
    assert outside_window(landmarks, center, side, 0.9).tolist() == [[True, True, False]]


def test_the_overlap_of_boxes_is_intersection_over_union():
    """Squares of 10 px, 5 px apart in x: 50 of 150 px²; one within the other: 25 of 100; apart; two that are none."""
    center = np.array([[5.0, 0.0], [0.0, 0.0], [11.0, 0.0], [0.0, 0.0], [np.nan, 0.0]])
    side = np.array([10, 5, 10, 0, 10])
    overlaps = iou(np.array([[-5.0, -5.0, 5.0, 5.0]]), corners(center, side))
    np.testing.assert_allclose(overlaps, [[1 / 3, 1 / 4, 0, 0, 0]])
    assert iou(np.empty((0, 4)), corners(center, side)).shape == (0, 5)


def test_a_damaged_table_is_refused_by_its_name_whatever_the_damage(tmp_path):
    """Of the library's messages only some name the file: Corrupt snappy compressed data."""
    path, rng, refused = tmp_path / "faces.parquet", np.random.default_rng(0), 0
    write_faces(faces_of(rng.uniform(0, 9, (40, 30, 2))), path)
    whole = path.read_bytes()
    damages = [whole[:-1], whole[:200], b"", b"half of it", bytes(len(whole))]
    for _ in range(700):
        damaged = bytearray(whole)
        place = int(rng.integers(len(whole)))  # the footer is at the end, with the structure
        damaged[place if rng.random() < 0.2 else -1 - place % 1200] ^= 1 << int(rng.integers(8))
        damages.append(bytes(damaged))
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            read_table(path)
        except InputError as error:
            refused += str(path) in str(error)
    assert refused > 50
