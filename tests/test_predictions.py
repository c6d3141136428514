"""The table of predictions: what is written is read back, and what does not match the faces is named and refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.data.faces import Faces
from stages.predictions.table import Made, Predictions, match_faces, read_made, read_predictions, write_predictions
from stages.system.errors import InputError

MADE = Made(
    dataset="toy", landmarks=[2, 0], protocol="exact", flip_test=False, batch=8, input_px=64, box=1.25, model="0" * 32,
    cost={"parameters": 10, "megabytes": 1.5, "gflops": 0.5}, workload="little",
)  # fmt: skip


def predictions(n: int = 4) -> Predictions:
    """Two of three landmarks of n faces."""
    rng = np.random.default_rng(1)
    ids = [f"face {i}" for i in range(n)]
    faces = Faces(ids, ["test"] * n, ids, rng.random((n, 2)), np.ones(n), rng.random((n, 3, 2)), np.ones((n, 3), bool),
                  [()] * n)  # fmt: skip
    points = rng.random((n, 2, 2))
    return Predictions(faces, points, rng.random((n, 2)), {"shift_5": points + 1}, MADE)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "predictions.parquet"


def test_what_is_written_is_read_back_to_the_last_bit(path):
    written = predictions()
    write_predictions(path, written, {"nme": np.arange(4.0)})
    read = read_predictions(path, written.faces)
    np.testing.assert_array_equal(read.points, written.points)
    np.testing.assert_array_equal(read.scores, written.scores)
    np.testing.assert_array_equal(read.perturbed["shift_5"], written.perturbed["shift_5"])
    assert read.made == read_made(path) == MADE
    assert pq.read_table(path)["nme"].to_pylist() == [0, 1, 2, 3]
    first = path.read_bytes()
    write_predictions(path, written, {"nme": np.arange(4.0)})
    assert path.read_bytes() == first


def test_the_truth_is_that_of_the_predicted_landmarks(path):
    written = predictions()
    np.testing.assert_array_equal(written.truth, written.faces.landmarks[:, [2, 0]])


def test_rows_are_put_into_the_order_of_the_faces(path):
    written = predictions()
    write_predictions(path, written)
    read = read_predictions(path, written.faces.where(np.array([3, 1, 0, 2])))
    np.testing.assert_array_equal(read.points, written.points[[3, 1, 0, 2]])
    np.testing.assert_array_equal(read.perturbed["shift_5"], written.perturbed["shift_5"][[3, 1, 0, 2]])


def test_missing_duplicated_and_unknown_faces_are_all_named():
    with pytest.raises(InputError) as error:
        match_faces(["a", "b", "b", "x"], ["a", "b", "c"], "here")
    for fault in ("here: 3 faults", "face c: missing", "face b: duplicated (2 rows)", "face x: not one of the 3 faces"):
        assert fault in str(error.value)


def test_predictions_of_other_faces_are_refused(path):
    write_predictions(path, predictions(3))
    with pytest.raises(InputError, match="face face 3: missing"):
        read_predictions(path, predictions(4).faces)


def test_predictions_of_landmarks_that_the_faces_do_not_have_are_refused(path):
    write_predictions(path, replace(predictions(), made=MADE.model_copy(update={"landmarks": [2, 3]})))
    with pytest.raises(InputError, match="landmark 3: the faces have 3"):
        read_predictions(path, predictions().faces)


def test_a_face_with_another_number_of_coordinates_is_named(path):
    write_predictions(path, predictions())
    table = pq.read_table(path)
    lists = table["landmarks"].to_pylist()
    lists[2] = lists[2][:-1]
    i = table.column_names.index("landmarks")
    pq.write_table(table.set_column(i, "landmarks", pa.array(lists)), path)
    with pytest.raises(InputError, match="face face 2: landmarks: 3 coordinates, and its 2 landmarks need 4"):
        read_predictions(path, predictions().faces)


@pytest.mark.parametrize("metadata", [None, {b"predictions": b"{"}, {b"predictions": b'{"dataset": "toy"}'}])
def test_a_table_that_does_not_say_how_it_was_made_is_refused(path, metadata):
    write_predictions(path, predictions())
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match="does not say how its predictions were made"):
        read_predictions(path, predictions().faces)


def test_a_missing_column_and_a_damaged_file_are_named(path):
    write_predictions(path, predictions())
    pq.write_table(pq.read_table(path).drop_columns(["scores"]), path)
    with pytest.raises(InputError, match="column scores is missing"):
        read_predictions(path, predictions().faces)
    path.write_bytes(b"half of it")
    with pytest.raises(InputError, match=r"predictions.parquet is no readable parquet file"):
        read_made(path)
    with pytest.raises(InputError, match="is missing"):
        read_made(path.with_name("none.parquet"))
