"""Data without a test split, and faces that belong together."""

import numpy as np
import pytest
import yaml
from conftest import Project
from pydantic import ValidationError

from stages.config.dataset import CsvForm, ListsForm, PtsForm, Source
from stages.config.experiment import load_dataset
from stages.data.faces import read_faces
from stages.sources import csv_files, readers
from stages.sources.assemble import split_faces
from stages.sources.groups import read_groups
from stages.system.errors import InputError

HEADER = "image_name,scale,center_w,center_h,original_0_x,original_0_y,group"
CSV = {"images": "images", "train": "train.csv", "test": None}


def faces_of(split, *images):
    return split_faces(split, images, np.tile([[[10.0, 20], [50, 60]]], (len(images), 1, 1)))


def test_a_pattern_finds_the_group_in_the_names():
    faces = faces_of("train", "a/17_03.jpg", "a/17_04.jpg", "b/2_1.jpg")
    assert read_groups(faces, r"/(\d+)_") == []
    assert list(faces.extra["group"]) == ["17", "17", "2"]


def test_a_name_without_a_group_is_reported_by_face():
    faces = faces_of("train", "17_03.jpg", "x.jpg")
    assert read_groups(faces, r"^(\d*)_?") == [
        r"face train/x.jpg: source.group (^(\d*)_?) finds nothing in its image's name x.jpg"
    ]


def test_the_groups_are_read_from_a_column(tmp_path):
    (tmp_path / "a.csv").write_text(f"{HEADER}\na.jpg,1,2,3,4,5,ann\nb.jpg,1,2,3,4,5,007\nc.jpg,1,2,3,4,5, \n")
    rows = csv_files.read_rows(tmp_path / "a.csv", 1)
    assert rows.extra["group"] == ["ann", "007"]
    assert rows.faults == [f"{tmp_path / 'a.csv'}, line 4: group is blank"]


def test_a_column_that_only_one_file_has_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text(f"{HEADER}\na.jpg,1,2,3,4,5,ann\n")
    (tmp_path / "test.csv").write_text(f"{HEADER.removesuffix(',group')}\nb.jpg,1,2,3,4,5\n")
    form = CsvForm(images="images", train="train.csv", test="test.csv")
    _, faults = csv_files.read(form, tmp_path, None, 1, ("train", "test"))
    assert faults == ["column group is not in all of train.csv, test.csv: give it to all, or to none"]
    source = Source(form="csv", csv=form, group="(.)")
    (tmp_path / "test.csv").write_text(f"{HEADER}\nb.jpg,1,2,3,4,5,ann\n")
    _, faults = readers.read("own", source, 1, tmp_path, tmp_path)
    assert faults == ["source.group is set, and the annotation files have a column group: keep one of them"]


@pytest.mark.parametrize(("pattern", "fault"), [("(", "no regular expression"), (r"\d+", "no group in parentheses")])
def test_a_wrong_pattern_is_refused(pattern, fault):
    with pytest.raises(ValidationError, match=fault):
        Source(form="csv", csv=CsvForm(**CSV), test_share=0.2, group=pattern)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"csv": CSV}, "source.csv.test is empty: name the test files, or set source.test_share"),
        ({"csv": CSV | {"test": "t.csv"}, "test_share": 0.2}, "source.csv.test names some"),
        ({"csv": CSV | {"train": None}, "test_share": 0.2}, "source.csv names no files"),
        (
            {"csv": CSV | {"subsets": {"blur": "b.csv"}}, "test_share": 0.2},
            "are faces of test files, and there are none",
        ),
    ],
)
def test_test_files_or_a_share_are_needed(fields, fault):
    with pytest.raises(ValidationError, match=fault):
        Source(form="csv", **fields)


def test_every_form_with_lists_or_folders_may_have_no_test_files():
    lists = ListsForm(images="i", train="a.txt", test=None, attributes=[])
    assert Source(form="lists", lists=lists, test_share=0.5).files.test is None
    assert Source(form="pts", pts=PtsForm(images="i", train=["a"], test=[]), test_share=0.5).files.test == []


@pytest.fixture
def without_test_files(tmp_path):
    """The toy project, whose training faces are all it has."""
    project = Project(tmp_path)
    path = project.folder / "params/datasets/toy.yaml"
    dataset = yaml.safe_load(path.read_text())
    dataset["source"] = {"form": "csv", "csv": CSV, "test_share": 0.25}
    path.write_text(yaml.safe_dump(dataset))
    (project.folder / "data/toy/test.csv").unlink()
    for image in (project.folder / "data/toy/images").glob("test*"):
        image.unlink()
    return project


def test_a_test_split_is_cut_and_the_faces_keep_their_ids(without_test_files):
    project = without_test_files
    project.stage("obtain", "toy")
    printed = project.stage("fetch", "toy")
    faces = read_faces(project.folder / "data/raw/toy/faces.parquet")
    n = faces.split.count("test")
    assert 3 <= n <= 20
    assert f"{40 - n} train, {n} test faces" in printed
    assert {face.split("/")[0] for face in faces.face_id} == {"train"}
    project.stage("fetch", "toy")
    assert read_faces(project.folder / "data/raw/toy/faces.parquet").split == faces.split
    project.stage("preprocess", "toy")
    val, test = (read_faces(project.folder / f"data/crops/toy/{split}.parquet") for split in ("val", "test"))
    assert len(test) == n
    assert len(val) > 0


def test_weights_cannot_be_measured_on_test_files_that_there_are_not(without_test_files, monkeypatch):
    monkeypatch.chdir(without_test_files.folder)
    dataset = load_dataset("toy", "about", "source")
    with pytest.raises(InputError, match="toy has no test files: its test faces are cut from its training faces"):
        readers.require_files("toy", dataset.about, dataset.source, dataset.location, ("test",))
