"""Error analysis: against hand-made arrays, rotated heads, and an experiment whose predictions are made here."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from scipy.stats import rankdata

from stages import evaluate, report
from stages.config.experiment import load_experiment
from stages.data.crops import windows, write_index
from stages.data.faces import Faces
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme, Scheme, write_scheme
from stages.metrics import breakdown, calibration
from stages.metrics.details import details, group_columns
from stages.metrics.evaluation import evaluate as measure
from stages.metrics.results import read_results
from stages.predictions.table import Made, Predictions, write_predictions
from stages.sources.demo.mean_face import LANDMARKS
from stages.sources.demo.shape import deform, rotation
from stages.sources.demo.traits import draw
from stages.tracking.provenance import identify, series_key

PARAMS = ROOT / "params"

# two faces of two landmarks: distances of 5 and 10 px, and of 0 and 30 px
TRUTH = np.array([[[0.0, 0], [100, 0]], [[10, 10], [10, 60]]])
POINTS = TRUTH + np.array([[[3.0, 4], [6, 8]], [[0, 0], [0, 30]]])
PX = np.array([100.0, 50.0])


def test_the_error_of_a_landmark_is_its_distance_over_the_normaliser():
    np.testing.assert_allclose(breakdown.landmark_errors(POINTS, TRUTH, PX), [[5, 10], [0, 60]], rtol=1e-15)
    missing = np.where(TRUTH == 60, np.nan, POINTS)
    assert breakdown.landmark_errors(missing, TRUTH, PX)[1].tolist() == [0, np.inf]


def test_the_three_averages_weight_faces_as_documented():
    errors = breakdown.landmark_errors(POINTS, TRUTH, PX)
    averages = breakdown.averages(errors, PX, np.array([[True, True], [True, False]]))
    assert averages["faces"] == pytest.approx((7.5 + 30) / 2, rel=1e-15)
    assert averages["faces"] == pytest.approx(errors.mean(), rel=1e-15)  # over all landmarks of all faces
    assert averages["visible"] == pytest.approx((5 + 10 + 0) / 3, rel=1e-15)
    assert averages["pooled"] == pytest.approx(100 * (7.5 + 15) / (100 + 50), rel=1e-15)


def test_a_percentile_is_given_where_a_face_exceeds_it():
    assert breakdown.percentiles(np.arange(1.0, 101)) == {"50": 50, "90": 90, "95": 95, "99": 99}
    assert breakdown.percentiles(np.arange(1.0, 11)) == {"50": 5, "90": 9}
    assert breakdown.percentiles(np.ones(1)) == {}


def test_faces_are_binned_by_their_values():
    bins = breakdown.binned(np.array([0, 9.9, 10, 90, 100]), np.array([1.0, 3, 5, 7, 9]), (0, 10, 20, 90))
    assert [bin[:4] for bin in bins] == [(0, 10, 2, 2), (10, 20, 1, 5), (20, 90, 2, 8)]
    assert bins[1].ci95 is None
    assert breakdown.equal_bins(np.arange(101.0), 5) == pytest.approx([0, 20, 40, 60, 80, 100])
    assert len(breakdown.equal_bins(np.ones(9), 5)) == 1


def scheme_of(dataset: str) -> Scheme:
    """The landmark scheme that a dataset of params names."""
    name = yaml.safe_load((PARAMS / f"datasets/{dataset}.yaml").read_text())["landmarks"]["scheme"]
    return Scheme.model_validate(yaml.safe_load((PARAMS / f"schemes/{name}.yaml").read_text()))


def test_the_yaw_of_a_head_is_estimated_to_a_few_degrees():
    scheme = scheme_of("demo")
    heads = [draw(3, "test", i) for i in range(300)]
    shapes = [deform(head.identity | head.expression)[LANDMARKS] for head in heads]
    rotations = [rotation(head.yaw, head.pitch, head.roll) for head in heads]
    truth = np.stack([shape @ matrix.T for shape, matrix in zip(shapes, rotations, strict=True)])[..., :2]
    degrees = breakdown.yaw(40 * truth + 7, scheme.groups, scheme.flip_pairs)
    error = np.abs(np.abs(degrees) - np.abs([head.yaw for head in heads]))
    assert np.median(error) < 1.5
    assert error.max() < 12
    assert breakdown.yaw(truth, {"eyes": scheme.groups["eyes"]}, scheme.flip_pairs) is None


@pytest.mark.parametrize("name", ["300w", "aflw", "cofw", "lfpw", "wflw"])
def test_every_benchmark_has_the_landmarks_to_estimate_yaw(name):
    scheme = scheme_of(name)
    truth = np.random.default_rng(1).normal(size=(4, scheme.count, 2))
    assert np.isfinite(breakdown.yaw(truth, scheme.groups, scheme.flip_pairs)).all()


def test_the_rank_correlation_is_the_correlation_of_ranks():
    rng = np.random.default_rng(2)
    scores, errors = rng.random(40).round(1), rng.random(40)
    expected = np.corrcoef(rankdata(-scores), rankdata(errors))[0, 1]
    assert calibration.rank_correlation(scores, errors) == pytest.approx(expected, abs=1e-12)
    assert calibration.rank_correlation(-errors, errors) == pytest.approx(1)
    assert calibration.rank_correlation(np.ones(5), np.arange(5)) is None


def test_faces_of_the_lowest_confidence_are_rejected_first():
    nme, confidence = np.array([1.0, 2, 3, 10]), np.array([0.9, 0.1, 0.8, 0.2])
    rejected = np.array([0, 0.25, 0.5, 1])
    assert calibration.risk_coverage(confidence, nme, rejected).tolist() == [4, 14 / 3, 2, 1]
    assert calibration.risk_coverage(-nme, nme, rejected).tolist() == [4, 2, 1.5, 1]


def test_the_reliability_curve_goes_from_the_lowest_score_to_the_highest():
    scores, errors = np.array([[0.9, 0.1], [0.5, 0.3]]), np.array([[1.0, 8], [3, 4]])
    assert calibration.reliability(scores, errors, 2) == [
        {"n": 2, "score": pytest.approx(0.2), "error": 6, "median": 6},
        {"n": 2, "score": pytest.approx(0.7), "error": 2, "median": 2},
    ]


def test_groups_of_a_partial_prediction_have_the_columns_of_their_predicted_landmarks():
    groups = {"eyes": [0, 1], "nose": [2], "mouth": [3, 4]}
    assert group_columns(groups, [0, 1, 2, 3, 4]) == groups
    assert group_columns(groups, [4, 1, 3]) == {"eyes": [1], "mouth": [2, 0]}
    assert group_columns(groups, []) == {}


SCHEME = DatasetScheme(
    count=5, flip_pairs=[[0, 1], [3, 4]], groups={"eyes": [0, 1], "nose": [2], "mouth": [3, 4]}, inter_ocular=[0, 1],
    scheme="five", normaliser="inter_ocular",
)  # fmt: skip


def some_faces(n: int = 40) -> Faces:
    """Faces of five landmarks: eyes, nose, two of the mouth."""
    rng = np.random.default_rng(9)
    shape = np.array([[-30, -20], [30, -20], [0, 5], [-20, 40], [20, 40.0]])
    return Faces(
        [f"f{i}" for i in range(n)], ["test"] * n, [f"{i}.png" for i in range(n)], np.full((n, 2), 60.0),
        np.full(n, 60.0) + np.arange(n), 60 + shape + rng.normal(0, 2, (n, 5, 2)), rng.random((n, 5)) < 0.8,
        [("blur",) if i < 30 else () for i in range(n)],
    )  # fmt: skip


def predict(faces: Faces, landmarks: list[int], missing: int | None = None) -> Predictions:
    """Predictions with errors half as large again from perturbed boxes; none for the face `missing`."""
    truth = faces.landmarks[:, landmarks]
    noise = np.random.default_rng(4).normal(0, 2, truth.shape) * (1 + np.arange(len(faces)) / 10)[:, None, None]
    if missing is not None:
        noise[missing, 1] = np.nan
    perturbed = dict.fromkeys(("shift_-5", "shift_5", "scale_20"), truth + 1.5 * noise)
    made = Made(
        dataset="demo", landmarks=landmarks, protocol="exact", flip_test=False, batch=8, input_px=64, box=1.25,
        model="e" * 32, cost={"parameters": 10, "megabytes": 1.5, "gflops": 0.5}, workload="W4, 64 px",
    )  # fmt: skip
    scores = 1 / (1 + np.nan_to_num(np.abs(noise).sum(-1)))
    return Predictions(faces, truth + noise, scores, perturbed, made)


def test_a_partial_prediction_is_analysed_by_its_landmarks_and_binned_by_the_whole_faces():
    faces, landmarks = some_faces(), [4, 1, 2]
    whole = details(measure(predict(faces, [0, 1, 2, 3, 4]), SCHEME), 1.25)
    evaluation = measure(predict(faces, landmarks), SCHEME)
    part = details(evaluation, 1.25)
    points, truth = evaluation.predictions.points, faces.landmarks[:, landmarks]
    errors = breakdown.landmark_errors(points, truth, evaluation.normalisers["inter_ocular"])
    assert part["landmarks"] == pytest.approx(errors.mean(0), rel=1e-12)
    assert part["group_sizes"] == {"eyes": 1, "nose": 1, "mouth": 1}
    assert part["groups"]["mouth"]["nme"] == pytest.approx(errors[:, 0].mean(), rel=1e-12)
    assert part["averages"]["box_sqrt"].keys() == {"n", "faces", "visible", "pooled"}
    assert part["averages"]["inter_ocular"]["visible"] == pytest.approx(errors[faces.visible[:, landmarks]].mean())
    assert part["mean_face"] == [whole["mean_face"][i] for i in landmarks]
    for condition, bins in part["conditions"].items():
        sizes = [
            [(bin["low"], bin["high"], bin["n"]) for bin in content]
            for content in (bins, whole["conditions"][condition])
        ]
        assert sizes[0] == sizes[1]


def prepare(root: Path, missing: int | None = None, share_pictures: bool = True) -> np.ndarray:
    """All that evaluate reads of demo-quick, its predictions among it. Returns their NMEs (N,) in percent."""
    for name in ("dvc.yaml", "stages"):  # for the hash of the code
        (root / name).symlink_to(ROOT / name)
    for folder in ("params/datasets", "params/recipes", "data/crops/demo", "data/training/demo-quick", "models"):
        (root / folder).mkdir(parents=True)
    dataset = (PARAMS / "datasets/demo.yaml").read_text()
    assert "share_pictures: true" in dataset
    dataset = dataset.replace("share_pictures: true", f"share_pictures: {str(share_pictures).lower()}")
    (root / "params/datasets/demo.yaml").write_text(dataset)
    (root / "params/recipes/quick.yaml").write_text((PARAMS / "recipes/quick.yaml").read_text())
    (root / "params/pipeline.yaml").write_text(
        "datasets: {demo: {source: data/demo}}\n"
        "experiments: {demo-quick: {dataset: demo, recipe: quick, init: random}}\n"
    )
    (root / "models/random").write_text("drawn at random")
    write_scheme(SCHEME, "demo")
    faces, crops = some_faces(), root / "data/crops/demo"
    pictures = np.random.default_rng(4).integers(0, 255, (len(faces), 48, 48, 3), np.uint8)
    for split in ("train", "test"):
        np.save(crops / f"{split}.npy", pictures)
        write_index(crops / f"{split}.parquet", replace(faces, split=[split] * len(faces)), windows(faces, 48, 2.0))
    (root / "data/training/demo-quick/history.csv").write_text(
        "epoch,train/loss,lr,val/nme\n1,0.2,0.1,9\n2,0.1,0.1,8\n"
    )
    training = {"epochs": 2, "seed": 1, "checkpoint": {"epoch": 2, "val/nme": 8.0}, "device": "cpu", "processes": 1}
    training |= {"lock": "f" * 32, "cpu": "Some CPU", "threads": 2, "isa": "AVX2"}
    (root / "data/training/demo-quick/training.json").write_text(json.dumps(training))
    predictions = predict(faces, [0, 1, 2, 3, 4], missing)
    write_predictions(root / "data/predictions/demo-quick.parquet", predictions)
    px = normalisers(faces.landmarks, faces.side, {"inter_ocular": [0, 1]})["inter_ocular"]
    return 100 * face_errors(predictions.points, faces.landmarks, px)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDMARKS_TRACKING", "off")
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_page_of_an_experiment_shows_the_analysis_of_its_predictions(root):
    nme = prepare(root)
    evaluate.main("demo-quick")
    report.main()
    folder, pages = root / "reports/experiments/demo-quick", root / "reports/pages"
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (pages / "demo-quick.md").read_text())
    assert {Path(link).stem for link in links} == {
        "landmarks", "conditions", "calibration", "robustness", "training", "faces", "failures"
    }  # fmt: skip
    assert all((pages / link).is_file() for link in links)
    assert {file.name for file in (root / "data/galleries/demo-quick").iterdir()} == {
        "faces.jpg", "failures-test.jpg", "failures-blur.jpg"
    }  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["nme"] == pytest.approx(nme.mean(), rel=1e-9)
    assert metrics["blur"]["nme"] == pytest.approx(nme[:30].mean(), rel=1e-9)
    content = json.loads((folder / "details.json").read_text())
    assert content["averages"]["inter_ocular"]["faces"] == pytest.approx(nme.mean(), rel=1e-9)
    assert np.mean(content["landmarks"]) == pytest.approx(nme.mean(), rel=1e-9)
    assert content["robustness"]["mean"]["nme"] == pytest.approx(1.5 * nme.mean(), rel=1e-9)
    assert sum(bin["n"] for bin in content["conditions"]["yaw"]) == 40
    assert content["conditions"].keys() == {"yaw", "side", "visible"}
    (experiment,) = read_results(root / "reports/experiments")
    assert experiment.faces.face_id == [f"f{i}" for i in range(40)]
    np.testing.assert_allclose(experiment.faces.nme, nme, rtol=1e-7)
    assert "(pages/demo-quick.md)" in (root / "reports/results.md").read_text()
    before = files(root / "reports")
    evaluate.main("demo-quick")
    report.main()
    assert files(root / "reports") == before


def test_a_face_without_a_prediction_is_listed(root):
    nme = prepare(root, missing=7)
    assert np.isinf(nme[7])
    evaluate.main("demo-quick")
    report.main()
    text = (root / "reports/pages/demo-quick.md").read_text()
    assert "1 face has no prediction and counts as a failure: f7." in text
    content = json.loads((root / "reports/experiments/demo-quick/details.json").read_text())
    assert content["without_prediction"] == ["f7"]


def test_pictures_that_may_not_be_shared_stay_out_of_the_report(root):
    prepare(root, share_pictures=False)
    evaluate.main("demo-quick")
    report.main()
    assert list((root / "reports").rglob("*.jpg")) == []
    assert (root / "data/galleries/demo-quick/faces.jpg").is_file()
    assert ".jpg" not in (root / "reports/pages/demo-quick.md").read_text()


def test_experiments_that_differ_in_their_seed_alone_are_one_series(root):
    prepare(root)
    quick = (root / "params/recipes/quick.yaml").read_text()
    (root / "params/recipes/again.yaml").write_text(quick.replace("seed: 1", "seed: 7"))
    (root / "params/recipes/longer.yaml").write_text(quick.replace("epochs: 16", "epochs: 17"))
    recipes = ("quick", "again", "longer")
    listed = ", ".join(f"demo-{recipe}: {{dataset: demo, recipe: {recipe}, init: random}}" for recipe in recipes)
    (root / "params/pipeline.yaml").write_text(
        f"datasets: {{demo: {{source: data/demo}}}}\nexperiments: {{{listed}}}\n"
    )
    experiments = {recipe: load_experiment(f"demo-{recipe}") for recipe in recipes}
    assert experiments["quick"].parameters != experiments["again"].parameters
    series = {recipe: series_key(experiment, identify(experiment)) for recipe, experiment in experiments.items()}
    assert series["quick"] == series["again"] != series["longer"]
