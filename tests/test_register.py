"""Models in MLflow's registry: logged from code, served as the command line predicts, and chosen by a rule on val."""

import base64
import json
import shutil
import sys
from io import StringIO
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project, embedded_store
from test_landmarks import run, save_model
from test_pipeline import imports, project_imports

from stages import register
from stages.inference.calibration import Calibration
from stages.inference.uncertainty import Uncertainty
from stages.landmarking import detector
from stages.predictions.detections import BoxMap
from stages.system.errors import InputError
from stages.system.files import digest, write_json
from stages.tracking import registry
from stages.tracking.run import track

FACE = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
CALIBRATION = Calibration(
    boxes=BoxMap(0.02, 0.11, 0.7), errors=Uncertainty(constants=[-3, -4, -3], height=-0.5, width=0.8, bound=2, faces=30)
)
NAME, CHAMPION = "landmarks-toy", "models:/landmarks-toy@champion"
EDGES = ("x_min", "y_min", "x_max", "y_max")
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow"}  # of packages that are named otherwise
NOT_SERVED = {"onnxruntime", "onnx", "onnxscript", "openvino"}  # imported where an ONNX file is used


@pytest.fixture(scope="module")
def registered(tmp_path_factory, yunet):
    """The folder of a project, where these tests run, with an experiment whose model has the alias champion."""
    project = Project(tmp_path_factory.mktemp("register") / "project")
    folder = project.folder
    save_model(folder / "models/toy-tiny", "three", 3, [[0, 1]])
    shutil.copy(yunet, folder / detector.FILE)
    write_json(folder / "data/calibration/toy-tiny.json", CALIBRATION.model_dump())
    hashes = {"model": digest(folder / "models/toy-tiny/model.safetensors", "md5")}
    write_json(folder / "reports/experiments/toy-tiny/provenance.json", {"fingerprint": "f1", "hashes": hashes})
    with embedded_store(folder), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with track("toy-tiny", "f1", "train", params={}, tags={}):
            pass
        register.main("toy-tiny", None, "champion")
        yield folder


@pytest.fixture(scope="module")
def files(registered) -> Path:
    """What MLflow has stored of the model."""
    return next(registered.glob("mlartifacts/models/*/artifacts"))


@pytest.fixture(scope="module")
def served(files):
    """What the served model answers to rows, as parsed from JSON."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import predictions_to_json

    model = mlflow.pyfunc.load_model(str(files))

    def ask(*rows: dict) -> list[dict]:
        answer = StringIO()
        predictions_to_json(model.predict(pd.DataFrame(rows)), answer)
        content = json.loads(answer.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        return content["predictions"]

    return ask


def as_text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def landmarks(rows: list[dict]) -> np.ndarray:
    return np.array([row["landmarks"] for row in rows])


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "landmarks.jsonl").read_text().splitlines()]


def test_the_command_line_takes_a_registered_model_in_place_of_the_folder(registered, tmp_path):
    tables = [run(model, FACE, out=tmp_path / name) for name, model in (("a", "models/toy-tiny"), ("b", CHAMPION))]
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0]) == 1
    assert tables[0].filter(regex="expected").notna().all(axis=None)


def test_a_served_model_finds_what_the_command_line_finds(served, tmp_path):
    """With the detector's box; with one that is given; as a data URL."""
    run("models/toy-tiny", FACE, out=tmp_path, precision="auto")
    (row,), (expected,) = served({"image": as_text(FACE)}), lines(tmp_path)
    np.testing.assert_allclose(row["landmarks"], expected["landmarks"], atol=0.01)
    np.testing.assert_allclose(row["expected_error"], expected["expected_error"], atol=0.01)
    np.testing.assert_allclose(row["confidence"], expected["confidence"], atol=1e-4)
    np.testing.assert_allclose([row[edge] for edge in EDGES], expected["box"], atol=0.01)
    assert row["detector_score"] == pytest.approx(expected["detector_score"], abs=1e-4)
    box = dict(zip(EDGES, (200, 90, 330, 240), strict=True))
    pd.DataFrame([{"image": FACE.name, **box}]).to_csv(tmp_path / "boxes.csv", index=False)
    run("models/toy-tiny", FACE, out=tmp_path, boxes=tmp_path / "boxes.csv", precision="auto")
    rows = served({"image": f"data:image/jpeg;base64,{as_text(FACE)}"} | box, {"image": as_text(FACE)})
    np.testing.assert_allclose(landmarks(rows[:1]), [line["landmarks"] for line in lines(tmp_path)], atol=0.01)
    assert rows[0]["detector_score"] is None
    assert [(row["image"], row["face"]) for row in rows] == [(0, 0), (1, 0)]
    np.testing.assert_array_equal(rows[1]["landmarks"], row["landmarks"])


def test_an_image_without_a_face_has_no_row(served, tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((90, 120, 3), 128, np.uint8))
    assert served({"image": as_text(tmp_path / "grey.png")}) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "AAAA"}, "row 1: image: it is not a readable image"),
        ({"image": "no base64"}, "row 1: image: it is not the bytes of an image file in base64"),
        ({"image": None}, "row 1: image: it is not the bytes of an image file in base64"),
        ({"image": as_text(FACE)[:4000]}, "row 1: image: it is truncated"),
        ({"image": as_text(FACE), "x_min": 3.0}, "row 1: it is no box"),
        ({"image": as_text(FACE), "x_min": 9.0, "y_min": 1.0, "x_max": 3.0, "y_max": 5.0}, "row 1: it is no box"),
    ],
)
def test_a_row_that_cannot_be_answered_is_named(served, row, message):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=message) as raised:
        served({"image": as_text(FACE)}, row)
    assert raised.value.get_http_status_code() == 400


def test_wrong_columns_are_named(served):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=r"missing inputs \['image'\].*extra inputs: \['picture'\]"):
        served({"picture": as_text(FACE)})


def test_a_model_is_logged_from_code_without_a_pickle_and_with_exact_requirements(files):
    assert not [path for path in files.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".pyc")]
    assert (files / "code/stages/serving/faces.py").read_text() == (ROOT / "stages/serving/faces.py").read_text()
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert set((files / "requirements.txt").read_text().splitlines()) <= set(pinned)
    assert json.loads((files / "input_example.json").read_text())["columns"] == ["image", *EDGES]
    assert "signature" in (files / "MLmodel").read_text()


def test_the_requirements_are_what_the_served_code_imports():
    todo, seen = [ROOT / "stages/serving/from_code.py"], set()
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo += project_imports(file)
    standard = {*sys.stdlib_module_names, "stages"}
    needed = {name.split(".")[0] for file in seen for name in imports(file)} - standard - NOT_SERVED
    assert {DISTRIBUTIONS.get(name, name) for name in needed} == set(registry.REQUIREMENTS)


def test_the_same_model_is_one_version_and_another_calibration_makes_a_second(registered, capsys):
    register.main("toy-tiny", None, None)
    assert "models:/landmarks-toy/1: toy-tiny, is there already" in capsys.readouterr().out
    path = registered / "data/calibration/toy-tiny.json"
    before = path.read_text()
    write_json(path, Calibration().model_dump())
    register.main("toy-tiny", None, "plain")
    path.write_text(before)
    assert "models:/landmarks-toy@plain is version 2 now" in capsys.readouterr().out
    assert registry.holder(NAME, "champion").version == 1
    assert registry.holder(NAME, "nobody") is None


def test_a_model_is_found_by_alias_version_and_run_also_after_the_repository_moved(registered, tmp_path, monkeypatch):
    run_id = registry.versions(NAME)[0].run_id
    for uri in (CHAMPION, f"models:/{NAME}/1", f"runs:/{run_id}/toy-tiny"):
        with registry.local_model(uri) as folder:
            assert digest(folder / "model.safetensors") == digest(registered / "models/toy-tiny/model.safetensors")
    moved = shutil.copytree(registered, tmp_path / "moved", ignore=shutil.ignore_patterns("stages"))
    renamed = registered.rename(registered.with_name("elsewhere"))
    try:
        monkeypatch.setenv("DVC_ROOT", str(moved))
        with registry.local_model(CHAMPION) as folder:
            assert (folder / "calibration.json").is_file()
    finally:
        renamed.rename(registered)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (f"models:/{NAME}@nobody", "Registered model alias nobody not found"),
        ("models:/none/1", "Registered Model with name=none not found"),
        ("runs:/none/model", "Run with id=none not found"),
    ],
)
def test_a_model_that_is_not_there_is_named(registered, uri, message):
    with pytest.raises(InputError, match=message), registry.local_model(uri):
        pass


def test_what_cannot_be_registered_says_why(registered, monkeypatch):
    with pytest.raises(InputError, match="there is no experiment 'toy-tin'.*Did you mean toy-tiny"):
        register.main("toy-tin", None, None)
    weights = registered / "models/toy-tiny/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"\1")
    with pytest.raises(InputError, match="is of other weights than"):
        register.main("toy-tiny", None, None)
    weights.write_bytes(content)
    with pytest.raises(InputError, match="there is no dataset 'toi'"):
        register.candidates("toi")
    monkeypatch.setenv("LANDMARKS_TRACKING", "off")
    with pytest.raises(InputError, match="nothing is tracked"):
        register.main("toy-tiny", None, None)


def nmes(seed: int, *means: float) -> list[np.ndarray]:
    """150 faces of several models, which are hard or easy for all alike."""
    rng = np.random.default_rng(seed)
    faces = rng.gamma(8, 0.1, 150)
    return [mean * faces + rng.normal(0, 0.1, 150) for mean in means]


def test_the_alias_goes_to_the_lowest_nme_on_val_where_that_is_significant():
    held, better, best, same, worse = nmes(1, 4.0, 3.8, 3.5, 4.0, 4.4)
    candidates = {"better": better, "same": same, "best": best, "worse": worse}
    chosen, differences = register.choose(candidates, held)
    assert chosen == "best"
    assert differences["better"].significant
    assert register.choose({"same": same, "worse": worse}, held)[0] is None
    assert register.choose({"same": held}, held)[0] is None, "the holder itself"
    assert register.choose({"worse": worse, "same": same}, None)[0] == "same", "who comes first needs no test"
    few = {name: values[:40] for name, values in candidates.items()}
    assert register.choose(few, held[:40])[0] is None, "there is no verdict on few faces"


def test_a_lower_mean_that_is_not_significant_takes_no_alias():
    held, best = nmes(2, 4.0, 4.0)
    best += held.mean() - best.mean() - 0.001
    assert best.mean() < held.mean()
    assert register.choose({"best": best}, held)[0] is None
