"""Malformed and hostile .mat files: one fault that names the file and the face, nothing read from elsewhere."""

import os
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from stages.config.dataset import MatForm
from stages.sources import mat

IMAGE = np.arange(600, dtype=np.uint8).reshape(3, 20, 10)
POINTS = np.arange(12.0).reshape(6, 2) + 1  # two faces of two landmarks
REFERENCES = "#refs#"


@pytest.fixture
def make(tmp_path):
    """Gives `faults(change)`: those of a sound file of two faces after `change(file)` has spoilt it."""
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        cells = file.create_dataset("IsT", (1, 2), h5py.ref_dtype)
        for i in range(2):
            cells[0, i] = file.create_dataset(f"{REFERENCES}/{i}", data=IMAGE).ref
        file["phisT"] = POINTS

    def faults(change=lambda file: None):
        with h5py.File(path, "r+") as file:
            change(file)
        faces, reported = mat.read(MatForm(train=None, test="a.mat"), tmp_path, tmp_path, 2, ("test",))
        assert all(fault.startswith(str(path)) for fault in reported)
        return len(faces), [fault.removeprefix(str(path)) for fault in reported]

    return faults


def replaced(name, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, **options)

    return change


def second_image(**options):
    """The image of face 2 is another dataset."""

    def change(file):
        file["IsT"][0, 1] = file.create_dataset("other", **options).ref

    return change


def regions(file):
    replaced("IsT", shape=(1, 2), dtype=h5py.regionref_dtype)(file)
    file["IsT"][0, 0] = file["phisT"].regionref[:2]


def refer(reference):
    def change(file):
        file["IsT"][0, 1] = reference(file)

    return change


def test_a_sound_file_has_no_fault(make, tmp_path):
    assert make() == (2, [])
    assert np.array_equal(cv2.imread(str(tmp_path / "images/test/0002.png"))[..., ::-1], IMAGE.T)


def test_whole_numbers_are_landmarks_too(make):
    assert make(replaced("phisT", data=POINTS.astype(np.int16))) == (2, [])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (replaced("IsT", data=np.zeros((1, 2))), ": IsT is not a cell array of images"),
        (replaced("IsT", data=["a", "b"]), ": IsT is not a cell array of images"),
        (regions, ": IsT is not a cell array of images"),
        (replaced("phisT", data=["one"] * 12), ": phisT is object, not numbers"),
        (replaced("phisT", data=POINTS.astype("S4")), ": phisT is |S4, not numbers"),
        (replaced("phisT", data=POINTS.astype(complex)), ": phisT is complex128, not numbers"),
        (replaced("phisT", data=np.zeros(2, [("x", float)])), ": phisT is [('x', '<f8')], not numbers"),
        (replaced("phisT", data=POINTS[None]), ": phisT is 2×6×1, and 2 images of 2 landmarks need 2×6"),
        (replaced("phisT", data=3.0), ": phisT is , and 2 images"),
        (replaced("phisT", data=h5py.Empty("f8")), ": variable phisT is empty"),
        (replaced("IsT", data=h5py.Empty("f8")), ": variable IsT is empty"),
        (replaced("phisT", shape=(6, 10**12), dtype="f8", chunks=(6, 1000)), ": variable phisT claims"),
        (replaced("IsT", shape=(1, 10**12), dtype=h5py.ref_dtype, chunks=(1, 1000)), ": variable IsT claims"),
        (lambda file: file.move("phisT", "x") or file.create_group("phisT"), ": variable phisT is missing"),
        (lambda file: file.move("phisT", "x") or file.update({"phisT": np.dtype("f8")}), ": variable phisT is missing"),
    ],
)  # fmt: skip
def test_a_malformed_variable_is_one_fault(make, change, fault):
    n, reported = make(change)
    assert n == 0
    assert len(reported) == 1
    assert reported[0].startswith(fault)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (second_image(data=IMAGE.astype(np.uint16)), "its image is uint16 of shape (3, 20, 10), not bytes"),
        (second_image(data=IMAGE[:2]), "its image is uint8 of shape (2, 20, 10), not bytes"),
        (second_image(data=IMAGE[None]), "its image is uint8 of shape (1, 3, 20, 10), not bytes"),
        (second_image(data=np.uint8(3)), "its image is uint8 of shape (), not bytes"),
        (second_image(data="a photograph"), "its image is object of shape (), not bytes"),
        (second_image(data=h5py.Empty("u1")), "its image is uint8 of shape None, not bytes"),
        (second_image(data=IMAGE[:, :0]), "its image has zero size"),
        (second_image(shape=(3, 10**6, 10**6), dtype="u1", chunks=(1, 1000, 1000)), "its image claims 3×1000000×"),
        (second_image(shape=(20000, 20000), dtype="u1"), "its image claims 20000×20000 values, and the file does not"),
        (refer(lambda file: file.create_group("group").ref), "its cell holds no image"),
        (refer(lambda file: file.ref), "its cell holds no image"),
        (refer(lambda file: h5py.Reference()), "its cell holds no image"),
    ],
)  # fmt: skip
def test_a_malformed_cell_is_a_fault_of_its_face(make, change, fault):
    n, reported = make(change)
    assert n == 1
    assert len(reported) == 1
    assert reported[0].startswith(f", face 2: {fault}")


def test_an_empty_cell_as_matlab_writes_it_is_a_fault_of_its_face(make):
    def change(file):
        empty = file.create_dataset("empty", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        file["IsT"][0, 1] = empty.ref

    assert make(change) == (1, [", face 2: its image has zero size"])


def test_data_that_need_a_filter_which_is_absent_are_a_fault_of_their_face(make):
    def change(file):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((3, 20, 10))
        properties.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
        space, kind = h5py.h5s.create_simple((3, 20, 10)), h5py.h5t.NATIVE_UINT8
        dataset = h5py.h5d.create(file.id, b"filtered", kind, space, properties)
        dataset.write_direct_chunk((0, 0, 0), IMAGE.tobytes())
        file["IsT"][0, 1] = h5py.Dataset(dataset).ref

    n, reported = make(change)
    assert n == 1
    assert [fault.split(" (")[0] for fault in reported] == [", face 2: its image cannot be read"]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_truncated_file_is_one_fault(make, tmp_path, kept):
    assert make()[0] == 2
    whole = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(whole[: int(kept * len(whole))])
    faces, reported = mat.read(MatForm(train=None, test="a.mat"), tmp_path, tmp_path, 2, ("test",))
    assert len(faces) == 0
    assert len(reported) == 1
    assert f"{tmp_path / 'a.mat'}: it is damaged" in reported[0]


def test_damage_anywhere_in_a_file_never_ends_in_another_error(make, tmp_path):
    make()
    path, rng = tmp_path / "a.mat", np.random.default_rng(0)
    whole, seen = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(whole)
        start = int(rng.integers(0, min(len(whole), 6000)))
        damaged[start : start + 8] = rng.integers(0, 256, 8, np.uint8).tobytes()
        path.write_bytes(damaged)
        _, reported = mat.read(MatForm(train=None, test="a.mat"), tmp_path, tmp_path, 2, ("test",))
        seen += bool(reported)
    assert seen > 10


# ---- data that are elsewhere


@pytest.fixture
def secret(tmp_path) -> Path:
    """Files that no .mat file may read: bytes, and an HDF5 file with variables of the right form."""
    (tmp_path / "secret").write_bytes(b"password" * 100)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["image"], file["phisT"] = IMAGE, POINTS
    return tmp_path / "secret"


def test_external_storage_is_not_read(make, secret, tmp_path):
    stored = {"shape": (20, 10), "dtype": "u1", "external": [(str(secret), 0, 200)]}
    assert make(second_image(**stored)) == (1, [", face 2: its image has its data in another file, which is not read"])
    assert sorted(os.listdir(tmp_path / "images/test")) == ["0001.png"]


def test_landmarks_of_external_storage_are_not_read(make, secret):
    stored = {"shape": (6, 2), "dtype": "f8", "external": [(str(secret), 0, 96)]}
    fault = ": variable phisT has its data in another file, which is not read"
    assert make(replaced("phisT", **stored)) == (0, [fault])


def test_a_virtual_dataset_is_not_read(make, secret):
    def change(file):
        layout = h5py.VirtualLayout((3, 20, 10), np.uint8)
        layout[:] = h5py.VirtualSource(f"{secret}.h5", "image", (3, 20, 10))
        file["IsT"][0, 1] = file.create_virtual_dataset("virtual", layout).ref

    assert make(change) == (1, [", face 2: its image has its data in another file, which is not read"])


@pytest.mark.parametrize("name", ["IsT", "phisT"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_link_out_of_the_file_is_not_followed(make, secret, name, soft):
    def change(file):
        del file[name]
        if soft:
            file["out"] = h5py.ExternalLink(f"{secret}.h5", "/")
            file[name] = h5py.SoftLink(f"/out/{name}")
        else:
            file[name] = h5py.ExternalLink(f"{secret}.h5", name)

    assert make(change) == (0, [f": variable {name} is a link to elsewhere, which is not followed"])


def test_a_link_to_a_fifo_is_not_opened(make, tmp_path):
    os.mkfifo(tmp_path / "fifo")

    def change(file):
        del file["phisT"]
        file["phisT"] = h5py.ExternalLink(str(tmp_path / "fifo"), "phisT")

    assert make(change)[1] == [": variable phisT is a link to elsewhere, which is not followed"]
