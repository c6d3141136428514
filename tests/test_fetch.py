"""The fetch stage: the same bytes from wherever the data comes, and all faults of a dataset in one message."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from conftest import still_running
from PIL import Image

from stages import fetch, params
from stages.data import places
from stages.data.faces import read_faces
from stages.errors import InputError

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "../shared/data/samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/data is absent")

HEADER = "image_name,scale,center_w,center_h,original_0_x,original_0_y,original_1_x,original_1_y"
DATASET = {
    "about": {"title": "Tiny", "licence": "", "citation": "", "homepage": "", "obtain": "", "share_pictures": True},
    "source": {
        "root": None,
        "form": "csv",
        "csv": {"images": "images", "train": "train.csv", "test": "test.csv", "subsets": {"blur": "blur.csv"}},
        "counts": {"train": 2, "test": 2, "subsets": {"blur": 1}},
    },
    "landmarks": {"count": 2, "flip_pairs": [[0, 1]], "groups": {}},
    "normalisers": {"official": "inter_ocular", "inter_ocular": [0, 1]},
    "crops": {"size": 64, "context": 2.0, "val_share": 0.1},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A workspace with the dataset `tiny`, whose files are in its folder `tiny`; the test stands in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "params/datasets").mkdir(parents=True)
    describe()
    folder = tmp_path / "tiny"
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(["a.jpg", "b.jpg", "c.png", "d.png"]):
        Image.new("RGB", (40, 30), (60 * i, 9, 9)).save(folder / "images" / name)
    write(folder / "train.csv", "a.jpg,0.1,20,15,10,15,30,15", "b.jpg,0.1,20,15,11,15,30,15")
    write(folder / "test.csv", "c.png,0.1,20,15,12,15,30,15", "d.png,0.1,20,15,13,15,30,15")
    write(folder / "blur.csv", "d.png,0.1,20,15,13,15,30,15")
    monkeypatch.setenv("DATA_TINY", "tiny")
    return tmp_path


def describe(**source):
    dataset = DATASET | {"source": DATASET["source"] | source}
    Path("params/datasets/tiny.yaml").write_text(yaml.safe_dump(dataset))


def write(path, *rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n")


def hashes(folder):
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def refusal():
    with pytest.raises(InputError) as raised:
        fetch.main("tiny")
    return str(raised.value)


def test_the_table_and_the_checksums_are_written(here, capsys):
    fetch.main("tiny")
    assert "2 train, 2 test faces, 1 blur" in capsys.readouterr().out
    assert hashes("data/raw/tiny").keys() == {"faces.parquet", "checksums.csv"}  # no image is copied
    faces = read_faces(Path("data/raw/tiny/faces.parquet"))
    assert faces.face_id == ["train/a.jpg", "train/b.jpg", "test/c.png", "test/d.png"]
    assert faces.landmarks[:, 0, 0].tolist() == [10, 11, 12, 13]
    assert faces.subsets == [(), (), (), ("blur",)]
    sums = pd.read_csv("data/raw/tiny/checksums.csv").set_index("image")
    assert list(sums.index) == sorted(["a.jpg", "b.jpg", "c.png", "d.png", "train.csv", "test.csv", "blur.csv"])
    for name, row in sums.iterrows():
        data = Path("tiny", name if name.endswith(".csv") else f"images/{name}").read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_wherever_the_data_lies_the_outs_are_the_same_bytes(here, monkeypatch):
    fetch.main("tiny")
    expected = hashes("data/raw/tiny")
    shutil.copytree("tiny", "elsewhere/tiny")
    for root in [str(here / "elsewhere/tiny"), shutil.make_archive("flat", "zip", "tiny"),
                 shutil.make_archive("nested", "gztar", "elsewhere")]:  # fmt: skip
        monkeypatch.setenv("DATA_TINY", root)
        fetch.main("tiny")
        assert hashes("data/raw/tiny") == expected
    archive = sorted(Path("data/downloads/tiny").glob("*/"))
    assert len([entry for entry in archive if entry.is_dir()]) == 2  # unpacked outside what DVC takes


def test_a_url_with_its_checksum_is_a_root(here, monkeypatch):
    fetch.main("tiny")
    expected = hashes("data/raw/tiny")
    monkeypatch.delenv("DATA_TINY")
    archive = Path(shutil.make_archive("tiny", "zip", "tiny"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:  # serves the folder it stands in
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        describe(root=f"http://127.0.0.1:{server.server_port}/tiny.zip", sha256=digest)
        try:
            fetch.main("tiny")
        finally:
            server.shutdown()
            thread.join()
    assert hashes("data/raw/tiny") == expected
    fetch.main("tiny")  # the server is gone, and not needed again
    source = params.dataset("tiny", "source").source
    images = places.images_folder("tiny", places.data_root("tiny", source), source)
    assert sorted(os.listdir(images)) == ["a.jpg", "b.jpg", "c.png", "d.png"]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_an_experiment_that_dvc_runs_elsewhere_finds_the_data(here, monkeypatch):
    fetch.main("tiny")
    expected = hashes("data/raw/tiny")
    (here / "queue").mkdir()
    shutil.copytree("params", "queue/params")
    monkeypatch.chdir("queue")
    monkeypatch.setenv("DVC_ROOT", str(here))
    fetch.main("tiny")
    assert hashes("data/raw/tiny") == expected


def test_all_faults_of_a_dataset_are_told_at_once_and_the_last_good_outs_stay(here):
    fetch.main("tiny")
    before = hashes("data")
    images = here / "tiny/images"
    (images / "B.jpg").write_bytes((images / "b.jpg").read_bytes())
    (images / "b.jpg").unlink()
    (images / "e.jpeg").touch()
    (images / "f.jpg").touch()
    (images / "g.jpg").write_bytes((images / "a.jpg").read_bytes()[:-200])
    write(here / "tiny/train.csv", *(f"{name},0.1,20,15,10,15,30,15" for name in
          ["a.jpg", "b.jpg", "e.jpg", "f.jpg", "g.jpg", "h.jpg", "../tiny/images/a.jpg", "/a.jpg"]),
          "a.jpg,0.1,20,15,7,7,7,7", "a.jpg,0,20,15,10,15,30,15", "a.jpg,0.1,20,15,10,15,x,15")  # fmt: skip
    told = refusal()
    assert "dataset tiny: 10 faults" in told
    for fault in [
        "b.jpg: missing; there is B.jpg, in another case",
        "e.jpg: missing; there is e.jpeg, with another extension",
        "f.jpg: it is empty",
        "g.jpg: it is truncated",
        "h.jpg: missing\n",
        "../tiny/images/a.jpg: an image is named by its path within",
        "/a.jpg: an image is named by its path within",
        "face train/a.jpg#2: landmarks 0 and 1 lie at one point",
        "train.csv, line 11: scale is 0",
        "train.csv, line 12: original_1_x is 'x'",
    ]:
        assert fault in told
    assert hashes("data") == before


def test_of_many_faults_twenty_are_told_and_the_rest_counted(here):
    write(here / "tiny/train.csv", *(f"{i}.jpg,0.1,20,15,10,15,30,15" for i in range(50)))
    told = refusal()
    assert "50 faults" in told
    assert told.count("missing") == 20
    assert "and 30 more" in told


def test_numbers_of_faces_that_differ_are_refused_or_on_purpose_a_warning(here, capsys):
    counts = {"train": 2, "test": 3, "subsets": {"blur": 2}}
    describe(counts=counts)
    told = refusal()
    assert "test has 2 faces, and 3 were published" in told
    assert "subset blur has 1 faces, and 2 were published" in told
    assert "source.partial" in told
    (here / "tiny/blur.csv").unlink()
    describe(counts=counts, partial=True)
    fetch.main("tiny")
    printed = capsys.readouterr().out
    assert "warning: tiny: test has 2 faces, and 3 were published" in printed
    assert "warning: tiny: subset blur has 0 faces, and 2 were published" in printed


def test_the_inter_pupil_distance_is_checked_where_it_is_official(here):
    dataset = DATASET | {"normalisers": {"official": "inter_pupil", "inter_pupil": [[0], [1]]}}
    Path("params/datasets/tiny.yaml").write_text(yaml.safe_dump(dataset))
    write(here / "tiny/train.csv", "a.jpg,0.1,20,15,7,7,7,7", "b.jpg,0.1,20,15,11,15,30,15")
    assert "face train/a.jpg: landmarks [0] and [1] lie at one point, so its inter_pupil distance is 0" in refusal()


@needs_samples
@pytest.mark.parametrize(
    ("name", "train", "test"), [("wflw", 0, 4), ("300w-private", 0, 2), ("aflw", 0, 2), ("cofw", 2, 2)]
)
def test_the_samples_of_the_benchmarks_are_fetched(here, monkeypatch, name, train, test):
    dataset = yaml.safe_load((ROOT / f"params/datasets/{name}.yaml").read_text())
    dataset["source"]["partial"] = True
    if not train:
        dataset["source"]["csv"]["train"] = None
    (here / f"params/datasets/{name}.yaml").write_text(yaml.safe_dump(dataset))
    monkeypatch.setenv(f"DATA_{name.upper().replace('-', '_')}", str((SAMPLES / name.split("-")[0]).resolve()))
    fetch.main(name)
    faces = read_faces(here / f"data/raw/{name}/faces.parquet")
    assert (faces.split.count("train"), faces.split.count("test")) == (train, test)
    sums = pd.read_csv(here / f"data/raw/{name}/checksums.csv")["image"]
    assert set(faces.image) < set(sums)
    if name == "aflw":
        assert list(faces.extra["box_size"]) == faces.side.tolist()
    if name == "cofw":
        assert (here / "data/raw/cofw/images/test/0001.png").is_file()


def demo(train, test):
    dataset = yaml.safe_load((ROOT / "params/datasets/demo.yaml").read_text())
    dataset["source"]["demo"] |= {"train": train, "test": test, "size": 96}
    Path("params/datasets/demo.yaml").write_text(yaml.safe_dump(dataset))


def test_the_demo_is_drawn_to_the_same_bytes_again(here):
    demo(6, 3)
    fetch.main("demo")
    first = hashes("data/raw/demo")
    assert len(first) == 2 + 9
    fetch.main("demo")
    assert hashes("data/raw/demo") == first
    faces = read_faces(Path("data/raw/demo/faces.parquet"))
    assert (faces.split.count("train"), faces.split.count("test"), faces.landmarks.shape) == (6, 3, (9, 98, 2))
    assert np.array_equal(faces.side, np.ceil(faces.side))
    assert params.dataset("demo", "source").source.demo.size == Image.open("data/raw/demo/images/test/00002.png").width


def run(name, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.fetch", name]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


def test_an_unknown_dataset_is_one_message_and_a_status(here):
    process = run("tinny")
    _, told = process.communicate()
    assert process.returncode == 1
    assert told.startswith("error: there is no params/datasets/tinny.yaml. Did you mean tiny?")
    assert "Traceback" not in told


def started(drawn):
    """A fetch of many faces that has begun to draw."""
    demo(3000, 10)
    process = run("demo", stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not list(drawn.glob(".demo.*/images/train/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_a_fetch_that_is_stopped_ends_at_once_and_leaves_nothing(here):
    process = started(Path("data/raw"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(3) == 143
    assert os.listdir("data/raw") == []


def test_a_fetch_that_is_killed_takes_its_processes_along_and_the_next_one_cleans_up(here):
    process = started(Path("data/raw"))
    workers = psutil.Process(process.pid).children()
    assert workers
    process.kill()
    process.wait()
    assert still_running(workers, 10) == []
    assert len(os.listdir("data/raw")) == 1
    demo(2, 1)
    fetch.main("demo")
    assert os.listdir("data/raw") == ["demo"]
