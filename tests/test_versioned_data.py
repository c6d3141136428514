"""Everything that the figures are made of is a dependency: a change is noticed, and only what it affects runs again."""

import json
import re
import shutil
from pathlib import Path

import cv2
import pytest
from conftest import Project

FIRST = {"resolve", "obtain@toy"}
REPORT = {"report", "explore@toy"}
MADE = {"fetch@toy", "preprocess@toy", "detect@toy", "train@toy-tiny", "predict@toy-tiny", "evaluate@toy-tiny"}
ALL = MADE | REPORT
MEASURED_AGAIN = ALL - {"train@toy-tiny"}


def stale(project: Project) -> set[str]:
    """The stages that `dvc status` lists."""
    return set(re.findall(r"^(\S+):$", project.run("dvc", "status"), re.MULTILINE))


def repro(project: Project, *arguments: str) -> set[str]:
    """The stages that `dvc repro` runs."""
    return set(re.findall(r"Running stage '(\S+)'", project.run("dvc", "repro", *arguments)))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("made")).with_dvc()
    assert repro(project) == ALL | FIRST
    return project


@pytest.fixture
def copy(made, tmp_path) -> Project:
    """A copy of a project in which `dvc repro` has nothing to do."""
    shutil.copytree(made.folder, tmp_path / "copy", symlinks=True)
    return made.at(tmp_path / "copy")


def provenance(project: Project, name: str) -> dict:
    return json.loads((project.folder / "reports/experiments" / name / "provenance.json").read_text())


def change_number(project: Project, file: str) -> None:
    path = project.folder / "data/toy" / file
    lines = path.read_text().splitlines()
    name, *numbers = lines[-1].split(",")
    numbers[3] = f"{float(numbers[3]) + 0.5:.6f}"
    path.write_text("\n".join([*lines[:-1], ",".join([name, *numbers])]) + "\n")


def change_pixel(project: Project, image: str) -> None:
    path = str(project.folder / "data/toy/images" / image)
    pixels = cv2.imread(path)
    pixels[60, 60] = 255 - pixels[60, 60]
    cv2.imwrite(path, pixels)


def test_a_changed_number_of_a_training_face_trains_again(copy):
    change_number(copy, "train.csv")
    assert stale(copy) == {"fetch@toy"}
    assert repro(copy) == ALL


def test_a_changed_number_of_a_test_face_trains_nothing(copy):
    change_number(copy, "test.csv")
    assert stale(copy) == {"fetch@toy"}
    assert repro(copy) == MEASURED_AGAIN


def test_a_changed_pixel_of_a_test_image_trains_nothing(copy):
    change_pixel(copy, "test0.png")
    assert stale(copy) == {"fetch@toy"}
    assert repro(copy) == MEASURED_AGAIN


def test_an_added_image_without_annotation_is_noticed_and_changes_nothing(copy):
    images = copy.folder / "data/toy/images"
    shutil.copy(images / "test0.png", images / "another.png")
    assert stale(copy) == {"fetch@toy"}
    assert repro(copy) == {"fetch@toy"}


def test_a_deleted_image_is_noticed_and_named(copy):
    image = copy.folder / "data/toy/images/test0.png"
    pixels = image.read_bytes()
    image.unlink()
    assert stale(copy) == {"fetch@toy"}
    assert "data/toy/images/test0.png: missing" in copy.run("dvc", "repro", fails=True)
    image.write_bytes(pixels)
    assert repro(copy) == set(), "the previous outs are in DVC's cache"
    assert stale(copy) == set()


def test_a_touched_file_runs_nothing(copy):
    for file in ("train.csv", "images", "images/test0.png"):
        (copy.folder / "data/toy" / file).touch()
    (copy.folder / "models/random").touch()
    assert stale(copy) == set()
    assert repro(copy) == set()


def test_a_link_to_the_dataset_s_folder_is_followed(copy):
    (copy.folder / "data/toy").rename(copy.folder.parent / "elsewhere")
    (copy.folder / "data/toy").symlink_to(copy.folder.parent / "elsewhere")
    assert stale(copy) == set()
    change_number(copy, "test.csv")
    assert stale(copy) == {"fetch@toy"}


def test_a_changed_archive_is_read_again(made, tmp_path):
    project = Project(tmp_path / "project")
    toy, archive = project.folder / "data/toy", tmp_path / "project/data/toy.zip"
    shutil.make_archive(str(archive.with_suffix("")), "zip", project.folder / "data", "toy")
    toy.rename(tmp_path / "toy")
    project.change("params/pipeline.yaml", "source: data/toy", "source: data/toy.zip")
    project.with_dvc()
    assert repro(project) == ALL | FIRST
    same = Path("data/raw/toy/faces.parquet")
    assert (project.folder / same).read_bytes() == (made.folder / same).read_bytes()
    assert {path.name for path in (project.folder / "data/raw/toy").iterdir()} == {
        "checksums.csv", "faces.parquet", "images"
    }  # fmt: skip
    (project.folder / "data/toy").symlink_to(tmp_path / "toy")
    change_number(project, "test.csv")
    (project.folder / "data/toy").unlink()
    archive.unlink()
    shutil.make_archive(str(archive.with_suffix("")), "zip", tmp_path, "toy")
    assert stale(project) == {"fetch@toy"}
    assert repro(project) == MEASURED_AGAIN


def test_changed_initial_weights_train_what_starts_from_them(copy):
    model, start = copy.folder / "models/toy-tiny/model.safetensors", copy.folder / "models/start.safetensors"
    shutil.copy(model, start)
    line = "  toy-tuned: {dataset: toy, recipe: tiny, init: start.safetensors}\n"
    copy.change("params/pipeline.yaml", "cross_dataset: {}", f"{line}cross_dataset: {{}}")
    copy.stage("check")
    tuned = {f"{stage}@toy-tuned" for stage in ("train", "predict", "evaluate")} | REPORT
    assert repro(copy) == tuned | {"resolve"}
    before = provenance(copy, "toy-tuned")
    content = bytearray(start.read_bytes())
    content[-400] ^= 0x10
    start.write_bytes(content)
    assert stale(copy) == {"train@toy-tuned"}
    assert repro(copy) == tuned
    after = provenance(copy, "toy-tuned")
    assert before["fingerprint"] != after["fingerprint"]
    assert {name for name in before["hashes"] if before["hashes"][name] != after["hashes"][name]} == {"init", "model"}


def test_an_experiment_that_starts_from_another_one_depends_on_its_model(copy):
    line = "  toy-tuned: {dataset: toy, recipe: tiny, init: toy-tiny}\n"
    copy.change("params/pipeline.yaml", "cross_dataset: {}", f"{line}cross_dataset: {{}}")
    copy.stage("check")
    repro(copy, "train@toy-tuned")
    copy.change("params/recipes/tiny.yaml", "lr: 0.01", "lr: 0.02")
    assert {"train@toy-tiny", "train@toy-tuned"} <= stale(copy)
    copy.change("params/recipes/tiny.yaml", "lr: 0.02", "lr: 0.01")
    assert not {"train@toy-tiny", "train@toy-tuned"} & stale(copy)
    shutil.copy(copy.folder / "models/random", copy.folder / "models/toy-tiny/model.json")
    assert "train@toy-tuned" in stale(copy)


def test_a_changed_published_figure_renders_again(copy):
    copy.change("stages/reporting/published.yaml", "{test: 4.60,", "{test: 4.61,")
    assert stale(copy) == REPORT
    assert repro(copy) == REPORT


@pytest.mark.parametrize(
    ("file", "runs"),
    [
        ("stages/tracking/run.py", set()),
        ("stages/config/experiment.py", set()),
        ("stages/system/files.py", set()),
        ("stages/reporting/tables.py", REPORT),
        ("stages/metrics/summary.py", {"evaluate@toy-tiny"} | REPORT),
        ("stages/inference/cost.py", {"predict@toy-tiny"}),  # to the same bytes
    ],
)
def test_an_edited_comment_runs_only_what_the_code_decides(copy, file, runs):
    path = copy.folder / file
    path.write_text(path.read_text() + "\n# a comment\n")
    assert repro(copy) == runs


def test_missing_data_are_asked_for_with_what_to_do(tmp_path):
    project = Project(tmp_path)
    shutil.rmtree(project.folder / "data/toy")
    project.change("params/datasets/toy.yaml", "obtain: made by the tests", "obtain: ask its authors")
    printed = project.with_dvc().run("dvc", "repro", fails=True)
    assert "data/toy (there is no such folder): train.csv, test.csv, test_blur.csv, images/" in printed
    assert "How to get them: ask its authors" in printed
    assert "ln -s FOLDER data/toy" in printed
    assert "Traceback" not in printed


def test_a_second_machine_pulls_everything_and_has_nothing_to_do(copy, tmp_path):
    """README, "Share": dvc add, dvc push on one machine, dvc pull on another one."""
    remote = tmp_path / "remote"
    copy.run("dvc", "add", "data/toy")
    copy.run("dvc", "remote", "add", "--default", "storage", str(remote))
    copy.run("dvc", "push")
    copy.run("git", "add", "-A", ".")
    copy.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "made")
    copy.run("git", "clone", "-q", str(copy.folder), str(tmp_path / "second"))
    second = copy.at(tmp_path / "second")
    assert not (second.folder / "data/toy").exists()
    second.run("dvc", "pull")
    assert stale(second) == set()
    assert repro(second) == set()
    for file in ("data/toy/train.csv", "models/toy-tiny/model.safetensors", "data/predictions/toy-tiny.parquet"):
        assert (second.folder / file).read_bytes() == (copy.folder / file).read_bytes()
    change_number(second, "test.csv")
    assert "fetch@toy" in stale(second)
