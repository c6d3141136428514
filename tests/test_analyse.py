"""Where a model fails and whether it knows: against hand-made arrays, turned heads, and an experiment made of them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import rankdata
from test_report import leave

from stages import analyse, provenance, report
from stages.data.crops import windows, write_index
from stages.data.faces import Faces, list_column
from stages.data.sources.demo.mean_face import LANDMARKS
from stages.data.sources.demo.shape import deform, rotation
from stages.data.sources.demo.traits import draw
from stages.errors import InputError
from stages.measure import breakdown, calibration
from stages.measure.details import official_errors
from stages.measure.metrics import face_errors, normalisers
from stages.measure.predictions import Predictions
from stages.measure.results import read_experiments

PARAMS = Path(__file__).parents[1] / "params"

# two faces of two landmarks: distances of 5 and 10 px, and of 0 and 30 px
TRUTH = np.array([[[0.0, 0], [100, 0]], [[10, 10], [10, 60]]])
POINTS = TRUTH + np.array([[[3.0, 4], [6, 8]], [[0, 0], [0, 30]]])
PX = np.array([100.0, 50.0])


def test_every_landmark_s_error_is_its_distance_over_the_normaliser():
    np.testing.assert_allclose(breakdown.landmark_errors(POINTS, TRUTH, PX), [[5, 10], [0, 60]], rtol=1e-15)
    lost = np.where(TRUTH == 60, np.nan, POINTS)
    assert breakdown.landmark_errors(lost, TRUTH, PX)[1].tolist() == [0, np.inf]


def test_the_three_averages_weigh_faces_as_they_say():
    errors = breakdown.landmark_errors(POINTS, TRUTH, PX)
    found = breakdown.averages(errors, PX, np.array([[True, True], [True, False]]))
    assert found["faces"] == pytest.approx((7.5 + 30) / 2, rel=1e-15)
    assert found["faces"] == pytest.approx(errors.mean(), rel=1e-15)  # over all landmarks of all faces
    assert found["visible"] == pytest.approx((5 + 10 + 0) / 3, rel=1e-15)
    assert found["pooled"] == pytest.approx(100 * (7.5 + 15) / (100 + 50), rel=1e-15)


def test_a_percentile_is_told_where_faces_lie_beyond_it():
    assert breakdown.percentiles(np.arange(1.0, 101)) == {"50": 50, "90": 90, "95": 95, "99": 99}
    assert breakdown.percentiles(np.arange(1.0, 11)) == {"50": 5, "90": 9}
    assert breakdown.percentiles(np.ones(1)) == {}


def test_faces_fall_into_the_bins_of_their_values():
    found = breakdown.binned(np.array([0, 9.9, 10, 90, 100]), np.array([1.0, 3, 5, 7, 9]), (0, 10, 20, 90))
    assert [(each.low, each.high, each.n, each.nme) for each in found] == [
        (0, 10, 2, 2),
        (10, 20, 1, 5),
        (20, 90, 2, 8),
    ]
    assert found[1].ci95 is None
    assert breakdown.equal_bins(np.arange(101.0), 5) == pytest.approx([0, 20, 40, 60, 80, 100])
    assert len(breakdown.equal_bins(np.ones(9), 5)) == 1


def test_the_turn_of_a_head_is_estimated_to_a_few_degrees():
    layout = yaml.safe_load((PARAMS / "datasets/demo.yaml").read_text())["landmarks"]
    traits = [draw(3, "test", i) for i in range(300)]
    heads = [deform(each.identity | each.expression)[LANDMARKS] for each in traits]
    truth = np.stack([
        head @ rotation(each.yaw, each.pitch, each.roll).T for head, each in zip(heads, traits, strict=True)
    ])[..., :2]  # fmt: skip
    found = breakdown.yaw(40 * truth + 7, layout["groups"], layout["flip_pairs"])
    off = np.abs(np.abs(found) - np.abs([each.yaw for each in traits]))
    assert np.median(off) < 1.5
    assert off.max() < 12
    assert breakdown.yaw(truth, {"eyes": layout["groups"]["eyes"]}, layout["flip_pairs"]) is None


@pytest.mark.parametrize("name", ["300w", "aflw", "cofw", "lfpw", "wflw"])
def test_every_benchmark_has_the_landmarks_that_tell_the_turn(name):
    layout = yaml.safe_load((PARAMS / f"datasets/{name}.yaml").read_text())["landmarks"]
    truth = np.random.default_rng(1).normal(size=(4, layout["count"], 2))
    assert np.isfinite(breakdown.yaw(truth, layout["groups"], layout["flip_pairs"])).all()


def test_the_rank_correlation_is_that_of_the_ranks():
    rng = np.random.default_rng(2)
    scores, errors = rng.random(40).round(1), rng.random(40)
    expected = np.corrcoef(rankdata(-scores), rankdata(errors))[0, 1]
    assert calibration.rank_correlation(scores, errors) == pytest.approx(expected, abs=1e-12)
    assert calibration.rank_correlation(-errors, errors) == pytest.approx(1)
    assert calibration.rank_correlation(np.ones(5), np.arange(5)) is None


def test_the_least_certain_are_put_aside_first():
    nme, certainty = np.array([1.0, 2, 3, 10]), np.array([0.9, 0.1, 0.8, 0.2])
    shares = np.array([0, 0.25, 0.5, 1])
    assert calibration.after_rejecting(certainty, nme, shares).tolist() == [4, 14 / 3, 2, 1]
    assert calibration.after_rejecting(-nme, nme, shares).tolist() == [4, 2, 1.5, 1]


def test_reliability_goes_from_the_least_certain_to_the_most():
    scores, errors = np.array([[0.9, 0.1], [0.5, 0.3]]), np.array([[1.0, 8], [3, 4]])
    assert calibration.reliability(scores, errors, 2) == [
        {"n": 2, "score": pytest.approx(0.2), "error": 6, "median": 6},
        {"n": 2, "score": pytest.approx(0.7), "error": 2, "median": 2},
    ]


def some(n: int = 40) -> Faces:
    """Faces of five landmarks: eyes, nose, two of the mouth."""
    rng = np.random.default_rng(9)
    shape = np.array([[-30, -20], [30, -20], [0, 5], [-20, 40], [20, 40.0]])
    return Faces(
        [f"f{i}" for i in range(n)], ["test"] * n, [f"{i}.png" for i in range(n)], np.full((n, 2), 60.0),
        np.full(n, 60.0) + np.arange(n), 60 + shape + rng.normal(0, 2, (n, 5, 2)), rng.random((n, 5)) < 0.8,
        [("blur",) if i < 30 else () for i in range(n)],
    )  # fmt: skip


def lay_out(root: Path, faces: Faces, lost: int | None = None) -> np.ndarray:
    """Parameters, crops, predictions and what evaluate leaves; the face `lost` has no prediction. Gives the NMEs."""
    rng = np.random.default_rng(4)
    for kind, name, content in (
        ("datasets", "demo", (PARAMS / "datasets/demo.yaml").read_text()),
        ("recipes", "quick", (PARAMS / "recipes/quick.yaml").read_text()),
    ):
        (root / "params" / kind).mkdir(parents=True, exist_ok=True)
        content = re.sub(r"landmarks:\n.*?\nnormalisers:\n.*?\n\n", "", content, flags=re.DOTALL)
        content = content if kind == "recipes" else content + (
            "landmarks: {count: 5, flip_pairs: [[0, 1], [3, 4]], groups: {eyes: [0, 1], nose: [2], mouth: [3, 4]}}\n"
            "normalisers: {official: inter_ocular, inter_ocular: [0, 1]}\n"
        )  # fmt: skip
        (root / "params" / kind / f"{name}.yaml").write_text(content)
    (root / "params/pipeline.yaml").write_text(
        "datasets: [demo]\ncrossings: {}\nexperiments: {demo-quick: {dataset: demo, recipe: quick}}"
    )
    crops = root / "data/crops/demo"
    crops.mkdir(parents=True)
    np.save(crops / "test.npy", rng.integers(0, 255, (len(faces), 48, 48, 3), np.uint8))
    write_index(crops / "test.parquet", faces, windows(faces, 48, 2.0))
    points = faces.landmarks + rng.normal(0, 2, faces.landmarks.shape) * (1 + np.arange(len(faces)) / 10)[:, None, None]
    if lost is not None:
        points[lost, 1] = np.nan
    divisors = normalisers(faces.landmarks, faces.side, {"inter_ocular": [0, 1], "box_side": "box"})
    nme = {f"nme_{name}": 100 * face_errors(points, faces.landmarks, px) for name, px in divisors.items()}
    columns = {"face_id": pa.array(faces.face_id), "landmarks": list_column(points.reshape(len(faces), -1))}
    columns |= {f"displaced_{name}": nme["nme_inter_ocular"] * 1.5 for name in ("shift_-5", "shift_5", "scale_20")}
    columns |= {"scores": list_column(1 / (1 + np.nan_to_num(np.abs(points - faces.landmarks).sum(-1)))), **nme}
    (root / "data/predictions").mkdir(parents=True)
    pq.write_table(pa.table(columns), root / "data/predictions/demo-quick.parquet")
    return nme["nme_inter_ocular"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDMARKS_TRACKING", "off")
    for name in ("dvc.yaml", "stages"):  # for the hash of the code
        (tmp_path / name).symlink_to(PARAMS.parent / name)
    return tmp_path


def test_an_experiment_s_page_tells_what_its_predictions_hold(root):
    faces = some()
    nme = lay_out(root, faces)
    folder = leave(root, "demo-quick", {}, errors={"test": nme / 100, "blur": nme[:30] / 100})
    analyse.main("demo-quick")
    text = (folder / "README.md").read_text()
    pictures = re.findall(r"\]\((details/[^)]+)\)", text)
    assert {Path(file).stem for file in pictures} == {
        "landmarks", "conditions", "calibration", "robustness", "faces"
    }  # fmt: skip
    assert all((folder / file).is_file() for file in pictures)
    assert {file.name for file in (root / "data/failures/demo-quick").iterdir()} == {"test.jpg", "blur.jpg"}
    told = json.loads((folder / "details.json").read_text())
    assert told["averages"]["inter_ocular"]["faces"] == pytest.approx(nme.mean(), rel=1e-9)
    assert np.mean(told["landmarks"]) == pytest.approx(nme.mean(), rel=1e-9)
    assert told["robustness"]["mean"]["nme"] == pytest.approx(1.5 * nme.mean(), rel=1e-9)
    assert sum(each["n"] for each in told["conditions"]["yaw"]) == 40
    assert told["conditions"].keys() == {"yaw", "side", "visible"}
    (experiment,) = read_experiments(root / "reports/experiments")
    assert experiment.faces.face_id == faces.face_id
    np.testing.assert_allclose(experiment.faces.nme, nme, rtol=1e-7)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    analyse.main("demo-quick")
    assert {file: file.read_bytes() for file in before} == before
    report.main()
    page = (root / "reports/results.md").read_text()
    assert "(experiments/demo-quick/README.md)" in page


def test_a_face_without_a_prediction_is_listed(root):
    nme = lay_out(root, some(), lost=7)
    assert np.isinf(nme[7])
    folder = leave(root, "demo-quick", {}, errors={"test": nme / 100, "blur": nme[:30] / 100})
    analyse.main("demo-quick")
    assert "1 face has no prediction and counts as a failure: f7." in (folder / "README.md").read_text()
    assert json.loads((folder / "details.json").read_text())["without_prediction"] == ["f7"]
    report.main()


def test_stored_errors_that_are_not_those_of_the_points_are_refused():
    faces = some(3)
    true = np.hypot(*(faces.landmarks[:, 0] - faces.landmarks[:, 1]).T)
    points = faces.landmarks + [3, 4]
    nme = {"inter_ocular": 500 / true}
    width, height = np.moveaxis(np.ptp(faces.landmarks, axis=1), -1, 0)
    nme |= {"box_sqrt": 500 / np.sqrt(width * height), "box_diagonal": 500 / np.hypot(width, height)}
    scores = np.ones((3, 5))
    found = official_errors(Predictions(faces, points, scores, nme), {"inter_ocular": [0, 1]}, "inter_ocular")
    np.testing.assert_allclose(found, np.repeat(nme["inter_ocular"][:, None], 5, 1), rtol=1e-9)
    nme["inter_ocular"] = nme["inter_ocular"] * [1, 1.01, 1]
    with pytest.raises(InputError, match=r"face f1: nme_inter_ocular is .*, and its points give"):
        official_errors(Predictions(faces, points, scores, nme), {"inter_ocular": [0, 1]}, "inter_ocular")


def test_experiments_that_differ_in_their_seed_alone_are_told(root):
    own = root / "params"
    shutil.copytree(PARAMS, own)
    quick = (own / "recipes/quick.yaml").read_text()
    (own / "recipes/again.yaml").write_text(quick.replace("seed: 1", "seed: 7"))
    (own / "recipes/longer.yaml").write_text(quick.replace("epochs: 16", "epochs: 17"))
    names = {name: f"demo-{name}" for name in ("quick", "again", "longer")}
    listed = [f"  {key}: {{dataset: demo, recipe: {name}}}" for name, key in names.items()]
    (own / "pipeline.yaml").write_text("\n".join(["datasets: [demo]", "crossings: {}", "experiments:", *listed]))
    found = {name: provenance.but_for_the_seed(key) for name, key in names.items()}
    assert found["quick"] == found["again"] != found["longer"]
