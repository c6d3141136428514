"""Every shell block of README.md runs once, in reading order, in one fresh clone, and does what README says of it.

The clone draws fewer and smaller faces and trains a smaller network for an epoch; the committed results on LFPW and
300W, whose pages would be rendered with every report, are not in it. Stages start from a process that has imported what
they need. What stands in for a path, port or file of the reader's own is in the test of its block.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, draw_toy, free_port, start
from documents import Clone, Document
from preloaded import Server
from reference import reference_state

from stages.model.hrnet import HRNet
from stages.tracking.store import EXPERIMENT, SETTINGS

README = Document(ROOT / "README.md")
FACE = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"  # U.S. Navy, public domain
ONE = "datasets:\n  demo: {source: stages/sources/demo}\nexperiments:\n  demo-quick: {dataset: demo, recipe: quick}\n"
SMALLER = {
    "params/pipeline.yaml": {", lfpw-paper-128": ""},
    "params/datasets/demo.yaml": {"train: 800, test: 300, size: 256": "train: 16, test: 4, size: 64", "224": "112"},
    "params/datasets/demo-68.yaml": {r"train: \d+, test: \d+, size: 256": "train: 2, test: 2, size: 64", "224": "112"},
    "params/recipes/quick.yaml": {
        "width: 18\n": "width: 8\n", "stem: 32": "stem: 8", "blocks: 2": "blocks: 1", "size: 128": "size: 64",
        r"epochs: \d+": "epochs: 1", r"milestones: .*": "milestones: []", r"warmup: \d+": "warmup: 0",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("python") / "bin", "mlflow", "sqlalchemy", **SETTINGS)
    yield server.path / "python"
    server.stop()


@pytest.fixture(scope="module")
def clone(tmp_path_factory, python) -> Clone:
    folder = tmp_path_factory.mktemp("readme") / "clone"
    for file in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0"):
        if file and (ROOT / file).is_file() and not re.match(r"reports/(experiments|pages)/(lfpw|300w)", file):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file)
    clone = Clone(folder, python, README)
    for file, changes in SMALLER.items():
        text = clone.read(file)
        for pattern, new in changes.items():
            text, count = re.subn(pattern, new, text)
            assert count == 1, f"{file} holds {pattern!r} {count} times"
        (folder / file).write_text(text, encoding="utf-8")
    clone.run("git init -q && git add -A && git commit -qm clone", activated=False)
    return clone


def test_everything_is_made_and_listed(clone):
    printed = clone.run(clone.block("make repro   #"), activated=False)
    assert clone.results("demo-quick")["n"] == 4
    assert f"{clone.results('demo-quick')['nme']:.2f}" in clone.read("reports/results.md")
    assert f"{clone.results('demo-quick')['nme']:.3f}" in printed.split("reports/results.md")[-1], "make runs lists it"


def test_the_project_s_programs_are_those_of_its_environment(clone):
    used = clone.run(clone.block("source .venv/bin/activate") + "command -v dvc python", activated=False).split()
    assert used == [str(clone.folder / ".venv/bin" / name) for name in ("dvc", "python")]


def test_variants_are_trained_compared_and_shown_in_mlflow(clone):
    names = {"demo-quick", "demo-quick-lr2", *(f"demo-quick-narrow-s{seed}" for seed in (1, 2))}
    variants = next(text for text in README.yaml if "demo-quick-lr2" in text)
    (clone.folder / "params/pipeline.yaml").write_text(variants.replace("[1, 2, 3]", "[1, 2]"))
    *lines, serve = clone.block("make repro    #").splitlines()
    printed = clone.run("\n".join(lines))
    assert set(re.findall(r"Running stage 'train@(\S+)'", printed)) == names - {"demo-quick"}, "what is new"
    assert "A = demo-quick, B = demo-quick-lr2" in printed
    assert clone.results("demo-quick-lr2") != clone.results("demo-quick")
    row = next(line for line in clone.read("reports/results.md").splitlines() if "demo-quick-narrow" in line)
    assert "±" in row, "an entry with seeds is one row"
    port = free_port()
    assert serve.split("#")[0].split() == ["make", "ui"]
    server = start(["make", "ui", f"PORT={port}"], clone.folder, clone.environment)
    try:
        for line in server.stdout:
            if line.startswith("The table of runs"):
                break
        assert {run["data"]["tags"]["experiment"] for run in runs(port)} >= names
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.communicate(timeout=60)
    clone.environment["LANDMARKS_TRACKING"] = "off"  # what follows is about DVC


def runs(port: int) -> list[dict]:
    """Those of the project in MLflow, tags as a dictionary."""

    def ask(path: str, **content) -> dict:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}",
            data=json.dumps(content).encode() if content else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    experiment = ask(f"experiments/get-by-name?experiment_name={EXPERIMENT}")["experiment"]
    found = ask("runs/search", experiment_ids=[experiment["experiment_id"]], max_results=100)["runs"]
    for run in found:
        run["data"]["tags"] = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    return found


def test_a_table_for_latex_is_printed(clone):
    clone.run(clone.block("python -m stages.report --latex demo"))
    table = clone.read("demo.tex")
    assert r"\toprule" in table
    assert "demo-quick-narrow" in table
    (clone.folder / "demo.tex").unlink()


def test_a_value_is_tried_without_touching_the_files(clone):
    (clone.folder / "params/pipeline.yaml").write_text(ONE)  # one training to try something on
    clone.run("rm -r reports/experiments/demo-quick-* && make repro && git add -A && git commit -qm one")
    printed = clone.run(clone.block("dvc exp run --temp"))
    assert re.search(r"train\.lr\s.*0\.001.*0\.002", printed)
    assert re.search(r"demo-quick/metrics\.json\s+test\.nme", printed)
    assert clone.run("git status --porcelain") == ""


def test_several_are_queued(clone):
    assert clone.run(clone.block("dvc exp run --queue")).count("Queued experiment") == 2


def test_a_value_in_the_workspace_is_taken_back(clone):
    clone.run("dvc exp apply higher-lr")  # as dvc exp run -S leaves it
    assert "0.002" in clone.run("git diff params", activated=False)
    clone.run(clone.block("git restore"))
    assert clone.run("git status --porcelain", activated=False) == ""
    assert "up to date" in clone.run("dvc status")


def test_own_faces_are_imported(clone):
    coco(clone.folder)
    clone.run(clone.block("python -m stages.import_dataset"))
    assert yaml.safe_load(clone.read("params/pipeline.yaml"))["datasets"]["mine"] == {"source": "data/mine"}
    assert yaml.safe_load(clone.read("params/datasets/mine.yaml"))["source"]["form"] == "csv"
    assert yaml.safe_load(clone.read("params/schemes/mine.yaml"))["flip_pairs"] == [[0, 1]]
    assert (clone.folder / "data/mine-contact-sheet.jpg").exists()
    clone.run("make repro")
    assert clone.results("mine-quick")["n"] > 0


def coco(folder: Path) -> None:
    """The toy's faces as COCO key points: photographs/ and annotations.json."""
    draw_toy(folder / "toy", train=24, test=1)
    (folder / "toy/images").rename(folder / "photographs")
    images, annotations = [], []
    for number, face in enumerate(pd.read_csv(folder / "toy/train.csv").to_dict("records"), 1):
        points = [(face[f"original_{k}_x"], face[f"original_{k}_y"], 2) for k in range(3)]
        images.append({"id": number, "file_name": face["image_name"], "width": 120, "height": 120})
        annotation = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        annotations.append(annotation | {"keypoints": [value for point in points for value in point]})
    category = {"id": 1, "name": "face", "keypoints": ["left_eye", "right_eye", "mouth"], "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "annotations.json").write_text(json.dumps(content))
    shutil.rmtree(folder / "toy")


def test_a_file_of_predictions_is_measured(clone):
    """The annotation moved by 3 and 4 px has an error of 5 px."""
    faces = pd.read_parquet(clone.folder / "data/crops/demo/test.parquet")
    points = np.stack(faces["landmarks"]).reshape(len(faces), 98, 2)
    columns = [f"{axis}{k}" for k in range(98) for axis in "xy"]
    moved = pd.DataFrame((points + (3, 4)).reshape(len(faces), -1), columns=columns)
    moved.insert(0, "image_name", faces["image"])
    moved.to_csv(clone.folder / "mine.csv", index=False)
    printed = clone.run(clone.block("python -m stages.score"))
    nme = 100 * np.mean(5 / np.linalg.norm(points[:, 60] - points[:, 72], axis=1))  # WFLW's outer eye corners
    assert f"{nme:.2f}" in printed
    assert "B = mine.csv" in printed
    (clone.folder / "mine.csv").unlink()


def test_landmarks_are_found_in_pictures(clone, yunet):
    """YuNet may see no face in the drawn ones that were imported: a second run takes every image as one."""
    shutil.copy(yunet, clone.folder / "models")
    images = [file for file in (clone.folder / "photographs").rglob("*") if file.suffix == ".png"]
    command = clone.block("python -m stages.landmarks").strip()
    clone.run(f"{command} || {command} --whole-image")
    assert len(clone.read("found/landmarks.csv").splitlines()) >= 2
    assert len(list((clone.folder / "found/overlays").iterdir())) == len(images)
    shutil.rmtree(clone.folder / "found")


def test_a_registered_model_is_served_as_the_command_line_finds_landmarks(clone):
    del clone.environment["LANDMARKS_TRACKING"]
    printed = clone.run(clone.block("python -m stages.register demo-quick"))
    assert "models:/landmarks-demo@candidate is version 1 now" in printed
    assert "models:/landmarks-demo@champion is version" in printed, "it is the first"
    shutil.copy(FACE, clone.folder / "face.jpg")
    clone.run("python -m stages.landmarks models:/landmarks-demo@champion face.jpg --out found")
    expected = json.loads(clone.read("found/landmarks.jsonl"))
    port = free_port()
    command = clone.block("MLFLOW_TRACKING_URI=").strip()
    assert "--port 5002" in command
    server = start(
        ["bash", "-c", f"source .venv/bin/activate; exec env {command.replace('5002', str(port))}"],
        clone.folder, clone.environment,
    )  # fmt: skip
    try:
        for line in server.stdout:
            if "Uvicorn running" in line:
                break
        status, answer = ask(port, [{"image": base64.b64encode(FACE.read_bytes()).decode()}])
        assert status == 200
        (face,) = answer["predictions"]
        np.testing.assert_allclose(face["landmarks"], expected["landmarks"], atol=0.01)
        status, answer = ask(port, [{"image": "bm8gaW1hZ2U="}])
        assert (status, "row 0: image: it is not a readable image" in answer["message"]) == (400, True)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=60)
        clone.environment["LANDMARKS_TRACKING"] = "off"
    shutil.rmtree(clone.folder / "found")
    (clone.folder / "face.jpg").unlink()


def ask(port: int, rows: list[dict]) -> tuple[int, dict]:
    """The status and the answer of a served model."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps({"dataframe_records": rows}).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_model_is_exported(clone):
    printed = clone.run(clone.block("python -m stages.export"))
    assert "of 392 landmarks have a confidence below 0.1" in printed, "an epoch on a few faces is no training"
    assert (clone.folder / "demo-quick.onnx").stat().st_size > 10_000
    for file in ("demo-quick.onnx", "reports/experiments/demo-quick/exports.json"):
        (clone.folder / file).unlink()


def test_a_released_model_is_measured(clone):
    """Weights by a formula and two drawn faces, in the place of the files to be downloaded."""
    shapes = [(name, tuple(value.shape)) for name, value in HRNet(98).state_dict().items()]
    torch.save(reference_state(shapes), clone.folder / "HR18-WFLW.pth")
    wflw = clone.folder / "data/wflw"
    wflw.mkdir()
    (wflw / "images").symlink_to("../raw/demo/images")
    faces = pd.read_parquet(clone.folder / "data/crops/demo/test.parquet")[:2]
    names = ["scale", "center_w", "center_h", *(f"original_{k}_{axis}" for k in range(98) for axis in "xy")]
    rows = [[face.side / 200, face.center_x, face.center_y, *face.landmarks] for face in faces.itertuples()]
    table = pd.DataFrame(rows, columns=names)
    table.insert(0, "image_name", list(faces["image"]))
    for subset in ("", "_largepose", "_expression", "_illumination", "_makeup", "_occlusion", "_blur"):
        table.to_csv(wflw / f"face_landmarks_wflw_test{subset}.csv", index=False)
    printed = clone.run(clone.block("python -m stages.evaluate --dataset wflw"))
    assert "4.60" in printed, "the published figure beside ours"
    assert json.loads(clone.read("hr18-wflw/metrics.json"))["test"]["n"] == 2
    shutil.rmtree(clone.folder / "hr18-wflw")
    shutil.rmtree(wflw)
    (clone.folder / "HR18-WFLW.pth").unlink()


def test_what_was_queued_has_run_meanwhile(clone):
    deadline = time.monotonic() + 120
    while len(re.findall(r"refs/exps/\w\w/", clone.run("git for-each-ref refs/exps", activated=False))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    tried = re.findall(r"lr=(\S+) +demo-quick +\d+\.\d+", clone.run("make runs", activated=False))
    assert set(tried) == {"0.0005", "0.002", "0.004"}
    clone.run("dvc queue stop")


def test_data_and_results_are_shared_with_a_second_machine(clone, python):
    remote = clone.folder.parent / "remote"
    clone.run(clone.block("dvc add data/mine").replace("/mnt/lab/dvc", str(remote)))
    assert clone.run("git status --porcelain") == ""
    assert "data/mine.dvc" in clone.run("git show --stat", activated=False)
    clone.run("git clone -q . ../second", activated=False)
    shutil.rmtree(clone.folder / "photographs")  # the second machine does not have them
    second = Clone(clone.folder.parent / "second", python, README)
    second.environment["LANDMARKS_TRACKING"] = "off"
    printed = second.run(clone.block("dvc pull"))
    assert "Running stage" not in printed
    assert "Data and pipelines are up to date" in printed
    assert (second.folder / "data/mine/images").is_dir()
    assert (second.folder / "models/mine-quick/model.safetensors").is_file()


def test_every_block_was_run_in_reading_order(clone):
    assert README.taken == README.blocks


def test_the_figures_in_the_readme_are_those_of_the_report():
    """The rows of its table, `NME [low, high]`, in the order of the entries that they name."""
    shown = re.findall(r"\| (\d+\.\d\d(?: ± \d\.\d\d)? \[.*?\])", README.text)
    report = (ROOT / "reports/results.md").read_text(encoding="utf-8").replace("\u00a0", " ")
    of_lfpw = (
        "quick", "quick-from-demo", "paper-128", "modern-128", "paper-random", "paper", "paper-exact", "modern",
    )  # fmt: skip
    for name, figures in zip(("demo-quick", *(f"lfpw-{name}" for name in of_lfpw)), shown, strict=True):
        row = next(line for line in report.splitlines() if re.match(rf"\| (\[{name}\]|{name}, seeds)", line))
        assert figures in row, name
