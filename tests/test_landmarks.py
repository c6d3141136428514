"""`python -m stages.landmarks`: landmarks in images, folders and videos, by the benchmark's own crops."""

import csv
import json
import os
import shutil
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, Project
from PIL import Image

from stages import landmarks
from stages.data.crops import read_crops
from stages.inference.protocol import predict_from_crops
from stages.landmarking import detector, landmarker, media
from stages.landmarking.tracks import Tracks
from stages.model import checkpoint
from stages.model.hrnet import HRNet, HRNetConfig
from stages.predictions.detections import BoxMap
from stages.system.errors import InputError

LFPW = ROOT / "../shared/data/lfpw"
CROWD = ROOT / "../shared/data/samples/wflw"
TINY = HRNetConfig(width=4, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1)
photographs = pytest.mark.skipif(not LFPW.is_dir(), reason="no ../shared/data/lfpw: photographs of faces")


def save_model(folder: Path, scheme: str, count: int, pairs: list) -> Path:
    """A network with random weights, which says the scheme of its landmarks."""
    torch.manual_seed(0)
    model = HRNet(count, TINY)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.1)
    described = {
        "count": count, "flip_pairs": pairs, "groups": {"all": [0]}, "inter_ocular": [0, 1], "scheme": scheme,
        "normaliser": "inter_ocular",
    }  # fmt: skip
    folder.mkdir(parents=True)
    checkpoint.save(folder, model.eval(), {"input": {"size": 64, "box": 1.25, "stretch": False}, "scheme": described})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "three", "three", 3, [[0, 1]])


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8))
    return path


def run(model: Path, *inputs: object, out: Path, **options) -> pd.DataFrame:
    defaults = {
        "draw": False, "boxes": None, "whole_image": False, "detector_score": 0.6, "scheme": None, "flip_test": False,
        "smooth": 0.0, "frames": None, "engine": "auto", "precision": "fp32",
    }  # fmt: skip
    landmarks.main(Namespace(model=str(model), inputs=list(map(str, inputs)), out=out, **defaults | options))
    return pd.read_csv(out / "landmarks.csv")


def points(table: pd.DataFrame, count: int) -> np.ndarray:
    return table[[f"{axis}{k}" for k in range(count) for axis in "xy"]].to_numpy().reshape(len(table), count, 2)


def test_on_a_datasets_own_boxes_they_are_the_benchmarks_predictions(tmp_path, model):
    """The annotation here counts from 1.5: its landmarks lie 1.5 px beyond where they are in the image."""
    project = Project(tmp_path / "project")
    project.change("params/datasets/toy.yaml", "size: 112", "size: 448")
    project.change("params/datasets/toy.yaml", "  form: csv", "  form: csv\n  origin: 1.5")
    for stage in ("obtain", "fetch", "preprocess"):
        project.stage(stage, "toy")
    crops = read_crops(project.folder / "data/crops/toy", "test")
    network, description = checkpoint.load(model)
    expected, scores, _ = predict_from_crops(
        network, crops, checkpoint.input_of(description), batch=8, flip_order=None, perturbed=False
    )
    half = crops.faces.side[:, None] / 2
    corners = np.concatenate([crops.faces.center - half, crops.faces.center + half], 1) - 1.5
    boxes = pd.DataFrame(corners, columns=landmarks.EDGES).assign(image=crops.faces.image)
    boxes.to_csv(tmp_path / "boxes.csv", index=False)
    files = [project.folder / "data/toy/images" / name for name in crops.faces.image]
    table = run(model, *files, out=tmp_path / "out", boxes=tmp_path / "boxes.csv")
    np.testing.assert_allclose(points(table, 3), expected - 1.5, atol=2e-3)  # three decimals are written
    np.testing.assert_allclose(table["confidence0"], scores[:, 0], atol=1e-4)


def test_both_tables_hold_the_same_and_an_overlay_is_drawn(tmp_path, model, picture):
    table = run(model, picture, out=tmp_path / "out", whole_image=True, draw=True)
    assert table.loc[0, ["x_min", "y_min", "x_max", "y_max"]].tolist() == [14.5, -0.5, 104.5, 89.5]
    line = json.loads((tmp_path / "out/landmarks.jsonl").read_text())
    np.testing.assert_allclose(line["landmarks"], points(table, 3)[0])
    assert line["indices"] == [0, 1, 2]
    drawn = cv2.imread(str(tmp_path / "out/overlays/picture.png"))
    assert (drawn != cv2.imread(str(picture))).any()


def test_detected_boxes_are_mapped_as_on_the_models_own_training_faces(tmp_path, model, picture, monkeypatch, capsys):
    """By the map that is stored with the model; by the usual one, which is said, where there is none."""

    class OneBox:
        def __init__(self, *_):
            pass

        def detect(self, image):
            return np.array([[20.0, 10.0, 60.0, 60.0]]), np.array([0.9])

    monkeypatch.setattr(detector, "Detector", OneBox)
    own = shutil.copytree(model, tmp_path / "models/own")
    (own / "calibration.json").write_text('{"boxes": {"x": 0.1, "y": 0.2, "scale": 0.5}, "errors": null}')
    table = run(own, picture, out=tmp_path / "own")
    assert table.loc[0, landmarks.EDGES].tolist() == [45 - 12.5, 45 - 12.5, 45 + 12.5, 45 + 12.5]
    assert "by the map that was fitted on the model's training faces" in capsys.readouterr().err
    table = run(model, picture, out=tmp_path / "usual")
    center, side = detector.USUAL.apply(np.array([[20.0, 10.0, 60.0, 60.0]]))
    np.testing.assert_allclose(table["x_max"], center[:, 0] + side / 2, atol=0.005)
    assert "by the usual map: none was fitted" in capsys.readouterr().err


def test_a_turned_photograph_is_read_upright(tmp_path, model):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (120, 80)).save(tmp_path / "turned.jpg", exif=exif)
    table = run(model, tmp_path / "turned.jpg", out=tmp_path / "out", whole_image=True)
    assert table["y_max"][0] - table["y_min"][0] == 80
    assert (table["x_min"][0] + table["x_max"][0]) / 2 == (80 - 1) / 2
    assert (table["y_min"][0] + table["y_max"][0]) / 2 == (120 - 1) / 2


def test_what_cannot_be_read_is_named_and_the_rest_is_done(tmp_path, model, picture, capsys):
    (tmp_path / "many/within").mkdir(parents=True)
    shutil.copy(picture, tmp_path / "many/a.png")
    shutil.copy(picture, tmp_path / "many/within/a.png")
    (tmp_path / "many/cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    whole = cv2.imencode(".jpg", cv2.imread(str(picture)))[1].tobytes()
    (tmp_path / "many/half.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    (tmp_path / "many/eps.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n")
    (tmp_path / "many/notes.txt").write_text("no image")
    os.mkfifo(tmp_path / "many/fifo.jpg")
    table = run(model, tmp_path / "many", out=tmp_path / "out", whole_image=True, draw=True)
    assert [Path(name).name for name in table["image"]] == ["a.png", "a.png"]
    assert sorted(path.name for path in (tmp_path / "out/overlays").iterdir()) == ["a-2.png", "a.png"]
    printed = capsys.readouterr().err
    assert "cut.jpg: it is a truncated JPEG" in printed
    assert "half.jpg: it is truncated or damaged (of its pixels a part is missing" in printed
    assert "eps.jpg: it is a file of format EPS" in printed


def test_landmarks_are_converted_to_another_scheme_by_their_correspondence(tmp_path, picture):
    model = save_model(tmp_path / "wflw", "wflw", 98, [])
    whole = run(model, picture, out=tmp_path / "own", whole_image=True)
    table = run(model, picture, out=tmp_path / "out", whole_image=True, scheme="300w")
    assert "x67" in table
    assert "x68" not in table
    assert table["x0"][0] == whole["x0"][0]
    assert table["x8"][0] == whole["x16"][0]  # the chin


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,x_min\na.png,1\n", "column y_min is missing"),
        ("image,x_min,y_min,x_max,y_max\na.png,1,1,9,9\na.png,5,5,5,9\n", "row 2: it is no box"),
        ("image,x_min,y_min,x_max,y_max\na.png,1,one,9,9\n", "row 1: it is no box"),
        ("", "it is not a CSV file"),
    ],
)
def test_boxes_that_are_none_are_named(tmp_path, content, message):
    (tmp_path / "boxes.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        landmarks.GivenBoxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["absent.png"], "there is no such file"),
        (["empty"], "it holds no image"),
        (["a.mp4", "b.png"], "is a video: give one video, or images"),
        (["absent.mp4"], r"there is no absent\.mp4"),
        (["camera:x"], "a camera is named camera:0"),
    ],
)
def test_inputs_that_are_none_are_named(tmp_path, monkeypatch, model, inputs, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        run(model, *inputs, out=tmp_path / "out", whole_image=True)
    assert not (tmp_path / "out/landmarks.csv").exists()


def write_video(path: Path, frames: list[np.ndarray], code: str = "MJPG") -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 20, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()


def test_a_video_gives_a_row_for_each_frame_and_a_drawn_video(tmp_path, model):
    rng = np.random.default_rng(1)
    write_video(tmp_path / "clip.avi", [rng.integers(0, 255, (96, 96, 3), np.uint8) for _ in range(6)])
    table = run(model, tmp_path / "clip.avi", out=tmp_path / "out", whole_image=True, draw=True)
    assert table["frame"].tolist() == list(range(6))
    np.testing.assert_allclose(table["seconds"], np.arange(6) / 20)
    assert table["track"].tolist() == [0] * 6
    assert media.Video(str(tmp_path / "out/clip-landmarks.mp4")).frames == 6
    first = run(model, tmp_path / "clip.avi", out=tmp_path / "first", whole_image=True, frames=2)
    assert len(first) == 2


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile clip.avi\n", "#EXTM3U\n#EXTINF:5,\nclip.avi\n", "\ufeff<?xml version='1.0'?><MPD/>"],
)
def test_a_list_of_other_files_is_no_video(tmp_path, text):
    """The decoder would open what it names."""
    write_video(tmp_path / "clip.avi", [np.zeros((96, 96, 3), np.uint8)] * 3)
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(InputError, match=r"list\.mp4: it is a list of other files, which are not opened"):
        media.Video(str(tmp_path / "list.mp4"))
    assert media.Video(str(tmp_path / "clip.avi")).frames == 3


def test_frames_that_cannot_be_decoded_are_counted_and_the_others_done(tmp_path, model, capsys):
    """A file that was cut off: its header promises more frames than there are."""
    rng = np.random.default_rng(1)
    path = tmp_path / "clip.avi"
    write_video(path, [rng.integers(0, 255, (96, 96, 3), np.uint8) for _ in range(40)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    table = run(model, path, out=tmp_path / "out", whole_image=True)
    done = len(table)
    assert 5 < done < 40
    assert media.Video(str(path)).frames in (None, 40) or done == media.Video(str(path)).frames
    promised = media.Video(str(path)).frames or done
    assert ("cannot be decoded" in capsys.readouterr().err) == (promised > done)


def test_smoothing_lags_by_the_frames_that_it_says():
    """A face that moves by 3 px a frame."""
    tracks = Tracks(lag=2.0)
    for frame in range(60):
        position = np.array([[[3.0 * frame, 0.0]]])
        numbers = tracks.assign(np.array([[3.0 * frame, 0, 3.0 * frame + 50, 50]]))
        smoothed = tracks.smooth(numbers, position)
    assert position[0, 0, 0] - smoothed[0, 0, 0] == pytest.approx(2 * 3, rel=1e-6)


def test_a_face_keeps_its_number_while_others_come_go_and_cross():
    tracks = Tracks()
    left, right = np.array([0.0, 0, 50, 50]), np.array([300.0, 0, 350, 50])
    assert tracks.assign(np.stack([left, right])) == [0, 1]
    assert tracks.assign(np.stack([right + 5, left + 5])) == [1, 0]
    assert tracks.assign(np.stack([right])) == [1]
    assert tracks.assign(np.stack([left + 8, right])) == [0, 1]
    assert tracks.assign(np.stack([left + 8, right, left + 150])) == [0, 1, 2]
    for _ in range(20):
        tracks.assign(np.stack([right]))
    assert tracks.assign(np.stack([left, right])) == [3, 1]


@photographs
def test_the_detector_finds_faces_and_its_boxes_are_mapped_to_face_boxes(yunet):
    """Of every eighth test photograph of LFPW; the map was fitted on the training faces."""
    table = pd.read_csv(LFPW / "face_landmarks_lfpw_test.csv").iloc[::8]
    finder, errors, sides = detector.Detector(file=yunet), [], []
    for row in table.itertuples():
        image = cv2.cvtColor(cv2.imread(str(LFPW / "images" / row.image_name)), cv2.COLOR_BGR2RGB)
        boxes, scores = finder.detect(image)
        center, side = detector.USUAL.apply(boxes)
        away = np.hypot(*(center - [row.center_w - 1, row.center_h - 1]).T) / (200 * row.scale)
        errors.append(away.min())
        sides.append(side[np.argmin(away)] / (200 * row.scale))
        assert (scores >= 0.6).all()
    assert np.median(errors) < 0.05
    assert np.percentile(errors, 95) < 0.12
    assert abs(np.median(sides) - 1) < 0.03


def test_the_map_of_boxes_is_found_whatever_a_few_faces_do():
    rng = np.random.default_rng(0)
    corners = np.concatenate([rng.uniform(0, 100, (40, 2)), rng.uniform(200, 300, (40, 2))], 1)
    truth = BoxMap(0.02, 0.13, 0.8)
    center, side = truth.apply(corners)
    corners[:3] = np.nan
    center[3:6] += 400
    fitted = detector.fit(corners, center, side)
    np.testing.assert_allclose([fitted.x, fitted.y, fitted.scale], [0.02, 0.13, 0.8], atol=1e-9)


@pytest.mark.skipif(not CROWD.is_dir(), reason="no ../shared/data/samples/wflw: photographs of crowds")
def test_a_crowd_and_a_large_photograph_have_their_faces_found(yunet, tmp_path):
    finder = detector.Detector(file=yunet)
    counts = {}
    for path in sorted(CROWD.rglob("*.jpg")):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        boxes, _ = finder.detect(image)
        counts[path.name] = len(boxes)
        large, _ = finder.detect(cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))
        assert len(large) >= len(boxes) / 2
    assert max(counts.values()) >= 15
    assert len(finder.detect(np.zeros((50, 2000, 3), np.uint8))[0]) == 0


def test_what_is_written_is_whole_or_not_there(tmp_path, model, picture, monkeypatch):
    """An error in the middle leaves no table under its name."""
    calls = iter([None])
    whole = landmarker.Landmarker.predict

    def breaks(self, *arguments):
        next(calls)
        return whole(self, *arguments)

    monkeypatch.setattr(landmarker.Landmarker, "predict", breaks)
    shutil.copy(picture, tmp_path / "second.png")
    with pytest.raises(StopIteration):
        run(model, picture, tmp_path / "second.png", out=tmp_path / "out", whole_image=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_after_ctrl_c_what_was_found_is_kept(tmp_path, model, monkeypatch):
    write_video(tmp_path / "clip.avi", [np.zeros((96, 96, 3), np.uint8)] * 6)
    calls, whole = [], landmarker.Landmarker.predict

    def stops(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(landmarker.Landmarker, "predict", stops)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "clip.avi", out=tmp_path / "out", whole_image=True, draw=True)
    assert len(pd.read_csv(tmp_path / "out/landmarks.csv")) == 3
    assert media.Video(str(tmp_path / "out/clip-landmarks.mp4")).frames == 3


def test_a_row_is_read_back_by_any_csv_reader(tmp_path, model, picture):
    run(model, picture, out=tmp_path / "out", whole_image=True)
    with open(tmp_path / "out/landmarks.csv", newline="") as file:
        header, row = csv.reader(file)
    assert len(header) == len(row) == 10 + 3 * 4
