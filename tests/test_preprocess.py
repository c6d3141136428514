"""The preprocess stage: what it cuts and warns of; and stopped half-way, nothing half-written and no process left."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import Project, still_running
from PIL import Image

from stages import fetch, preprocess
from stages.data import crops
from stages.data.crops import read_crops
from stages.data.faces import read_faces


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


HANG = """
import pathlib, time
read = pathlib.Path.read_bytes

def read_bytes(path):
    if path.name == "train7.png":
        pathlib.Path(__file__).with_name("reached").touch()
        time.sleep(600)
    return read(path)

pathlib.Path.read_bytes = read_bytes
"""


@contextmanager
def half_way(project: Project) -> Iterator[tuple[subprocess.Popen, list[psutil.Process]]]:
    """A preprocess one of whose images never comes, as from a file server that hangs; and its workers."""
    with TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(HANG)
        process = project.start("python", "-m", "stages.preprocess", "toy", PYTHONPATH=folder)
        try:
            deadline = time.monotonic() + 60
            while not Path(folder, "reached").exists():
                assert time.monotonic() < deadline, "no worker has come to the image"
                time.sleep(0.05)
            time.sleep(1)  # all the others are cut
            yield process, psutil.Process(process.pid).children()
        finally:
            process.kill()
            process.communicate()


def test_annotations_that_count_from_another_origin_give_the_same_crops(cut_project, tmp_path):
    other = Project(tmp_path)
    for file in ("train.csv", "test.csv", "test_blur.csv"):
        table = pd.read_csv(tmp_path / "data/toy" / file)
        moved = [name for name in table if name.startswith(("center", "original"))]
        table[moved] += 1.5
        table.to_csv(tmp_path / "data/toy" / file, index=False)
    other.change("params/datasets/toy.yaml", "  form: csv\n", "  form: csv\n  origin: 1.5\n")
    other.stage("obtain", "toy")
    other.stage("fetch", "toy")
    other.stage("preprocess", "toy")
    for split in ("train", "test"):
        ours, theirs = (read_crops(each.folder / "data/crops/toy", split) for each in (cut_project, other))
        assert np.abs(ours.images.astype(int) - theirs.images).max() <= 1
        np.testing.assert_allclose(theirs.landmarks(), ours.landmarks(), atol=1e-6)
        np.testing.assert_allclose(theirs.faces.landmarks, ours.faces.landmarks + 1.5, atol=1e-6)


# ---- what preprocess writes and warns of


@pytest.fixture
def workspace(cut_project, tmp_path, monkeypatch) -> Path:
    """The toy dataset, to be changed, as the working directory."""
    for name in ("params", "data"):
        shutil.copytree(cut_project.folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(split: str) -> pd.DataFrame:
    return pd.read_csv(f"data/toy/{split}.csv", dtype=str)


def test_each_crop_has_the_checksum_of_its_images_file(cut_project):
    for split in ("train", "val", "test"):
        faces = read_crops(cut_project.folder / "data/crops/toy", split).faces
        images = [cut_project.folder / "data/toy/images" / image for image in faces.image]
        assert len(faces)
        assert faces.extra[crops.IMAGE_HASH] == [hashlib.sha256(image.read_bytes()).hexdigest() for image in images]


@pytest.mark.parametrize(("share", "where"), [(0, "4 in train, 0 in val"), (0.5, None), (0.99, "0 in train, 4 in val")])
def test_test_images_in_train_and_in_val_are_counted_by_content(workspace, capsys, share, where):
    """Two under their own name, two as copies under another."""
    names = ["train0.png", "train1.png", "copy2.png", "copy3.png"]
    for i in (2, 3):
        shutil.copy(f"data/toy/images/train{i}.png", f"data/toy/images/copy{i}.png")
    added = table("train").iloc[:4].assign(image_name=names)
    pd.concat([table("test"), added]).to_csv("data/toy/test.csv", index=False)
    parameters = Path("params/datasets/toy.yaml")
    parameters.write_text(parameters.read_text().replace("val_share: 0.2", f"val_share: {share}"))
    fetch.main("toy")
    preprocess.main("toy")
    val = read_crops(Path("data/crops/toy"), "val").faces.image
    n = sum(f"train{i}.png" in val for i in range(4))
    where = where or f"{4 - n} in train, {n} in val"
    expected = f"warning: images of test in the training data too: 4 ({where}, by which the epoch is chosen)"
    assert expected in capsys.readouterr().out


def test_no_overlap_is_no_warning(workspace, capsys):
    preprocess.main("toy")
    assert "warning" not in capsys.readouterr().out


def test_faces_of_a_group_are_kept_on_one_side_and_groups_in_test_too_are_told(workspace, capsys):
    faces = read_faces(Path("data/raw/toy/faces.parquet"))
    faces.extra = {"group": [f"{split} {i % 10}" for i, split in enumerate(faces.split)]}
    faces.extra["group"][-1] = "train 3"
    crops.pq.write_table(crops.to_table(faces), "data/raw/toy/faces.parquet")
    preprocess.main("toy")
    train, val = (set(read_crops(Path("data/crops/toy"), split).faces.extra["group"]) for split in ("train", "val"))
    assert val
    assert not train & val
    assert train | val == {f"train {i}" for i in range(10)}
    assert "warning: groups of test in the training data too: 1, such as train 3" in capsys.readouterr().out


def test_photographs_stored_on_their_side_are_cut_upright_where_orientation_is_exif(workspace, capsys):
    upright = read_crops(Path("data/crops/toy"), "test").images.copy()
    tags = Image.Exif()
    tags[0x0112] = 6
    for image in sorted(Path("data/toy/images").glob("test*.png")):
        Image.open(image).transpose(Image.Transpose.ROTATE_90).save(image, exif=tags)
    fetch.main("toy")
    assert "12 images (test0.png, …) with an EXIF orientation other than upright, read as they are stored" in (
        capsys.readouterr().out
    )
    preprocess.main("toy")
    assert not np.array_equal(read_crops(Path("data/crops/toy"), "test").images, upright)
    parameters = Path("params/datasets/toy.yaml")
    parameters.write_text(parameters.read_text().replace("form: csv\n", "form: csv\n  orientation: exif\n"))
    fetch.main("toy")
    assert "turned as it says" in capsys.readouterr().out
    preprocess.main("toy")
    assert np.array_equal(read_crops(Path("data/crops/toy"), "test").images, upright)


SHARED = Path(__file__).parents[1] / "../shared/data"
SAMPLES = {
    "wflw": ("samples/wflw", "face_landmarks_wflw_test*.csv"), "300w": ("samples/300w", "*.csv"),
    "aflw": ("samples/aflw", "*.csv"), "lfpw": ("lfpw", "face_landmarks_lfpw_t*.csv"),
}  # fmt: skip


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
@pytest.mark.parametrize("name", SAMPLES)
def test_no_face_of_the_benchmarks_is_refused(name):
    folder, pattern = SAMPLES[name]
    checked = 0
    for file in (SHARED / folder).rglob(pattern):
        for row in pd.read_csv(file).itertuples():
            image = next(iter((SHARED / folder).rglob(Path(row.image_name).name)), None)
            if image is None:
                continue
            values = {column: getattr(row, column) for column in row._fields if column.startswith("original")}
            landmarks = np.array(list(values.values())).reshape(-1, 2)
            center, side = np.array([[row.center_w, row.center_h]]), np.array([200 * row.scale])
            for context, size in ((2.1875, 448), (1.25, 256)):
                window = crops.window_to_image(center, side * context, size)[0]
                shape = Image.open(image).size[::-1]
                assert crops.window_fault(window, landmarks, size, context, shape) is None, (file, row.image_name)
            checked += 1
    assert checked >= 2


# ---- stopped half-way


def test_a_killed_preprocess_takes_its_processes_along_and_is_healed(cut_project):
    crops = cut_project.folder / "data/crops"
    before = contents(crops / "toy")
    with half_way(cut_project) as (process, workers):
        assert workers
        process.kill()
        assert still_running(workers, 5) == []
        assert contents(crops / "toy") == before, "the crops of the last run are whole"
        assert len(os.listdir(crops)) == 2
    cut_project.stage("preprocess", "toy")
    assert os.listdir(crops) == ["toy"]
    assert contents(crops / "toy") == before


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["it alone", "its group"])
def test_a_preprocess_that_is_stopped_ends_though_an_image_never_comes_and_leaves_nothing(
    cut_project, how, status, kill
):
    crops = cut_project.folder / "data/crops"
    before = contents(crops)
    with half_way(cut_project) as (process, workers):
        kill(process.pid, how)
        printed, _ = process.communicate(timeout=15)
        assert process.returncode == status
        assert still_running(workers, 0.1) == []
    assert "stopped" in printed
    assert "Traceback" not in printed
    assert contents(crops) == before
