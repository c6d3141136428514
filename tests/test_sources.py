"""Readers: every published format gives the same face table, and every fault is reported with file and line."""

import csv
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from stages.config.dataset import CsvForm, ListsForm, MatForm, PtsForm, Source
from stages.config.experiment import load_dataset
from stages.config.schemes import load_scheme
from stages.data.geometry import landmark_box
from stages.importing import pts_folder
from stages.sources import csv_files, lists, mat, pts, readers
from stages.sources.assemble import find_faces, split_faces
from stages.sources.images import location
from stages.sources.images.reading import read_image
from stages.submissions.reading import read as read_submission
from stages.system.errors import InputError

SHARED = Path(__file__).parents[1] / "../shared/data"
ANNOTATIONS, SAMPLES = SHARED / "annotations", SHARED / "samples"
needs_samples = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
ATTRIBUTES = ["largepose", "expression", "illumination", "makeup", "occlusion", "blur"]
BOTH = ("train", "test")


def write_csv(path, faces, count=3, header=None, **columns):
    """Rows of (image, scale, x0, y0, …) in HRNet's format."""
    names = ["image_name", "scale", *columns, "center_w", "center_h"]
    points = [f"original_{i}_{axis}" for i in range(count) for axis in "xy"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header or names + points)
        for image, scale, *numbers in faces:
            writer.writerow([image, scale, *(value for value in columns.values()), 5, 6, *numbers])
    return path


def form(**fields):
    return CsvForm(**{"images": "images", "train": None, "test": "test.csv"} | fields)


# ---- HRNet's CSV format


@needs_samples
@pytest.mark.parametrize(
    ("file", "count", "n"),
    [
        ("annotations/300w/face_landmarks_300w_valid.csv", 68, 689),
        ("annotations/300w/face_landmarks_300w_test.csv", 68, 600),
        ("annotations/wflw/face_landmarks_wflw_test_attributes_union.csv", 98, 1966),
        ("samples/aflw/face_landmarks_aflw_test.csv", 19, 2),
    ],
)
def test_every_published_row_is_read_unchanged(file, count, n):
    rows = csv_files.read_rows(SHARED / file, count)
    assert (rows.faults, len(rows.images)) == ([], n)
    with open(SHARED / file, newline="") as stream:
        published = list(csv.DictReader(stream))
    for i in range(0, n, 37):
        assert rows.images[i] == published[i]["image_name"]
        assert rows.box[0][i].tolist() == [float(published[i]["center_w"]), float(published[i]["center_h"])]
        assert rows.box[1][i] == pytest.approx(200 * float(published[i]["scale"]), abs=1e-9)
        assert rows.landmarks[i, count - 1, 1] == float(published[i][f"original_{count - 1}_y"])
    if count == 19:
        assert list(rows.extra["box_size"]) == list(rows.box[1]) == [float(row["box_size"]) for row in published]


@needs_samples
@pytest.mark.parametrize("file", ["valid", "test"])
def test_the_box_of_the_landmarks_is_the_published_box_to_the_last_bit(file):
    rows = csv_files.read_rows(ANNOTATIONS / f"300w/face_landmarks_300w_{file}.csv", 68)
    center, side = landmark_box(rows.landmarks)
    assert np.array_equal(center, rows.box[0])
    assert np.array_equal(side, rows.box[1])


@needs_samples
def test_the_subsets_of_300w_are_the_rows_of_their_files():
    source = load_dataset("300w", "source").source
    faces, faults = csv_files.read(source.csv, ANNOTATIONS / "300w", None, 68, ("test",))
    assert (faults, len(faces)) == ([], 689)
    for face, image, subset in zip(faces.face_id, faces.image, faces.subsets, strict=True):
        assert face == f"test/{image}"
        assert subset == (("challenge",) if image.startswith("ibug/") else ("common",))


@needs_samples
def test_twenty_thousand_rows_parse_in_two_seconds(tmp_path):
    head, *rows = (ANNOTATIONS / "300w/face_landmarks_300w_valid.csv").read_text().splitlines()
    (tmp_path / "many.csv").write_text("\n".join([head, *(rows[i % len(rows)] for i in range(20000))]))
    start = time.process_time()  # of this process, however busy the cores are
    assert len(csv_files.read_rows(tmp_path / "many.csv", 68).images) == 20000
    assert time.process_time() - start < 2


def test_columns_are_recognised_by_name(tmp_path):
    (tmp_path / "a.csv").write_text(
        '\ufefforiginal_0_x,center_h,image_name,scale,center_w,original_0_y\n1,2,"a, b.jpg",0.5,4,5\n\n', "utf-8"
    )
    rows = csv_files.read_rows(tmp_path / "a.csv", 1)
    assert (rows.images, rows.faults) == (["a, b.jpg"], [])
    assert rows.landmarks.tolist() == [[[1, 5]]]
    assert (rows.box[0].tolist(), rows.box[1].tolist()) == ([[4, 2]], [100])


def test_all_faults_of_a_csv_file_are_reported_with_their_lines(tmp_path):
    good = ["a.jpg", 1, 1, 2, 3, 4, 5, 6]
    rows = [good, ["b.jpg", 1, 1, 2, "left", 4, 5, 6], ["c.jpg", 1, 1, 2, "nan", 4, 5, 6], good,
            ["d.jpg", 1, 1, 2, 3, "inf", 5, 6], ["e.jpg", 0, 1, 2, 3, 4, 5, 6], ["f.jpg", -2, 1, 2, 3, 4, 5, 6],
            ["g.jpg", 1, 1, 2, 3], ["h.jpg", 1, 1, 2, 3, 4, 5, ""], good]  # fmt: skip
    path = write_csv(tmp_path / "a.csv", rows)
    parsed = csv_files.read_rows(path, 3)
    assert parsed.lines == [2, 5, 11]
    assert sorted(parsed.faults) == sorted([
        f"{path}, line 3: original_1_x is 'left', not a number",
        f"{path}, line 4: original_1_x is nan",
        f"{path}, line 6: original_1_y is inf",
        f"{path}, line 7: scale is 0, so the face's box has no size",
        f"{path}, line 8: scale is -2, so the face's box has no size",
        f"{path}, line 9: 7 fields, and the header has 10",
        f"{path}, line 10: original_2_y is '', not a number",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("image_name,center_w,center_h,original_0_x,original_0_y", "column scale is missing"),
        ("image_name,scale,center_w,center_h,original_0_x", "column original_0_y is missing"),
        ("image_name,scale,center_w,center_h,original_0_x,original_0_y,age", "unknown column 'age'"),
        ("image_name,scale,scale,center_w,center_h,original_0_x,original_0_y", "a column of its header is duplicated"),
        (
            "image_name,scale,center_w,center_h,original_0_x,original_0_y,original_1_x,original_1_y",
            "it has 2 landmarks per face, and the dataset's scheme (params/schemes) has 1",
        ),
        ("", "it is empty"),
    ],
)
def test_a_wrong_header_is_reported(tmp_path, header, reason):
    (tmp_path / "a.csv").write_text(header)
    rows = csv_files.read_rows(tmp_path / "a.csv", 1)
    assert not rows.images
    assert any(reason in fault for fault in rows.faults)


def test_a_file_that_is_not_csv_is_reported(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xd8")
    assert "it is not a CSV file" in csv_files.read_rows(tmp_path / "a.csv", 1).faults[0]


def test_a_box_size_that_contradicts_the_scale_is_reported(tmp_path):
    path = write_csv(tmp_path / "a.csv", [["a.jpg", 1, 0, 0]], 1, box_size=150)
    assert csv_files.read_rows(path, 1).faults == [f"{path}, line 2: box_size is 150, and 200 × scale is 200"]


def test_duplicated_faces_are_matched_one_by_one_with_the_rows_of_a_subset(tmp_path):
    face, other = ["a.jpg", 1, 1, 2, 3, 4, 5, 6], ["a.jpg", 1, 9, 9, 8, 8, 7, 7]
    write_csv(tmp_path / "test.csv", [face, other, face])
    write_csv(tmp_path / "twice.csv", [face, face])
    write_csv(tmp_path / "once.csv", [["a.jpg", 1, 1.0004, 2, 3, 4, 5, 6]])  # rounded elsewhere
    faces, faults = csv_files.read(form(subsets={"twice": "twice.csv", "once": "once.csv"}), tmp_path, None, 3, BOTH)
    assert (faults, faces.subsets) == ([], [("once", "twice"), (), ("twice",)])
    assert faces.face_id == ["test/a.jpg", "test/a.jpg#2", "test/a.jpg#3"]


def test_a_subset_row_without_a_test_row_is_reported(tmp_path):
    write_csv(tmp_path / "test.csv", [["a.jpg", 1, 1, 2, 3, 4, 5, 6]])
    write_csv(tmp_path / "blur.csv", [["a.jpg", 1, 1, 2, 3, 4, 5, 6], ["a.jpg", 1, 1, 2, 3, 4, 5, 7]])
    _, faults = csv_files.read(form(subsets={"blur": "blur.csv"}), tmp_path, None, 3, BOTH)
    assert faults == [f"{tmp_path / 'blur.csv'}, line 3: no row of test.csv has this image and landmarks"]


# ---- WFLW's own lists


@needs_samples
@pytest.mark.parametrize("subset", ["largepose", "makeup"])
def test_wflws_lists_and_hrnets_csv_agree_to_the_last_bit_of_the_box(subset):
    lines = lists.read_list(ANNOTATIONS / f"wflw_raw/list_98pt_test_{subset}.txt", 98, ATTRIBUTES)
    rows = csv_files.read_rows(ANNOTATIONS / "wflw/face_landmarks_wflw_test_attributes_union.csv", 98)
    assert lines.faults == []
    listed = split_faces("test", lines.images, lines.landmarks)
    same = find_faces(lines.images, lines.landmarks, rows.images, rows.landmarks)
    assert None not in same
    assert len(set(same)) == len(lines.images) == {"largepose": 326, "makeup": 206}[subset]
    assert np.array_equal(listed.center, rows.box[0][same])
    assert np.array_equal(listed.side, rows.box[1][same])
    assert np.abs(listed.landmarks - rows.landmarks[same]).max() < 0.00051  # the CSV file has three decimals


@needs_samples
def test_a_list_with_attributes_gives_the_same_table_as_the_csv_files(tmp_path):
    """The authors' list written from HRNet's sample, with flags, against subset files."""
    source = SAMPLES / "wflw/face_landmarks_wflw_test.csv"
    head, *rows = source.read_text().splitlines()
    flags = [(1, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 0), (0, 1, 1, 0, 1, 0), (1, 0, 0, 1, 0, 0)]
    lines = []
    for row, flag in zip(rows, flags, strict=True):
        image, _, _, _, *points = row.split(",")
        lines.append(" ".join([*points, "1 2 3 4", *map(str, flag), image]))
    (tmp_path / "list.txt").write_text("\r\n".join(lines))
    shutil.copy(source, tmp_path / "test.csv")
    for i, name in enumerate(ATTRIBUTES):
        members = [row for row, flag in zip(rows, flags, strict=True) if flag[i]]
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *members]))

    list_form = ListsForm(images="images", train=None, test="list.txt", attributes=ATTRIBUTES)
    ours, faults = lists.read(list_form, tmp_path, None, 98, ("test",))
    theirs, more = csv_files.read(form(subsets={n: f"{n}.csv" for n in ATTRIBUTES}), tmp_path, None, 98, ("test",))
    assert faults == more == []
    assert ours.subsets[0] == ("blur", "largepose")
    assert_same_table(ours, theirs)


def assert_same_table(ours, theirs):
    for name in ("face_id", "split", "image", "subsets"):
        assert list(getattr(ours, name)) == list(getattr(theirs, name))
    for name in ("center", "side", "landmarks", "visible"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_all_faults_of_a_list_are_reported_with_their_lines(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(
        "1 2 3 4 a.jpg\n"
        "1 2 3 a.jpg\n"
        "1 2 3 four a.jpg\n"
        "1 2 nan 4 a.jpg\n"
        "1 2 3 4 0 0 9 9 1 2 a.jpg\n"
        "1 2 3 4 0 0 9 9 1 0 a.jpg\n"
    )
    rows = lists.read_list(path, 2, ["pose", "blur"])
    assert (rows.lines, rows.subsets) == ([1, 6], [[], ["pose"]])
    assert [fault.removeprefix(f"{path}, ").split(":")[0] for fault in rows.faults] == [
        f"line {i}" for i in (2, 3, 4, 5)
    ]
    assert "4 fields; 2 landmarks and an image make 5, with a rectangle and 2 attributes 11" in rows.faults[0]
    assert "four" in rows.faults[1]
    assert "number 3 is nan" in rows.faults[2]
    assert "attributes are [1, 2]" in rows.faults[3]


# ---- 300W's own .pts files


def write_pts(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "\n".join(f"{x!r} {y!r}" for x, y in points)
    path.write_text(f"version: 1\nn_points:  {len(points)}\n{{\n{body}\n}}\n")


@needs_samples
def test_300ws_pts_files_and_hrnets_csv_give_the_same_table(tmp_path):
    source = load_dataset("300w", "source").source
    theirs, _ = csv_files.read(source.csv, ANNOTATIONS / "300w", None, 68, ("test",))
    for image, points in zip(theirs.image, theirs.landmarks.tolist(), strict=True):
        write_pts((tmp_path / "images" / image).with_suffix(".pts"), points)
        (tmp_path / "images" / image).touch()
    ours, faults = pts.read(source.pts, tmp_path, None, 68, ("test",))
    assert faults == []
    order = [ours.face_id.index(face) for face in theirs.face_id]
    assert_same_table(ours.where(np.array(order)), theirs)


def test_the_faults_of_a_pts_file_are_reported(tmp_path):
    cases = {
        "few": ("version: 1\nn_points: 2\n{\n1 2\n}\n", "n_points is 2 and 1 points follow, where 2 are needed"),
        "many": ("version: 1\nn_points: 3\n{\n1 2\n3 4\n5 6\n}\n", "n_points is 3 and 3 points"),
        "open": ("version: 1\nn_points: 2\n{\n1 2\n3 4\n", "it is not a .pts file"),
        "text": ("version: 1\nn_points: 2\n{\n1 2\n3 x\n}\n", "'x'"),
        "nan": ("version: 1\nn_points: 2\n{\n1 2\n3 nan\n}\n", "not two finite numbers"),
        "long": (f"version: 1\nn_points: {'9' * 5000}\n{{\n1 2\n3 4\n}}\n", "it is not a .pts file"),
        "ragged": ("version: 1\nn_points: 2\n{\n1 2\n3\n}\n", "ragged.pts"),
        "good": ("version: 1\n  n_points:2 \n{ \n 1 2 \n3\t4\r\n} \n\n", None),
    }
    for name, (text, reason) in cases.items():
        (tmp_path / f"{name}.pts").write_text(text)
        result = pts.read_pts(tmp_path / f"{name}.pts", 2)
        assert reason in result if reason else result.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_pts_file_that_is_no_regular_file_is_a_fault_and_is_not_read_for_ever(tmp_path, make):
    write_pts(tmp_path / "b.pts", [(1, 2), (3, 4)])
    make(tmp_path / "a.pts")
    for image in ("a.jpg", "b.jpg"):
        (tmp_path / image).touch()
    assert f"{tmp_path / 'a.pts'}: cannot be read" in pts.read_pts(tmp_path / "a.pts", 2)
    assert [f"{tmp_path / 'a.pts'}: cannot be read" in fault for fault in pts_folder.read(tmp_path).faults] == [True]
    with pytest.raises(InputError, match=r"a\.pts: cannot be read"):
        read_submission(tmp_path)


def test_a_pts_file_needs_exactly_one_image(tmp_path):
    for name in ("a", "b", "c"):
        write_pts(tmp_path / f"ibug/{name}.pts", [(1, 2), (3, 4)])
    for name in ("a.jpg", "b.jpg", "b.PNG"):
        (tmp_path / "ibug" / name).touch()
    faces, faults = pts.read(PtsForm(images=".", train=[], test=["ibug"]), tmp_path, None, 2, ("test",))
    assert faces.image == ["ibug/a.jpg"]
    assert faults == [
        f"{tmp_path / 'ibug/b.pts'}: 2 images have its name: b.PNG, b.jpg",
        f"{tmp_path / 'ibug/c.pts'}: there is no image of the same name next to it",
    ]


# ---- COFW's own .mat files

MAT = MatForm(train="COFW_train_color.mat", test="COFW_test_color.mat")


@needs_samples
def test_cofws_images_and_landmarks_are_those_of_the_file(tmp_path):
    faces, faults = mat.read(MAT, SAMPLES / "cofw", tmp_path, 29, BOTH)
    assert faults == []
    assert faces.face_id == ["train/0001.png", "train/0002.png", "test/0001.png", "test/0002.png"]
    with h5py.File(SAMPLES / "cofw/COFW_test_color.mat") as file:
        stored = [file[cell][()] for cell in file["IsT"][()].ravel()]
        points = file["phisT"][()]
    assert sorted(image.ndim for image in stored) == [2, 3]  # one is grey
    for i, image in enumerate(stored):
        pixels = read_image(tmp_path / "images" / faces.of("test").image[i])
        for channel in range(3):
            expected = image if image.ndim == 2 else image[channel]
            assert all(np.array_equal(pixels[y, :, channel], expected[:, y]) for y in range(pixels.shape[0]))
        assert np.array_equal(faces.of("test").landmarks[i], np.stack([points[:29, i], points[29:58, i]], 1))
        assert np.array_equal(faces.of("test").visible[i], points[58:, i] == 0)
        x, y = points[:29, i], points[29:58, i]
        width, height = np.ceil(x.max()) - np.floor(x.min()), np.ceil(y.max()) - np.floor(y.min())
        assert faces.of("test").side[i] == max(width, height)


def write_mat(path, images, points, images_name="IsT", points_name="phisT"):
    with h5py.File(path, "w") as file:
        cells = file.create_dataset(images_name, (1, len(images)), h5py.ref_dtype)
        for i, image in enumerate(images):
            cells[0, i] = file.create_dataset(f"#refs#/{i}", data=image).ref
        file[points_name] = points


def test_the_faults_of_a_mat_file_are_reported(tmp_path):
    image, points = np.zeros((3, 20, 10), np.uint8), np.arange(12.0).reshape(6, 2)
    test_only = MatForm(train=None, test="a.mat")

    def faults():
        faces, reported = mat.read(test_only, tmp_path, tmp_path, 2, BOTH)
        return len(faces), *reported

    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(500))
    assert faults() == (0, f"{tmp_path / 'a.mat'}: it is not a MATLAB v7.3 file. In MATLAB: save(…, '-v7.3')")
    write_mat(tmp_path / "a.mat", [image, image], points, points_name="phis")
    assert faults() == (0, f"{tmp_path / 'a.mat'}: variable phisT is missing (there is #refs#, IsT, phis)")
    write_mat(tmp_path / "a.mat", [image], points)
    assert faults() == (0, f"{tmp_path / 'a.mat'}: phisT is 2×6, and 1 images of 2 landmarks need 1×6")
    points[1, 1] = np.nan
    write_mat(tmp_path / "a.mat", [np.zeros((4, 20, 10), np.uint8), image, image[:, :0]], np.c_[points, points[:, :1]])
    n, *reported = faults()
    assert n == 0
    assert [fault.split(": ")[0] for fault in reported] == [f"{tmp_path / 'a.mat'}, face {i}" for i in (1, 2, 3)]
    assert "shape (4, 20, 10)" in reported[0]
    assert "NaN or infinite" in reported[1]
    assert "zero size" in reported[2]


# ---- shared by all formats


ABOUT = SimpleNamespace(obtain="ask its authors")


def test_missing_files_are_all_named_with_what_is_there_and_how_to_get_them(tmp_path):
    source = Source(form="csv", csv=form(train="train.csv", subsets={"blur": "blur.csv"}))
    (tmp_path / "test.csv").touch()
    with pytest.raises(InputError) as raised:
        readers.require_files("wflw", ABOUT, source, tmp_path)
    for part in (str(tmp_path), "train.csv, blur.csv, images/", "it holds test.csv", "ln -s", "ask its authors"):
        assert part in str(raised.value)
    with pytest.raises(InputError, match="there is no such folder"):
        readers.require_files("wflw", ABOUT, source, tmp_path / "none")


def test_the_test_files_alone_are_enough_to_read_the_test_split(tmp_path):
    (tmp_path / "images").mkdir()
    write_csv(tmp_path / "test.csv", [["a.jpg", 1, 1, 2, 3, 4]], 2)
    source = Source(form="csv", partial=True, csv=form(train="train.csv", subsets={"blur": "blur.csv"}))
    readers.require_files("wflw", ABOUT, source, tmp_path, ("test",))
    faces, faults = readers.read("wflw", source, 2, tmp_path, Path(), ("test",))
    assert (faces.split, faces.subsets, faults) == (["test"], [()], [])


@pytest.mark.parametrize(
    ("fields", "file"),
    [
        ({"form": "csv", "csv": form()}, "test.csv"),
        ({"form": "pts", "pts": PtsForm(images="images", train=[], test=["ibug"])}, "images/ibug/a.pts"),
        ({"form": "mat", "mat": MAT}, "COFW_test_color.mat"),
    ],
)
def test_the_folder_may_be_the_parent_of_hrnets_folder(tmp_path, fields, file):
    source = Source(folder="inner", **fields)
    assert readers.locate(source, tmp_path) == tmp_path
    path = tmp_path / "inner" / file
    path.parent.mkdir(parents=True)
    path.touch()
    assert readers.locate(source, tmp_path) == tmp_path / "inner"
    if source.form == "csv":
        images = location.images_folder("any", source.files, readers.locate(source, tmp_path))
        assert images == tmp_path / "inner/images"


def test_a_folder_is_read_where_it_is(tmp_path):
    (tmp_path / "out").mkdir()
    with readers.opened(Source(form="csv", csv=form()), tmp_path, tmp_path / "out") as folder:
        assert folder == tmp_path
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("folder", ["tiny", "."])
def test_only_the_images_of_an_archive_are_kept(tmp_path, folder):
    inside, out = tmp_path / "packed" / folder, tmp_path / "out"
    (inside / "images").mkdir(parents=True)
    (inside / "images/a.jpg").write_bytes(b"a")
    write_csv(inside / "test.csv", [["a.jpg", 1, 1, 2, 3, 4]], 2)
    archive = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", tmp_path / "packed"))
    source = Source(form="csv", csv=form())
    with readers.opened(source, archive, out) as unpacked:
        faces, faults = readers.read("tiny", source, 2, unpacked, out, ("test",))
    assert (faces.image, faults) == (["a.jpg"], [])
    assert [str(path.relative_to(out)) for path in sorted(out.rglob("*"))] == ["images", "images/a.jpg"]


def test_an_empty_split_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    write_csv(tmp_path / "test.csv", [["a.jpg", 1, 1, 2, 3, 4]], 2)
    write_csv(tmp_path / "train.csv", [], 2)
    source = Source(form="csv", csv=form(train="train.csv"))
    with pytest.raises(InputError, match="split train holds no face"):
        readers.read("wflw", source, 2, tmp_path, Path())


# ---- landmark schemes


@needs_samples
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("wflw", "annotations/wflw/face_landmarks_wflw_test_attributes_union.csv"),
        ("demo", "annotations/wflw/face_landmarks_wflw_test_attributes_union.csv"),
        ("300w", "annotations/300w/face_landmarks_300w_valid.csv"),
        ("300w-private", "annotations/300w/face_landmarks_300w_test.csv"),
        ("lfpw", "lfpw/face_landmarks_lfpw_train.csv"),
        ("aflw", "samples/aflw/face_landmarks_aflw_test.csv"),
        ("cofw", None),
    ],
)
def test_flip_pairs_and_corners_are_those_of_real_faces(name, file, tmp_path):
    """The mean face, mirrored about its middle, is the mean face with its pairs swapped."""
    scheme = load_scheme(load_dataset(name, "landmarks").landmarks.scheme)
    count = scheme.count
    if file:
        rows = csv_files.read_rows(SHARED / file, count)
        points, center, side = rows.landmarks, rows.box[0], rows.box[1]
    else:
        faces, _ = mat.read(MAT, SAMPLES / "cofw", tmp_path, count, ("test",))
        points, center, side = faces.landmarks, faces.center, faces.side
    mean = ((points - center[:, None]) / side[:, None, None]).mean(0)
    order = scheme.flip_order()
    assert np.array_equal(order[order], np.arange(count))
    middle = mean[:, 0].mean()
    mirrored = np.stack([2 * middle - mean[:, 0], mean[:, 1]], 1)
    distance = np.linalg.norm(mirrored[order] - mean, axis=1)
    assert distance.max() < (0.05 if len(points) > 100 else 0.35)  # with two faces, neither need be frontal
    if len(points) > 100:  # the mean of many is symmetric: the nearest mirrored landmark is that of the pair
        nearest = np.linalg.norm(mirrored[None] - mean[:, None], axis=2).argmin(1)
        assert np.array_equal(nearest, order)
    for pair in (scheme.inter_ocular, scheme.inter_pupil):
        if pair:
            left, right = (np.atleast_1d(side) for side in pair)
            assert sorted(order[left]) == sorted(right)
            assert (mean[left, 0] < mean[right, 0].min()).all()
    if scheme.inter_ocular and len(points) > 100:
        eyes = scheme.groups["eyes"]
        assert scheme.inter_ocular == [
            min(eyes, key=lambda i: mean[i, 0]),
            max(eyes, key=lambda i: mean[i, 0]),
        ]


@pytest.mark.parametrize("name", ["wflw", "300w", "cofw", "aflw"])
def test_every_landmark_is_in_one_group_and_its_mirror_image_in_the_same(name):
    scheme = load_scheme(name)
    assert sorted(sum(scheme.groups.values(), [])) == list(range(scheme.count))
    assert all(not (left in group) ^ (right in group) for left, right in scheme.flip_pairs
               for group in scheme.groups.values())  # fmt: skip
