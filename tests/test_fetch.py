"""The fetch stage: the same bytes from a folder, an archive or a URL, and all faults of a dataset in one message."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from conftest import still_running
from PIL import Image

from stages import fetch, obtain
from stages.config.experiment import load_dataset
from stages.data.faces import read_faces
from stages.sources.images.location import images_folder
from stages.system.errors import InputError

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "../shared/data/samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/data is absent")

HEADER = "image_name,scale,center_w,center_h,original_0_x,original_0_y,original_1_x,original_1_y"
DATASET = {
    "about": {"title": "Tiny", "licence": "", "citation": "", "homepage": "", "obtain": "", "share_pictures": True},
    "source": {
        "form": "csv",
        "csv": {"images": "images", "train": "train.csv", "test": "test.csv", "subsets": {"blur": "blur.csv"}},
        "counts": {"train": 2, "test": 2, "subsets": {"blur": 1}},
    },
    "landmarks": {"scheme": "two", "normaliser": "inter_ocular"},
    "crops": {"size": 64, "context": 2.0, "val_share": 0.1},
    "evaluation": {"thresholds": [0.1]},
}
SCHEME = {"count": 2, "flip_pairs": [[0, 1]], "groups": {"eyes": [0, 1]}, "inter_ocular": [0, 1]}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A working directory with the dataset `tiny`, whose files are in its folder `tiny`."""
    monkeypatch.chdir(tmp_path)
    for folder in ("params/datasets", "params/schemes", "tiny/images"):
        (tmp_path / folder).mkdir(parents=True)
    write_yaml("params/schemes/two.yaml", SCHEME)
    describe()
    locate("tiny", "tiny")
    for i, name in enumerate(["a.jpg", "b.jpg", "c.png", "d.png"]):
        Image.new("RGB", (40, 30), (60 * i, 9, 9)).save(tmp_path / "tiny/images" / name)
    write(tmp_path / "tiny/train.csv", "a.jpg,0.1,20,15,10,15,30,15", "b.jpg,0.1,20,15,11,15,30,15")
    write(tmp_path / "tiny/test.csv", "c.png,0.1,20,15,12,15,30,15", "d.png,0.1,20,15,13,15,30,15")
    write(tmp_path / "tiny/blur.csv", "d.png,0.1,20,15,13,15,30,15")
    return tmp_path


def write_yaml(path, content):
    Path(path).write_text(yaml.safe_dump(content))


def describe(**source):
    write_yaml("params/datasets/tiny.yaml", DATASET | {"source": DATASET["source"] | source})


def locate(name, source):
    """List the dataset as the only one, with its files at `source`."""
    write_yaml("params/pipeline.yaml", {"datasets": {name: {"source": str(source)}}, "experiments": {}})


def obtain_and_fetch(name="tiny"):
    obtain.main(name)
    fetch.main(name)


def write(path, *rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n")


def hashes(folder):
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def refusal(stage=fetch):
    with pytest.raises(InputError) as raised:
        stage.main("tiny")
    return str(raised.value)


def test_the_face_table_and_the_checksums_are_written(workspace, capsys):
    obtain_and_fetch()
    assert "2 train, 2 test faces, 1 blur" in capsys.readouterr().out
    assert hashes("data/raw/tiny").keys() == {"faces.parquet", "checksums.csv"}  # no image is copied
    faces = read_faces(Path("data/raw/tiny/faces.parquet"))
    assert faces.face_id == ["train/a.jpg", "train/b.jpg", "test/c.png", "test/d.png"]
    assert faces.landmarks[:, 0, 0].tolist() == [10, 11, 12, 13]
    assert faces.subsets == [(), (), (), ("blur",)]
    checksums = pd.read_csv("data/raw/tiny/checksums.csv").set_index("image")
    assert list(checksums.index) == sorted(["a.jpg", "b.jpg", "c.png", "d.png", "train.csv", "test.csv", "blur.csv"])
    for name, row in checksums.iterrows():
        data = Path("tiny", name if name.endswith(".csv") else f"images/{name}").read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_folder_and_archives_of_the_same_files_give_the_same_bytes(workspace):
    obtain_and_fetch()
    expected, images = hashes("data/raw/tiny"), hashes("tiny/images")
    shutil.copytree("tiny", "elsewhere/tiny")
    locate("tiny", workspace / "elsewhere/tiny")
    obtain_and_fetch()
    assert hashes("data/raw/tiny") == expected
    for archive in (shutil.make_archive("flat", "zip", "tiny"), shutil.make_archive("nested", "gztar", "elsewhere")):
        locate("tiny", Path(archive).name)
        obtain_and_fetch()
        assert hashes("data/raw/tiny") == expected | {f"images/{name}": sha256 for name, sha256 in images.items()}


def test_an_archive_is_downloaded_from_a_url_once(workspace):
    archive = shutil.make_archive("tiny", "zip", "tiny")
    locate("tiny", "tiny.zip")
    obtain_and_fetch()
    expected = hashes("data/raw/tiny")
    sha256 = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    locate("tiny", "data/tiny.zip")
    with ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:  # serves the working directory
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        describe(url=f"http://127.0.0.1:{server.server_port}/tiny.zip", sha256=sha256)
        try:
            obtain_and_fetch()
        finally:
            server.shutdown()
            thread.join()
    assert hashes("data/raw/tiny") == expected
    assert Path("data/tiny.zip").read_bytes() == Path(archive).read_bytes()
    obtain_and_fetch()  # the server is gone, and no longer needed
    assert hashes("data/raw/tiny") == expected
    dataset = load_dataset("tiny", "source")
    images = images_folder("tiny", dataset.source.files, dataset.location)
    assert sorted(os.listdir(images)) == ["a.jpg", "b.jpg", "c.png", "d.png"]


def test_an_archive_with_another_checksum_than_the_stated_one_is_refused(workspace):
    shutil.make_archive("tiny", "zip", "tiny")
    locate("tiny", "tiny.zip")
    describe(sha256="0" * 64)
    assert f"tiny.zip: its SHA-256 is {hashes('.')['tiny.zip']}, and source.sha256 is 000" in refusal(obtain)
    assert not Path("data/schemes").exists()


def test_faults_of_files_in_an_archive_name_the_archive(workspace):
    images = workspace / "tiny/images"
    (images / "b.jpg").unlink()
    write(workspace / "tiny/test.csv", "c.png,0.1,20,15,12,15,x,15", "d.png,0.1,20,15,13,15,30,15")
    locate("tiny", Path(shutil.make_archive("tiny", "zip", "tiny")).name)
    obtain.main("tiny")
    message = refusal()
    assert "tiny.zip/test.csv, line 2: original_1_x is 'x'" in message
    assert "tiny.zip/images/b.jpg: missing" in message
    assert ".tmp" not in message
    (workspace / "tiny/test.csv").unlink()
    shutil.make_archive("tiny", "zip", "tiny")
    message = refusal()
    assert "missing from tiny.zip (it holds" in message
    assert ".tmp" not in message


def test_an_archive_within_an_archive_is_not_opened(workspace):
    shutil.make_archive("inner", "zip", "tiny")
    with zipfile.ZipFile("tiny.zip", "w") as file:
        file.write("inner.zip")
    locate("tiny", "tiny.zip")
    obtain.main("tiny")
    message = refusal()
    assert "missing from tiny.zip (it holds inner.zip)" in message
    assert not Path("data/raw/tiny").exists()


def test_a_damaged_archive_is_refused_and_the_previous_outs_are_kept(workspace):
    archive = Path(shutil.make_archive("tiny", "zip", "tiny"))
    locate("tiny", archive.name)
    obtain_and_fetch()
    before = hashes("data")
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "tiny.zip: it is not a zip or tar archive" in refusal()
    assert hashes("data") == before


def test_fetching_before_obtaining_names_what_is_missing(workspace):
    assert "data/schemes/tiny.json is missing: run dvc repro obtain@tiny" in refusal()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_all_faults_of_a_dataset_are_reported_at_once_and_the_previous_outs_are_kept(workspace):
    obtain_and_fetch()
    before = hashes("data")
    images = workspace / "tiny/images"
    (images / "B.jpg").write_bytes((images / "b.jpg").read_bytes())
    (images / "b.jpg").unlink()
    (images / "e.jpeg").touch()
    (images / "f.jpg").touch()
    (images / "g.jpg").write_bytes((images / "a.jpg").read_bytes()[:-200])
    write(workspace / "tiny/train.csv", *(f"{name},0.1,20,15,10,15,30,15" for name in
          ["a.jpg", "b.jpg", "e.jpg", "f.jpg", "g.jpg", "h.jpg", "../tiny/images/a.jpg", "/a.jpg"]),
          "a.jpg,0.1,20,15,900,7,7,7", "a.jpg,0,20,15,10,15,30,15", "a.jpg,0.1,20,15,10,15,x,15")  # fmt: skip
    write(workspace / "tiny/test.csv", "c.png,0.1,20,15,7,7,7,7", "d.png,0.1,20,15,13,15,30,15")
    message = refusal()
    assert "dataset tiny: 11 faults" in message
    for fault in [
        "b.jpg: missing; there is B.jpg, in another case",
        "e.jpg: missing; there is e.jpeg, with another extension",
        "f.jpg: it is empty",
        "g.jpg: it is truncated",
        "h.jpg: missing\n",
        "../tiny/images/a.jpg: an image is named by its path within",
        "/a.jpg: an image is named by its path within",
        "face train/a.jpg#2: landmark 0 is at (900, 7), more than 2 sides of its box",
        "face test/c.png: landmarks 0 and 1 coincide",
        "train.csv, line 11: scale is 0",
        "train.csv, line 12: original_1_x is 'x'",
    ]:
        assert fault in message
    assert hashes("data") == before


def test_the_first_twenty_faults_are_listed_and_the_rest_counted(workspace):
    obtain.main("tiny")
    write(workspace / "tiny/train.csv", *(f"{i}.jpg,0.1,20,15,10,15,30,15" for i in range(50)))
    message = refusal()
    assert "50 faults" in message
    assert message.count("missing") == 20
    assert "and 30 more" in message


def test_numbers_of_faces_that_differ_are_refused_or_with_partial_data_a_warning(workspace, capsys):
    counts = {"train": 2, "test": 3, "subsets": {"blur": 2}}
    describe(counts=counts)
    obtain.main("tiny")
    message = refusal()
    assert "test has 2 faces, and 3 were published" in message
    assert "subset blur has 1 faces, and 2 were published" in message
    assert "source.partial" in message
    (workspace / "tiny/blur.csv").unlink()
    describe(counts=counts, partial=True)
    obtain_and_fetch()
    printed = capsys.readouterr().err
    assert "warning: tiny: test has 2 faces, and 3 were published" in printed
    assert "warning: tiny: subset blur has 0 faces, and 2 were published" in printed


def test_the_inter_pupil_distance_is_checked_where_it_is_official(workspace):
    write_yaml("params/schemes/two.yaml", SCHEME | {"inter_pupil": [[0], [1]]})
    write_yaml("params/datasets/tiny.yaml", DATASET | {"landmarks": {"scheme": "two", "normaliser": "inter_pupil"}})
    obtain.main("tiny")
    write(workspace / "tiny/test.csv", "c.png,0.1,20,15,7,7,7,7", "d.png,0.1,20,15,13,15,30,15")
    message = refusal()
    assert "face test/c.png: landmarks [0] and [1] coincide, so its inter_pupil distance cannot measure" in message
    assert "landmarks.normaliser: box_side" in message


@pytest.fixture
def schemes(workspace):
    """The project's landmark schemes, in the workspace."""
    shutil.copytree(ROOT / "params/schemes", workspace / "params/schemes", dirs_exist_ok=True)


@needs_samples
@pytest.mark.parametrize(
    ("name", "train", "test"), [("wflw", 0, 4), ("300w-private", 0, 2), ("aflw", 0, 2), ("cofw", 2, 2)]
)
def test_the_samples_of_the_benchmarks_are_fetched(workspace, schemes, name, train, test):
    dataset = yaml.safe_load((ROOT / f"params/datasets/{name}.yaml").read_text())
    dataset["source"]["partial"] = True
    if not train:
        dataset["source"]["csv"]["train"] = None
    write_yaml(f"params/datasets/{name}.yaml", dataset)
    locate(name, (SAMPLES / name.split("-")[0]).resolve())
    obtain_and_fetch(name)
    faces = read_faces(workspace / f"data/raw/{name}/faces.parquet")
    assert (faces.split.count("train"), faces.split.count("test")) == (train, test)
    checksums = pd.read_csv(workspace / f"data/raw/{name}/checksums.csv")["image"]
    assert set(faces.image) < set(checksums)
    if name == "aflw":
        assert list(faces.extra["box_size"]) == faces.side.tolist()
    if name == "cofw":
        assert (workspace / "data/raw/cofw/images/test/0001.png").is_file()


def describe_demo(train, test):
    dataset = yaml.safe_load((ROOT / "params/datasets/demo.yaml").read_text())
    dataset["source"]["demo"] |= {"train": train, "test": test, "size": 96}
    write_yaml("params/datasets/demo.yaml", dataset)
    locate("demo", "stages/sources/demo")


def test_the_demo_is_drawn_to_the_same_bytes_again(workspace, schemes):
    describe_demo(6, 3)
    obtain_and_fetch("demo")
    first = hashes("data/raw/demo")
    assert len(first) == 2 + 9
    fetch.main("demo")
    assert hashes("data/raw/demo") == first
    faces = read_faces(Path("data/raw/demo/faces.parquet"))
    assert (faces.split.count("train"), faces.split.count("test"), faces.landmarks.shape) == (6, 3, (9, 98, 2))
    assert np.array_equal(faces.side, np.ceil(faces.side))
    size = load_dataset("demo", "source").source.demo.size
    assert size == Image.open("data/raw/demo/images/test/00002.png").width


def run(name, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.fetch", name]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


def test_an_unknown_dataset_is_one_message_and_a_status(workspace):
    process = run("tinny")
    _, printed = process.communicate()
    assert process.returncode == 1
    assert printed.startswith("error: there is no params/datasets/tinny.yaml. Did you mean tiny?")
    assert "Traceback" not in printed


def start_drawing():
    """A process of the fetch stage that has begun to draw many faces."""
    describe_demo(3000, 10)
    obtain.main("demo")
    process = run("demo", stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not list(Path("data/raw").glob(".demo.*/images/train/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_a_terminated_fetch_ends_at_once_and_leaves_nothing_behind(workspace, schemes):
    process = start_drawing()
    process.send_signal(signal.SIGTERM)
    assert process.wait(3) == 143
    assert os.listdir("data/raw") == []


def test_the_workers_of_a_killed_fetch_end_and_the_next_fetch_cleans_up(workspace, schemes):
    process = start_drawing()
    workers = psutil.Process(process.pid).children()
    assert workers
    process.kill()
    process.wait()
    assert still_running(workers, 10) == []
    assert len(os.listdir("data/raw")) == 1
    describe_demo(2, 1)
    fetch.main("demo")
    assert os.listdir("data/raw") == ["demo"]


def test_a_training_face_without_the_official_normaliser_is_kept_and_counted(workspace, capsys):
    write(workspace / "tiny/train.csv", "a.jpg,0.1,20,15,7,7,7,7", "b.jpg,0.1,20,15,11,15,30,15")
    obtain_and_fetch()
    assert "warning: tiny: training faces without inter_ocular distance: 1 (train/a.jpg first)" in (
        capsys.readouterr().err
    )
    assert len(read_faces(Path("data/raw/tiny/faces.parquet"))) == 4


def test_hidden_and_absent_landmarks_of_a_csv_file_are_counted(workspace, capsys):
    head, *rows = (workspace / "tiny/train.csv").read_text().splitlines()
    (workspace / "tiny/train.csv").write_text(
        "\n".join([head + ",visible_0,visible_1", rows[0] + ",1,2", "b.jpg,0.1,20,15,11,15,,,2,0"]) + "\n"
    )
    obtain_and_fetch()
    assert "data/raw/tiny: train: of 4 landmarks 1 hidden, 1 not annotated\n" in capsys.readouterr().out
    faces = read_faces(Path("data/raw/tiny/faces.parquet"))
    assert faces.annotated.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    assert faces.visible.tolist() == [[False, True], [True, False], [True, True], [True, True]]


def write_symmetric_faces(workspace, n=12):
    """Training faces of two landmarks, 20 px apart, on copies of one image."""
    for i in range(n):
        shutil.copy("tiny/images/a.jpg", f"tiny/images/{i}.jpg")
    rows = [f"{i}.jpg,0.1,20,15,{10 + i % 3},15,30,{14 + i % 4}" for i in range(n)]
    write(workspace / "tiny/train.csv", *rows)


def test_a_scheme_whose_pairs_do_not_fit_the_faces_is_refused(workspace):
    write_symmetric_faces(workspace)
    write_yaml("params/schemes/two.yaml", SCHEME | {"flip_pairs": []})
    describe(counts={})
    obtain.main("tiny")
    message = refusal()
    assert "params/schemes/two.yaml: flip_pairs is empty" in message
    assert "By the mean face it is [[0, 1]]" in message


def test_what_is_left_of_a_copied_dataset_file_is_named(workspace, capsys):
    other = DATASET | {"source": DATASET["source"] | {"csv": {"images": "i", "train": None, "test": "other.csv"}}}
    write_yaml("params/datasets/pattern.yaml", other)
    obtain_and_fetch()
    assert "warning: tiny: about.title is still that of params/datasets/pattern.yaml" in capsys.readouterr().err
    write_symmetric_faces(workspace)
    assert (
        "train has 12 faces, and 2 were published (source.counts is that of params/datasets/pattern.yaml" in refusal()
    )
    write_yaml("params/datasets/pattern.yaml", other | {"about": DATASET["about"] | {"title": "Pattern"}})
    write_yaml("params/datasets/broken.yaml", {"about": 3})
    describe(counts={})
    obtain_and_fetch()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("packed", [False, True])
def test_images_that_no_row_names_are_said(workspace, capsys, packed):
    shutil.copy("tiny/images/a.jpg", "tiny/images/stray.jpg")
    if packed:
        locate("tiny", Path(shutil.make_archive("tiny", "zip", "tiny")).name)
    obtain_and_fetch()
    assert "data/raw/tiny: images that no row names: 1 (stray.jpg)\n" in capsys.readouterr().out


def test_a_share_that_leaves_a_split_empty_is_refused(workspace):
    describe(csv={"images": "images", "train": "train.csv", "test": None}, counts={}, test_share=1e-6)
    obtain.main("tiny")
    assert "source.test_share leaves no face in test: there are too few images" in refusal()
