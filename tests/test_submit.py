"""Submissions in the pipeline: a file, a function and a program, measured as an experiment is."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TOY_DATASET, Project

from stages.config.submission import SubmissionFile
from stages.data.crops import read_index
from stages.data.faces import read_table
from stages.submissions.methods import ImageFaces, run_function, write_table

ABOUT = """
about: {title: Mean shape, trained_on: the training faces, epoch_chosen_on: not applicable, box: annotation}
"""
FUNCTION = """
import numpy as np

def train(faces, *, seed=0, scale=1.0):
    shapes = [(points - corner(boxes)) / size(boxes) for _, boxes, points in faces]
    shape = np.concatenate(shapes).mean(0)
    return lambda image, boxes: (
        corner(boxes) + scale * shape * size(boxes) + seed / 1000, np.full((len(boxes), 3), seed / 10)
    )

def corner(boxes):
    return boxes[:, None, :2]

def size(boxes):
    return (boxes[:, 2:] - boxes[:, :2])[:, None]
"""
PROGRAM = """
import sys
import cv2
import pandas as pd
faces, train, out, time = sys.argv[1:]
train, faces = pd.read_csv(train), pd.read_csv(faces)
for axis, low, high in (("x", "x_min", "x_max"), ("y", "y_min", "y_max")):
    for k in range(3):
        share = ((train[f"{axis}{k}"] - train[low]) / (train[high] - train[low])).mean()
        faces[f"{axis}{k}"] = faces[low] + share * (faces[high] - faces[low])
assert all(cv2.imread(image) is not None for image in faces["image"])
faces[["face_id", "image", *(f"{axis}{k}" for k in range(3) for axis in "xy")]].to_csv(out, index=False)
open(time, "w").write("2.5")
"""
SUBMISSIONS = {
    "file": "file: {path: data/submitted.csv, origin: 1}",
    "function": "method: {function: theirs.mean:train}",
    "program": "command: {run: 'python theirs/program.py {faces} {train} {out} {time}', code: theirs/program.py}",
    "annotated": "file: {path: data/annotated.csv}",
}
PIPELINE = """
datasets:
  toy: {source: data/toy}
  blind: {source: data/blind, images: false}
submissions:
  file: {dataset: toy}
  function: {dataset: toy, seeds: [1, 2]}
  program: {dataset: toy}
  annotated: {dataset: blind}
baseline: program
"""


def describe(project: Project, name: str, text: str) -> None:
    folder = project.folder / "params/submissions"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(ABOUT + text)


def submit(project: Project, name: str, text: str, dataset: str = "toy", fails: bool = False) -> str:
    """Run the stage alone for one more submission."""
    describe(project, name, text)
    listed = {"datasets": {dataset: {"source": f"data/{dataset}"}}, "submissions": {name: {"dataset": dataset}}}
    (project.folder / "params/pipeline.yaml").write_text(yaml.safe_dump(listed))
    return project.stage("submit", name, fails=fails)


def errors(project: Project, name: str) -> np.ndarray:
    return pd.read_csv(project.folder / f"reports/experiments/{name}/faces.csv")["nme"].to_numpy()


def content(project: Project, name: str, file: str = "provenance") -> dict:
    return json.loads((project.folder / f"reports/experiments/{name}/{file}.json").read_text())


def ran(printed: str) -> list[str]:
    return re.findall(r"Running stage '(.+)'", printed)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Project:
    """A pipeline of submissions alone, on a dataset with images and on one without, after `dvc repro`."""
    project = Project(tmp_path_factory.mktemp("measured"))
    (project.folder / "theirs").mkdir()
    (project.folder / "theirs/mean.py").write_text(FUNCTION)
    (project.folder / "theirs/program.py").write_text(PROGRAM)
    for name, text in SUBMISSIONS.items():
        describe(project, name, text)
    (project.folder / "data/blind").mkdir()
    (project.folder / "params/datasets/blind.yaml").write_text(TOY_DATASET)
    table = pd.read_csv(project.folder / "data/toy/test.csv")
    for name in ("test", "test_blur"):
        rows = pd.read_csv(project.folder / f"data/toy/{name}.csv")
        rows.to_csv(project.folder / f"data/blind/{name}.csv", index=False)
    numbers = table.filter(regex="original_.*")
    pd.concat([table["image_name"], numbers + 1], axis=1).to_csv(project.folder / "data/submitted.csv", index=False)
    off = pd.concat([table["image_name"], numbers + [0.5, 0, 0, 0, 0, 0.3]], axis=1)
    off.to_csv(project.folder / "data/annotated.csv", index=False)
    (project.folder / "params/pipeline.yaml").write_text(PIPELINE)
    project.with_dvc()
    project.run("dvc", "repro")
    return project


def test_a_file_is_measured_in_the_annotations_numbering(measured):
    """The file holds the annotation itself, counted from 1."""
    np.testing.assert_allclose(errors(measured, "file"), 0, atol=1e-6)
    facts = content(measured, "file")["submission"]
    assert (facts["origin"], facts["annotation_origin"], facts["source"]) == (1, 0, "data/submitted.csv")
    assert content(measured, "file")["kind"] == "submission"


def test_a_function_and_a_program_see_the_same_faces_boxes_and_pixels(measured):
    """Both predict the mean shape, which evaluate knows as the baseline of the train split; here val is with it."""
    table = read_table(measured.folder / "data/predictions/program.parquet")
    program = np.array(table["landmarks"].to_pylist())
    for seed in (1, 2):
        function = read_table(measured.folder / f"data/predictions/function-s{seed}.parquet")
        np.testing.assert_allclose(np.array(function["landmarks"].to_pylist()), program + seed / 1000, atol=2e-3)
        assert function["scores"].to_pylist()[0] == [seed / 10] * 3
    baseline = content(measured, "program", "metrics")["test"]["nme_mean_shape"]
    assert errors(measured, "program").mean() == pytest.approx(baseline, rel=0.05)
    assert content(measured, "program")["submission"]["milliseconds"] == 2.5
    assert content(measured, "function-s1")["submission"]["milliseconds"] > 0


def test_a_dataset_of_annotation_files_alone_is_measured_and_its_gallery_has_landmarks(measured):
    points = read_index(measured.folder / "data/crops/blind", "test")[0].landmarks
    eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    np.testing.assert_allclose(errors(measured, "annotated"), 100 * (0.5 + 0.3) / 3 / eyes, rtol=1e-4)
    assert (measured.folder / "data/galleries/annotated/faces.jpg").stat().st_size > 5000


def test_the_report_has_a_row_for_each_and_what_a_reader_must_know(measured):
    page = (measured.folder / "reports/results.md").read_text()
    assert "[file](pages/file.md)<br>Mean\N{NO-BREAK SPACE}shape" in page
    assert "function, seeds [1](pages/function-s1.md), [2](pages/function-s2.md)" in page
    assert "The baseline of Δ is **program**" in page
    assert re.search(r"\| program +\| Mean shape +\| the training faces +\| none +\| – +\| annotated landmarks", page)
    own = (measured.folder / "reports/pages/file.md").read_text()
    assert "the first pixel's centre is 1, in the annotation 0, so moved by -1" in own
    assert "Confidence and error" not in own
    assert "Confidence and error" in (measured.folder / "reports/pages/function-s1.md").read_text()


def test_it_has_an_mlflow_run_with_an_external_model_of_declared_facts(measured):
    from mlflow import MlflowClient  # later than tracking, which sets up what MLflow logs

    measured.stage("evaluate", "program", LANDMARKS_TRACKING="")
    client = MlflowClient(f"sqlite:///{measured.folder}/mlflow.db")
    (group,) = [experiment.experiment_id for experiment in client.search_experiments() if experiment.name != "Default"]
    (run,) = client.search_runs([group])
    (model,) = client.search_logged_models([group])
    assert run.data.metrics["test/nme"] == pytest.approx(errors(measured, "program").mean(), rel=1e-4)
    assert run.data.tags["kind"] == "submission"
    assert model.source_run_id == run.info.run_id
    assert model.params["trained_on"] == "the training faces"
    measured.stage("evaluate", "program", LANDMARKS_TRACKING="")
    assert len(client.search_logged_models([group])) == 1


def test_only_what_a_change_touches_runs_again(measured):
    assert ran(measured.run("dvc", "repro")) == []
    rows = pd.read_csv(measured.folder / "data/submitted.csv")
    rows.iloc[0, 1] += 1
    rows.to_csv(measured.folder / "data/submitted.csv", index=False)
    assert ran(measured.run("dvc", "repro", "--dry"))[0] == "submit_file@file"
    measured.change("theirs/mean.py", "seed / 10)", "seed / 20)")
    again = {name for name in ran(measured.run("dvc", "repro", "--dry")) if name.startswith("submit")}
    assert again == {"submit_file@file", "submit_method@function-s1", "submit_method@function-s2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: {function: theirs.absent:train}", "there is no module theirs.absent"),
        ("method: {function: theirs.needy:train}", "needs the package no_such_package, which is not installed"),
        ("method: {function: theirs.odd:absent}", "module theirs.odd has no absent"),
        ("method: {function: theirs.odd:shape}", r"an array of shape (3, 2); (1, K, 2) is needed"),
        ("method: {function: theirs.odd:fewer}", "its faces have 2 landmarks, and toy has 3"),
        ("method: {function: theirs.odd:nothing}", "says of every test face that it has no prediction"),
        ("method: {function: theirs.odd:breaks}", "on image test0.png"),
        ("command: {run: 'absent-program {faces} {out}', code: theirs}", "absent-program cannot be started"),
        ("command: {run: 'false {faces} {out}', code: theirs}", "ended with exit status 1"),
        ("command: {run: 'true {faces} {out}', code: theirs}", "wrote nothing to {out}"),
        ("command: {run: 'cp {faces} {out}', code: theirs}", "columns x0, y0, x1, y1, … (or"),
        ("command: {run: 'true {faces}', code: theirs}", "it lacks {out}"),
        ("method: {function: theirs}", "it is written package.module:function"),
        ("scheme: three", "one of file, method and command is needed, and there is none"),
        ("file: {path: absent.csv}", "there is no absent.csv"),
    ],
)  # fmt: skip
def test_what_a_method_does_wrong_is_named_and_nothing_is_written(cut_project, text, message):
    (cut_project.folder / "theirs").mkdir(exist_ok=True)
    (cut_project.folder / "theirs/needy.py").write_text("import no_such_package\n")
    (cut_project.folder / "theirs/odd.py").write_text(
        "import numpy as np\n"
        "def shape(train): return lambda image, boxes: np.zeros((3, 2))\n"
        "def fewer(train): return lambda image, boxes: np.zeros((len(boxes), 2, 2))\n"
        "def nothing(train): return lambda image, boxes: np.full((len(boxes), 3, 2), np.nan)\n"
        "def breaks(train): return lambda image, boxes: 1 / 0\n"
    )
    printed = submit(cut_project, "wrong", text, fails=True)
    assert message in printed
    assert not (cut_project.folder / "data/predictions/wrong.parquet").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": {"x": {"dataset": "toy", "recipe": "tiny"}}}, "experiments.x: toy has no images"),
        ({"submissions": {"s": {"dataset": "toy", "seeds": [1, 2]}}}, "submissions.s: a file of predictions has no"),
        ({"submissions": {"s": {"dataset": "other"}}}, "submissions.s: dataset other is not listed under datasets"),
        ({"submissions": {"absent": {"dataset": "toy"}}}, "there is no params/submissions/absent.yaml"),
        ({"experiments": {"s": {"dataset": "toy", "recipe": "tiny"}}}, "submissions.s: experiments has the same name"),
    ],
)  # fmt: skip
def test_a_slip_in_the_pipeline_is_refused(project, change, message):
    describe(project, "s", "file: {path: data/submitted.csv}")
    listed = {"datasets": {"toy": {"source": "data/toy", "images": False}}, "submissions": {"s": {"dataset": "toy"}}}
    (project.folder / "params/pipeline.yaml").write_text(yaml.safe_dump(listed | change))
    project.run("git", "init", "-q")
    assert message in project.stage("check", fails=True)


def test_a_method_counts_pixels_from_0_whatever_the_annotation_does(cut_project):
    """The centre of the box, which an annotation that counts from 1 puts one px further."""
    faces = read_index(cut_project.folder / "data/crops/toy", "test")[0]
    images = cut_project.folder / "data/toy/images"
    given = ImageFaces(faces, images, "ignore", 1)
    np.testing.assert_allclose((given.boxes[:, :2] + given.boxes[:, 2:]) / 2, faces.center - 1)
    np.testing.assert_allclose(next(iter(given))[2], faces.landmarks[:1] - 1)

    def centre(image, boxes):
        return np.repeat((boxes[:, None, :2] + boxes[:, None, 2:]) / 2, 3, axis=1)

    submission, milliseconds = run_function(centre, given, "centre", lambda steps: steps)
    np.testing.assert_allclose(submission.points[:, 0], faces.center - 1)
    assert milliseconds >= 0


def test_a_program_gets_images_that_every_decoder_reads_alike(cut_project, tmp_path):
    """A photograph that its EXIF tag turns is handed over as it is stored, without the tag."""
    from PIL import Image

    faces = read_index(cut_project.folder / "data/crops/toy", "test")[0].where(np.array([0, 1]))
    stored = Image.fromarray(np.arange(120 * 80 * 3, dtype=np.uint8).reshape(80, 120, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "turned.jpg", exif=exif)
    stored.save(tmp_path / "plain.png")
    faces.image = ["turned.jpg", "plain.png"]
    write_table(tmp_path / "table.csv", ImageFaces(faces, tmp_path, "ignore", 0), tmp_path / "copies", landmarks=True)
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["image"].tolist() == [str(tmp_path / "copies/turned.jpg.png"), str(tmp_path / "plain.png")]
    with Image.open(table["image"][0]) as copy:
        assert copy.size == (120, 80)
        assert not copy.getexif()
    np.testing.assert_allclose(table[["x0", "y0"]], faces.landmarks[:, 0], rtol=1e-5)


def test_where_predictions_come_from_is_said_once():
    with pytest.raises(ValueError, match="there are file and method"):
        SubmissionFile.model_validate(
            yaml.safe_load(ABOUT + "file: {path: a.csv}\nmethod: {function: 'a:b'}"), strict=True
        )
