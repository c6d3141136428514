"""Files as spreadsheets, Windows, macOS and telephones leave them: refused with a remedy; what is not read is said."""

import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest

from stages.config.dataset import CsvForm, PtsForm
from stages.sources import csv_files, pts
from stages.sources.assemble import split_faces
from stages.sources.unread import unread

HEADER = "image_name,scale,center_w,center_h,original_0_x,original_0_y"
ROW = "a.jpg,1,2,3,4,5"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (f"{HEADER}\n{ROW}\n".replace(",", ";").encode(), "its values are separated by semicolons (';')"),
        (f"{HEADER}\n{ROW}\n".replace(",", "\t").encode(), "its values are separated by tabs ('\\t')"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "it is UTF-16. Save it as UTF-8 (Excel: Save as, CSV UTF-8)"),
        (f"{HEADER}\n{ROW}\n".replace("a.jpg", "ä.jpg").encode("latin-1"), "it is not a CSV file in UTF-8"),
        (f",{HEADER}\n0,{ROW}\n".encode(), "a column without a name, the index of pandas: write it with index=False"),
        (f"Unnamed: 0,{HEADER}\n0,{ROW}\n".encode(), "the index of pandas: write it with index=False"),
        (
            f'{HEADER}\na.jpg,1,2,3,"4,5",5\n'.encode(),
            "original_0_x is '4,5', not a number: write decimals with a point",
        ),
    ],
)
def test_a_file_of_another_program_is_refused_with_the_remedy(tmp_path, data, fault):
    (tmp_path / "a.csv").write_bytes(data)
    rows = csv_files.read_rows(tmp_path / "a.csv", 1)
    assert (len(rows.faults), rows.images) == (1, [])
    assert rows.faults[0].startswith(str(tmp_path / "a.csv"))
    assert fault in rows.faults[0]


def test_excels_byte_order_mark_and_line_ends_are_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{ROW}\r\n".encode())
    rows = csv_files.read_rows(tmp_path / "a.csv", 1)
    assert (rows.images, rows.faults) == (["a.jpg"], [])


def read(folder, *names):
    """Read rows of these images; the images are in `folder`/images."""
    (folder / "images/sub").mkdir(parents=True, exist_ok=True)
    (folder / "test.csv").write_text(
        "\n".join([HEADER, *(ROW.replace("a.jpg", name) for name in names)]) + "\n", "utf-8"
    )
    return csv_files.read(CsvForm(images="images", train=None, test="test.csv"), folder, None, 1, ("test",))


def test_names_of_another_system_are_reported_once_with_the_remedy(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "müller.png") for form in ("NFC", "NFD"))
    assert nfc != nfd
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / nfd).touch()
    names = ["a.jpg", "sub\\b.jpg", "sub\\c.jpg", "d.jpg ", nfc, "e.HEIC", "missing.jpg", "C:\\f\\a.jpg"]
    faces, faults = read(tmp_path, *names)
    assert faces.image == ["a.jpg", "missing.jpg"]
    path = tmp_path / "test.csv"
    assert [fault.removeprefix(f"{path}, ") for fault in faults] == [
        f"line 3: its image is 'sub\\\\b.jpg' (and 1 more): it holds a backslash. Write the path within "
        f"{tmp_path / 'images'} with /, as in 'sub/b.jpg'",
        "line 5: its image is 'd.jpg ': a blank is before or behind it. Remove it",
        f"line 6: its image is {nfc!r}: the file has that name in another Unicode form (NFD; macOS writes NFD). "
        "Give both the same",
        "line 7: its image is 'e.HEIC': HEIC is not read. Convert the images to JPEG or PNG and name those",
        f"line 9: its image is 'C:\\\\f\\\\a.jpg': it is an absolute path. "
        f"Write the path within {tmp_path / 'images'}, with /",
    ]


def test_an_odd_name_that_a_file_has_is_read(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("sub\\b.jpg", "ü.jpg"):
        (tmp_path / "images" / name).touch()
    faces, faults = read(tmp_path, "sub\\b.jpg", "ü.jpg")
    assert (faces.image, faults) == (["sub\\b.jpg", "ü.jpg"], [])


def write_pts(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("version: 1\nn_points: 2\n{\n1 2\n30 40\n}\n")


def test_a_pgm_beside_its_pts_is_read_and_another_extension_is_named(tmp_path):
    for name in ("a.PTS", "b.pts", "._a.pts"):
        write_pts(tmp_path / f"bioid/{name}")
    (tmp_path / "bioid/a.pgm").touch()
    (tmp_path / "bioid/b.heic").touch()
    faces, faults = pts.read(PtsForm(images=".", train=[], test=["bioid"]), tmp_path, None, 2, ("test",))
    assert faces.image == ["bioid/a.pgm"]
    (fault,) = faults
    assert "b.pts: there is no image of the same name next to it, only b.heic; images are read as .jpg" in fault


def test_what_lies_among_pts_files_and_is_not_read_is_counted(tmp_path):
    for name in ("ibug/a", "ibug/a_mirror", "afw/x"):
        write_pts(tmp_path / f"{name}.pts")
    for name in ("ibug/a.jpg", "ibug/a_mirror.jpg", "ibug/b.jpg", "ibug/c.PNG", "ibug/notes.txt", "ibug/.hidden"):
        (tmp_path / name).touch()
    form = PtsForm(images=".", train=[], test=["ibug"])
    faces, faults = pts.read(form, tmp_path, None, 2, ("test",))
    assert faults == []
    assert unread(SimpleNamespace(form="pts", files=form), tmp_path, faces) == [
        "images without a .pts file: 2 (ibug/b.jpg, …)",
        "files that are neither an image that is read nor a .pts file: 1 (ibug/notes.txt)",
        "folders with .pts files that no split names: 1 (afw)",
        "faces that by their names (_mirror) are mirrored copies, read like others: 1 (ibug/a_mirror.jpg)",
    ]


def test_images_that_no_row_names_are_counted_also_in_linked_folders(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "images")
    for name in ("images/a.jpg", "elsewhere/b.jpg", "elsewhere/c.HEIC", "images/list.txt"):
        (tmp_path / name).touch()
    faces = split_faces("test", ["a.jpg", "linked/b.jpg"], np.zeros((2, 1, 2)))
    source = SimpleNamespace(form="csv", files=CsvForm(images="images", train=None, test="test.csv"))
    assert unread(source, tmp_path, faces) == ["images that no row names: 1 (linked/c.HEIC)"]
    faces = split_faces("test", ["a.jpg", "linked/b.jpg", "linked/c.HEIC"], np.zeros((3, 1, 2)))
    assert unread(source, tmp_path, faces) == []
