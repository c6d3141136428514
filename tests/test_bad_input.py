"""Bad input gives one clear message that names the file and the remedy, and nothing is lost or half-written.

The stages run in this process, on a copy of a toy project whose faces are fetched and cut; a few run as commands.
"""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import Project

from stages import (
    detect,
    evaluate,
    evaluate_weights,
    explore,
    fetch,
    import_dataset,
    label_suspects,
    obtain,
    predict,
    preprocess,
    report,
    score,
    submit,
    train,
)
from stages.config.schemes import load_dataset_scheme
from stages.importing import arguments as import_arguments
from stages.system import files
from stages.system.errors import InputError

STAGES = {module.__name__.removeprefix("stages."): module for module in
          (obtain, fetch, preprocess, train, predict, evaluate)}  # fmt: skip
DATASET_STAGES = ("obtain", "fetch", "preprocess")


@pytest.fixture
def workspace(cut_project, tmp_path, monkeypatch) -> Path:
    """A copy of the toy project, to be damaged, as the working directory."""
    for name in ("params", "data", "models"):
        shutil.copytree(cut_project.folder / name, tmp_path / name)
    for name in ("dvc.yaml", "constraints.txt", "stages"):
        (tmp_path / name).symlink_to(cut_project.folder / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDMARKS_TRACKING", "off")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    """The content of every file and the name of every folder below."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def refused(stage: str, name: str | None = None) -> str:
    """The message with which a stage refuses; what was there before must be unchanged, and nothing added."""
    name = name or ("toy" if stage in DATASET_STAGES else "toy-tiny")
    before = {folder: contents(Path(folder)) for folder in ("data", "models", "reports")}
    with pytest.raises(InputError) as raised:
        STAGES[stage].main(name)
    assert {folder: contents(Path(folder)) for folder in before} == before
    return str(raised.value)


def change(file: str, old: str, new: str, count: int = -1) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new, count))


def cell(file: str, line: int, column: int, value: str | None) -> None:
    """Set one field of a CSV file, or remove it; lines count from 1."""
    lines = Path(file).read_text().splitlines()
    fields = lines[line - 1].split(",")
    fields[column : column + 1] = [] if value is None else [value]
    lines[line - 1] = ",".join(fields)
    Path(file).write_text("\n".join(lines) + "\n")


# ---- images


def jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def png() -> bytes:
    return Path("data/toy/images/test0.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (lambda: None, "missing"),
        (lambda: b"", "it is empty (0 bytes). Get the file again."),
        (lambda: b"<html>404</html>", "it is not a readable image"),
        (lambda: jpeg()[:-500], "it is truncated"),
        (lambda: jpeg()[:100], "it is a truncated JPEG"),
        (lambda: png()[:-500], "it is truncated"),
        (lambda: png()[:16] + bytes(4) + png()[20:], "it is an image of zero size (0×120 px)"),
    ],
    ids=["missing", "empty", "text", "truncated JPEG", "JPEG's head", "truncated PNG", "zero size"],
)
def test_an_image_that_is_missing_or_broken_is_refused_by_fetch(workspace, content: Callable[[], bytes | None], fault):
    image = Path("data/toy/images/train3.png")
    damaged = content()
    image.unlink()
    if damaged is not None:
        image.write_bytes(damaged)
    message = refused("fetch")
    assert "dataset toy: 1 fault" in message
    assert f"{image}: {fault}" in message
    assert "Fix these, then run the same command again." in message


def test_a_folder_in_the_place_of_an_image_is_refused(workspace):
    Path("data/toy/images/train3.png").unlink()
    Path("data/toy/images/train3.png").mkdir()
    assert "data/toy/images/train3.png: cannot be read (Is a directory)" in refused("fetch")
    assert "data/toy/images/train3.png: cannot be read (Is a directory)" in refused("preprocess")


def test_an_image_whose_middle_is_damaged_is_refused_before_it_becomes_a_face(workspace):
    content = bytearray(png())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    Path("data/toy/images/test0.png").write_bytes(content)
    assert "data/toy/images/test0.png: it is truncated or damaged" in refused("fetch")


def test_all_images_that_are_missing_or_changed_since_fetch_are_reported_at_once(workspace):
    Path("data/toy/images/test0.png").unlink()
    shutil.copy("data/toy/images/test2.png", "data/toy/images/test1.png")
    message = refused("preprocess")
    assert "data/toy/images: 2 faults" in message
    assert "data/toy/images/test0.png: missing, and it was there when it was fetched" in message
    assert "data/toy/images/test1.png: changed since it was fetched" in message


def test_an_impossible_face_box_is_refused(workspace):
    cell("data/toy/train.csv", 2, 1, "35.0")  # in px, not in units of 200 px
    for file in ("data/toy/test.csv", "data/toy/test_blur.csv"):
        cell(file, 3, 2, "9000")
    assert "face test/test1.png: its landmarks are 229.2 sides of its box (39.0026 px) from the box" in refused("fetch")
    for file in ("data/toy/test.csv", "data/toy/test_blur.csv"):
        for column, x in ((4, "8990"), (6, "9010"), (8, "9000")):
            cell(file, 3, column, x)
    fetch.main("toy")  # it does not know the images' sizes
    message = refused("preprocess")
    assert "train0.png: face train/train0.png: its crop would be 15312 px wide in an image of 120×120 px" in message
    assert "test1.png: face test/test1.png: its box is outside its image of 120×120 px" in message


# ---- annotation files

HEAD = "data/toy/train.csv: "
ROW = "data/toy/train.csv, line 5: "


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (
            lambda: Path("data/toy/train.csv").unlink(),
            "1 of its files are missing from data/toy (it holds images/, test.csv, test_blur.csv): train.csv",
        ),
        (lambda: Path("data/toy/train.csv").write_text(""), HEAD + "it is empty"),
        (lambda: Path("data/toy/train.csv").write_bytes(png()), HEAD + "it is not a CSV file"),
        (lambda: change("data/toy/train.csv", "center_w", "centre_w"), HEAD + "column center_w is missing"),
        (lambda: cell("data/toy/train.csv", 1, 9, None), HEAD + "column original_2_y is missing"),
        (lambda: cell("data/toy/train.csv", 5, 9, None), ROW + "9 fields, and the header has 10"),
        (lambda: cell("data/toy/train.csv", 5, 9, "1,2"), ROW + "11 fields, and the header has 10"),
        (lambda: cell("data/toy/train.csv", 5, 4, "left"), ROW + "original_0_x is 'left', not a number"),
        (lambda: cell("data/toy/train.csv", 5, 4, ""), ROW + "original_0_x is '', not a number"),
        (lambda: cell("data/toy/train.csv", 5, 4, "nan"), ROW + "original_0_x is nan"),
        (lambda: cell("data/toy/train.csv", 5, 2, "-inf"), ROW + "center_w is -inf"),
        (lambda: cell("data/toy/train.csv", 5, 1, "0"), ROW + "scale is 0, so the face's box has no size"),
        (lambda: cell("data/toy/train.csv", 5, 1, "-0.2"), ROW + "scale is -0.2, so the face's box has no size"),
        (lambda: cell("data/toy/train.csv", 5, 0, ""), "data/toy/images: cannot be read (Is a directory)"),
        (lambda: cell("data/toy/train.csv", 5, 0, "a\0.png"), "cannot be read (embedded null byte)"),
        (
            lambda: cell("data/toy/test_blur.csv", 2, 4, "1"),
            "data/toy/test_blur.csv, line 2: no row of test.csv has this image",
        ),
    ],
)
def test_a_faulty_annotation_file_is_refused_with_its_row(workspace, damage, fault):
    damage()
    assert fault in refused("fetch")


def test_coinciding_eye_corners_are_refused_with_the_face(workspace):
    lines = Path("data/toy/test.csv").read_text().splitlines()
    x, y = lines[10].split(",")[4:6]
    cell("data/toy/test.csv", 11, 6, x)
    cell("data/toy/test.csv", 11, 7, y)
    fault = "face test/test9.png: landmarks 0 and 1 coincide, so its inter_ocular distance cannot measure an error"
    assert fault in refused("fetch")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_a_face_is_refused(workspace, split):
    header = Path("data/toy/train.csv").read_text().splitlines()[0]
    Path(f"data/toy/{split}.csv").write_text(header + "\n")
    Path("data/toy/test_blur.csv").write_text(header + "\n")
    assert f"split {split} holds no face" in refused("fetch")


def test_the_first_twenty_faults_are_listed_and_the_rest_counted(workspace):
    for line in range(2, 32):
        cell("data/toy/train.csv", line, 4, "?")
    for i in range(5):
        Path(f"data/toy/images/test{i}.png").write_bytes(b"")
    message = refused("fetch")
    assert "dataset toy: 35 faults" in message
    assert message.count("  - ") == 20
    assert "… and 15 more" in message


# ---- parameters

DATASET, RECIPE = "params/datasets/toy.yaml", "params/recipes/tiny.yaml"
PIPELINE, SCHEME, RESOLVED = "params/pipeline.yaml", "params/schemes/three.yaml", "data/schemes/toy.json"


@pytest.mark.parametrize(
    ("stage", "file", "old", "new", "fault"),
    [
        ("fetch", DATASET, "form: csv", "form: cvs", "source.form"),
        ("fetch", DATASET, "form: csv", "from: csv", "source.from: unknown key; did you mean form?"),
        ("fetch", PIPELINE, "toy: {source: data/toy}", "toy: {root: data/toy}", "datasets.toy.source: missing"),
        ("obtain", SCHEME, "count: 3", "count: three", "count: "),
        ("obtain", SCHEME, "[0, 1]}", "[0, 7]}", "landmarks [7] are named, and there are 3 (0 to 2)"),
        (
            "obtain",
            DATASET,
            "scheme: three",
            "scheme: thre",
            "there is no params/schemes/thre.yaml. Did you mean three?",
        ),
        ("obtain", DATASET, "normaliser: inter_ocular", "normaliser: inter_pupil", "scheme three does not define"),
        (
            "fetch",
            RESOLVED,
            '"count": 3',
            '"count": 5',
            "it has 3 landmarks per face, and the dataset's scheme (params/schemes) has 5",
        ),
        ("fetch", DATASET, "crops:", "corps:", "corps: unknown section"),
        ("fetch", DATASET, "about: {", "about: {{", "is not valid YAML"),
        ("preprocess", DATASET, "size: 112", "size: 112.5", "crops.size"),
        ("preprocess", DATASET, "val_share: 0.2", "val_share: 1.0", "crops.val_share"),
        ("train", RECIPE, "epochs: 4", "epochs: many", "train.epochs"),
        ("train", RECIPE, "epochs: 4", "epoch: 4", "train.epoch: unknown key; did you mean epochs?"),
        ("train", RECIPE, "lr: 0.01", "lr: -0.01", "train.lr"),
        ("train", RECIPE, "scale: 0.25", "scale: 0.9", "the recipe's augmentation needs"),
        ("train", RECIPE, "size: 64", "size: 256", "too coarse for an input of 256 px"),
        ("train", RESOLVED, '"count": 3', '"count": 4', "3 landmarks a face, and the dataset's scheme has 4"),
        ("predict", RECIPE, "flip_test: false", "flip_test: maybe", "evaluate.flip_test"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_file_and_key(workspace, stage, file, old, new, fault):
    change(file, old, new)
    message = refused(stage)
    assert fault in message
    assert "params" in message


@pytest.mark.parametrize("stage", ["obtain", "fetch"])
def test_a_missing_source_is_refused_with_how_to_get_it(workspace, stage):
    change(PIPELINE, "source: data/toy", "source: data/tou")
    message = refused(stage)
    for part in ("data/tou (there is no such folder): train.csv, test.csv, test_blur.csv, images/",
                 "How to get them: made by the tests", "Put them into data/tou"):  # fmt: skip
        assert part in message


@pytest.mark.parametrize(
    ("stage", "name", "message"),
    [
        ("fetch", "tog", "there is no params/datasets/tog.yaml. Did you mean toy?"),
        ("preprocess", "tog", "there is no params/datasets/tog.yaml. Did you mean toy?"),
        (
            "train",
            "toy-tin",
            "there is no experiment 'toy-tin' in params/pipeline.yaml. Did you mean toy-tiny? Known: toy-tiny.",
        ),
        (
            "evaluate",
            "toy-tin",
            "there is no experiment 'toy-tin' in params/pipeline.yaml. Did you mean toy-tiny? Known: toy-tiny.",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_exist(workspace, stage, name, message):
    assert message in refused(stage, name)


@pytest.mark.parametrize("switch", ["on", "off"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_word_that_is_no_name_is_refused_and_nothing_is_touched(workspace, monkeypatch, stage, switch):
    monkeypatch.setenv("LANDMARKS_TRACKING", switch)
    monkeypatch.setenv("DVC_ROOT", str(workspace))
    (workspace / "F").mkdir()
    before = contents(workspace)
    for name in (
        str(workspace / "F"),
        "../..",
        "x; touch G; true",
        "$(touch G)",
        "größe",
        "a/b",
        "toy\n",
        "a.",
        "a" * 300,
    ):
        message = refused(stage, name)
        assert "is not a name" in message or "there is no experiment" in message
        assert "\n" not in message
    with pytest.raises(InputError):  # the empty name
        STAGES[stage].main("")
    assert contents(workspace) == before


# Every other command that is given a name on its command line, by a function of that name
COMMANDS = {
    "detect": lambda name: detect.main(name, None),
    "submit": lambda name: submit.main(name),
    "explore": lambda name: explore.main(name),
    "score --dataset": lambda name: score.main(name, Path("x.csv")),
    "score --scheme": lambda name: score.main("toy", Path("x.csv"), scheme_name=name),
    "evaluate_weights": lambda name: evaluate_weights.main(name, Path("w.pth"), "exact", Path("out"), None),
    "label_suspects": lambda name: label_suspects.main(name, None, False, 0.1),
    "label_suspects --methods": lambda name: label_suspects.main("toy", [name, name], False, 0.1),
    "label_suspects --cross-fit": lambda name: label_suspects.cross_fit(name, 2, 0.1),
    "report compare": lambda name: report.compare_experiments(name, name),
    "import_dataset --name": lambda name: import_dataset.main(import_words("--name", name)),
    "import_dataset --scheme": lambda name: import_dataset.main(import_words("--name", "mine", "--scheme", name)),
    "landmarks --scheme": lambda name: load_dataset_scheme(name, "inter_ocular", name),
}


def import_words(*words: str):
    return import_arguments.parse("", ["--pts", "data/toy/images", *words])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_word_that_is_no_name_is_refused_by_every_other_command(workspace, command):
    outside = workspace.parent / f"{workspace.name}-outside"
    outside.mkdir()
    (outside / "provenance.json").write_text("{}")
    before = contents(workspace), contents(outside)
    for name in (str(outside), f"../{outside.name}", "../..", "x; touch G; true", "größe", "toy\n", "a" * 300, "a\0b"):
        with pytest.raises(InputError):
            COMMANDS[command](name)
    assert (contents(workspace), contents(outside)) == before


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("recipe: tiny", "recipe: tiney", "there is no params/recipes/tiney.yaml. Did you mean tiny?"),
        ("{dataset: toy", "{dataset: tog", "experiments.toy-tiny: dataset tog is not listed under datasets"),
        ("{dataset: toy", "{data: toy", "experiments.toy-tiny.data: unknown key"),
    ],
)
def test_an_experiment_of_unknown_parts_is_refused(workspace, old, new, fault):
    change(PIPELINE, old, new)
    assert fault in refused("train")


def test_a_training_without_faces_to_train_on_or_to_select_by_is_refused(workspace):
    change(DATASET, "val_share: 0.2", "val_share: 0.9999")
    preprocess.main("toy")
    assert "the train split is empty" in refused("train")
    change(DATASET, "val_share: 0.9999", "val_share: 0.0")
    preprocess.main("toy")
    assert "val has no face, so no best epoch can be chosen on it" in refused("train")


# ---- what other stages made


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("preprocess", "data/raw/toy/faces.parquet"),
        ("preprocess", "data/raw/toy/checksums.csv"),
        ("train", "data/crops/toy/train.npy"),
        ("train", "data/crops/toy/val.parquet"),
        ("predict", "data/crops/toy/test.npy"),
        ("evaluate", "data/crops/toy/test.npy"),
        ("evaluate", "data/crops/toy/test.parquet"),
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"half of it"], ids=["missing", "empty", "damaged"])
def test_a_missing_or_damaged_file_of_an_earlier_stage_is_named(workspace, stage, file, content):
    Path(file).unlink()
    if content is not None:
        Path(file).write_bytes(content)
    message = refused(stage)
    assert file in message
    assert "dvc repro" in message


def test_predicting_without_a_model_and_evaluating_without_predictions_name_what_is_missing(workspace):
    assert "models/toy-tiny" in refused("predict")
    assert "data/predictions/toy-tiny.parquet is missing: run dvc repro" in refused("evaluate")


# ---- a full disk


def disk_full(*_) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_too_small_is_reported_before_anything_is_written(workspace, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    message = refused("preprocess")
    assert "52 crops of 112 px needs 1.87 MiB in data/crops/toy, and 1.00 MiB are free: free some space" in message


@pytest.mark.parametrize("stage", ["fetch", "preprocess"])
def test_a_disk_that_fills_up_loses_nothing(workspace, monkeypatch, stage):
    monkeypatch.setattr(os, "posix_fallocate", disk_full)
    monkeypatch.setattr(fetch, "write_faces", disk_full)
    message = refused(stage)
    assert "the disk is full: data/" in message
    assert "free some space and run the same command again" in message


SMALL = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && "$@"; status=$?; find data -name ".*"; exit $status'
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
MAY_MOUNT = shutil.which("unshare") and not subprocess.run([*NAMESPACE, "mount -t tmpfs tmpfs . 2>&1"]).returncode


@pytest.mark.skipif(not MAY_MOUNT, reason="this machine does not allow mounting a small disk")
@pytest.mark.parametrize(
    ("stage", "space", "message"),
    [
        ("fetch", "12k", "the disk is full: data/raw/toy needs more than the 0.01 MiB that could be written"),
        ("preprocess", "1m", "cutting 52 crops of 112 px needs 1.87 MiB in data/crops/toy, and 1.00 MiB are free"),
        ("preprocess", "1916k", "the disk is full: data/crops/toy needs more than the"),
    ],
)
def test_a_full_disk_gives_one_message_and_an_exit_status(cut_project, stage, space, message):
    disk = {"fetch": "data/raw", "preprocess": "data/crops"}[stage]
    command = [*NAMESPACE, SMALL, "sh", space, disk, sys.executable, "-m", f"stages.{stage}", "toy"]
    printed = cut_project.run(*command, fails=True)
    assert f"error: {message}" in printed
    assert "Traceback" not in printed
    assert ".tmp" not in printed, "nothing half-written is left or named"


# ---- the commands themselves


def test_a_command_that_refuses_prints_one_message_and_fails(project: Project):
    (project.folder / "data/toy/images/train3.png").write_bytes(b"")
    project.stage("obtain", "toy")
    before = contents(project.folder / "data")
    printed = project.stage("fetch", "toy", fails=True)
    assert printed.startswith("error: dataset toy: 1 fault\n  - data/toy/images/train3.png: it is empty")
    assert "Traceback" not in printed
    assert contents(project.folder / "data") == before | {"raw": None}
    printed = project.stage("preprocess", "toy", fails=True)
    assert printed == (
        "error: data/raw/toy/faces.parquet is missing: run dvc repro (or dvc checkout, where it was made before).\n"
    )
