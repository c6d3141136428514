"""Error analysis: against hand-made arrays, rotated heads, and an experiment whose predictions are made here."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from scipy.stats import rankdata
from test_report import of_method, render

from stages import evaluate, report
from stages.config.experiment import load_experiment
from stages.data.crops import windows, write_index
from stages.data.faces import Faces
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme, Scheme, write_scheme
from stages.metrics import breakdown, calibration
from stages.metrics.details import details, group_columns
from stages.metrics.evaluation import evaluate as measure
from stages.metrics.evaluation import mean_shape_predictions, measurable
from stages.metrics.remarks import against_baseline
from stages.metrics.results import read_results
from stages.metrics.schema import Averages, Details, Mean
from stages.predictions.table import Made, Predictions, write_predictions
from stages.reporting.experiment_figures import landmark_figure, nme_label
from stages.reporting.experiment_page import normaliser_table
from stages.sources.demo.mean_face import LANDMARKS
from stages.sources.demo.shape import deform, rotation
from stages.sources.demo.traits import draw
from stages.system.errors import InputError
from stages.tracking.provenance import identify, series_key
from stages.tracking.results import log_missing

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


def with_holes(faces: Faces) -> Faces:
    """Every fourth face lacks the nose and a corner of the mouth, the second face all of the mouth."""
    truth = faces.landmarks.copy()
    truth[::4, 2:4] = truth[1, 3:] = np.nan
    return replace(faces, landmarks=truth, visible=faces.visible & np.isfinite(truth).all(-1))


def test_what_is_not_annotated_counts_in_no_figure():
    faces, landmarks = with_holes(some_faces()), [4, 1, 2, 3]
    predictions = predict(faces, landmarks)
    evaluation = measure(predictions, SCHEME)
    content = details(evaluation, 1.25, measure(mean_shape_predictions(faces, predictions), SCHEME))
    json.dumps([content, evaluation.metrics([0.1])], allow_nan=False)

    # the definitions again, face by face and landmark by landmark
    by_landmark, by_group, by_face, visible, pairs, outside = [[] for _ in landmarks], [], [], [], [], 0
    px = []
    for i in range(len(faces)):
        eyes = faces.landmarks[i, 1] - faces.landmarks[i, 0]
        px.append(np.hypot(*eyes))
        face = {}
        for k, landmark in enumerate(landmarks):
            true = faces.landmarks[i, landmark]
            if np.isnan(true[0]):
                continue
            face[landmark] = 100 * np.hypot(*(predictions.points[i, k] - true)) / px[-1]
            by_landmark[k].append(face[landmark])
            pairs.append((predictions.scores[i, k], face[landmark]))
            visible += [face[landmark]] * int(faces.visible[i, landmark])
            outside += max(abs(true - faces.center[i])) > 1.25 / 2 * faces.side[i]
        by_face.append(np.mean(list(face.values())))
        mouth = [face[landmark] for landmark in (3, 4) if landmark in face]
        by_group += [np.mean(mouth)] if mouth else []
    average = content["averages"]["inter_ocular"]
    assert evaluation.metrics([0.1])["test"]["nme"] == pytest.approx(np.mean(by_face), rel=1e-12)
    assert average["faces"] == pytest.approx(np.mean(by_face), rel=1e-12)
    assert average["visible"] == pytest.approx(np.mean(visible), rel=1e-12)
    assert average["pooled"] == pytest.approx(np.dot(by_face, px) / np.sum(px), rel=1e-12)
    assert content["landmarks"] == pytest.approx([np.mean(errors) for errors in by_landmark], rel=1e-12)
    assert content["groups"]["mouth"]["nme"] == pytest.approx(np.mean(by_group), rel=1e-12)
    nose = (faces.landmarks[:, 2] - faces.center) / faces.side[:, None]
    assert content["mean_face"][2] == pytest.approx(nose[~np.isnan(nose[:, 0])].mean(0), abs=1e-5)
    scores, errors = np.array(pairs).T
    rho = np.corrcoef(rankdata(-scores), rankdata(errors))[0, 1]
    assert content["calibration"]["rank_correlation_landmarks"] == pytest.approx(rho, abs=1e-12)
    assert sum(bin["n"] for bin in content["calibration"]["reliability"]) == len(pairs)
    assert content["outside_input"]["landmarks"] == pytest.approx(outside / len(pairs), rel=1e-12)
    hidden = sum(faces.annotated[:, landmarks].ravel() & ~faces.visible[:, landmarks].ravel())
    assert content["annotation"] == {"landmarks": 160, "not_annotated": 160 - len(pairs), "hidden": hidden}
    assert 0 < sum(bin["n"] for bin in content["conditions"]["yaw"]) == 40 - 10 - 1  # those with all of the landmarks
    assert sum(bin["n"] for bin in content["conditions"]["visible"]) == 40


def test_predictions_and_scores_of_landmarks_that_are_not_annotated_do_not_matter():
    faces = with_holes(some_faces())
    predictions = predict(faces, [0, 1, 2, 3, 4])
    absent = ~faces.annotated
    for point, score in ((np.nan, 0.0), (1e6, 1.0)):
        other = replace(
            predictions,
            points=np.where(absent[..., None], point, predictions.points),
            scores=np.where(absent, score, predictions.scores),
        )
        one, two = measure(predictions, SCHEME), measure(other, SCHEME)
        assert details(one, 1.25) == details(two, 1.25)
        pd.testing.assert_frame_equal(one.face_table(), two.face_table())


def test_a_missing_prediction_of_an_annotated_landmark_is_a_failure_also_beside_those_not_annotated():
    content = details(measure(predict(with_holes(some_faces()), [0, 1, 2, 3, 4], missing=4), SCHEME), 1.25)
    assert content["without_prediction"] == ["f4"]
    assert content["averages"]["inter_ocular"]["faces"] is None


def test_without_a_hidden_landmark_there_is_no_analysis_of_visibility():
    faces = with_holes(some_faces())
    content = details(measure(predict(replace(faces, visible=faces.annotated), [0, 1, 2, 3, 4]), SCHEME), 1.25)
    assert "visible" not in content["conditions"]
    assert content["annotation"]["hidden"] == 0


def test_a_landmark_and_a_group_that_no_face_has_are_left_out():
    faces = some_faces()
    faces.landmarks[:, 2] = np.nan
    predictions = predict(faces, [0, 1, 2, 3, 4])
    evaluation = measure(predictions, SCHEME)
    content = details(evaluation, 1.25, measure(mean_shape_predictions(faces, predictions), SCHEME))
    assert content["landmarks"][2] is content["mean_face"][2] is None
    assert content["groups"].keys() == {"eyes", "mouth"}
    assert "yaw" not in content["conditions"]
    landmark_figure(Details.model_validate(content), [0, 1, 2, 3, 4]).draw_without_rendering()
    untrained = measure(mean_shape_predictions(faces, predict(some_faces(), [0, 1, 2, 3, 4])), SCHEME)
    assert evaluation.metrics([0.1], untrained)["test"]["nme_mean_shape"] is None  # no face of train has the nose
    assert details(evaluation, 1.25, untrained)["mean_shape"] is None


def test_a_secondary_normaliser_is_averaged_over_the_faces_that_have_it():
    scheme = SCHEME.model_copy(update={"normaliser": "box_side"})
    faces = some_faces()
    faces.landmarks[:7, 0] = np.nan
    predictions = predict(faces, [0, 1, 2, 3, 4])
    whole, part = (
        details(measure(p, scheme), 1.25)["averages"] for p in (predictions, predictions.where(np.arange(40) > 6))
    )
    assert whole["inter_ocular"] == pytest.approx(part["inter_ocular"], rel=1e-12)
    assert (whole["inter_ocular"]["n"], whole["box_side"]["n"]) == (33, 40)
    text = normaliser_table({name: Averages.model_validate(row) for name, row in whole.items()}, "box_side")
    assert "inter-ocular distance (outer eye corners), 33 of 40 faces |" in text


def test_landmarks_at_one_height_have_no_secondary_normaliser_and_are_measured():
    faces = some_faces()
    faces.landmarks[:, :2, 1] = 50
    faces = replace(faces, landmarks=faces.landmarks[:, :2], visible=faces.visible[:, :2])
    scheme = SCHEME.model_copy(update={"count": 2, "groups": {"eyes": [0, 1]}, "flip_pairs": [[0, 1]]})
    content = details(measure(predict(faces, [0, 1]), scheme), 1.25)
    assert content["averages"]["box_sqrt"] == {"n": 0, "faces": None, "visible": None, "pooled": None}
    assert content["averages"]["inter_ocular"]["n"] == content["averages"]["box_diagonal"]["n"] == 40
    averages = Details.model_validate(content).averages
    assert "| √(w·h) of the landmarks' bounding box, 0 of 40 faces" in normaliser_table(averages, "inter_ocular")


def test_faces_without_the_official_normaliser_are_refused_by_name():
    faces = some_faces()
    faces.landmarks[3, 0] = np.nan
    faces.landmarks[5, 0] = faces.landmarks[5, 1]
    predictions = predict(faces, [0, 1, 2, 3, 4])
    with pytest.raises(InputError, match="2 faults") as caught:
        measure(predictions, SCHEME)
    for face in ("f3", "f5"):
        assert f"face {face}: inter_ocular is 0 or needs a landmark that is not annotated" in str(caught.value)
    faces.landmarks[6, [2, 3]] = np.nan
    predictions = predict(faces, [2, 3])
    measured = measurable(predictions, SCHEME)
    assert np.flatnonzero(~measured).tolist() == [3, 5, 6]
    assert measure(predictions.where(measured), SCHEME).faces.face_id == [
        f"f{i}" for i in range(40) if i not in (3, 5, 6)
    ]


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (np.full(150, 3.0), "worse"),
        (np.zeros(150), "worse"),
        (np.r_[np.full(149, 1.0), -160.0], "not significantly better"),
        (np.r_[np.full(120, -3.0), np.full(30, 3.0)], "better"),
    ],
)
def test_a_model_is_compared_with_the_mean_shape_face_by_face(difference, verdict):
    baseline = np.linspace(20, 90, 150)
    found = against_baseline(baseline + difference, baseline)
    assert (found["verdict"], found["difference"]) == (verdict, pytest.approx(difference.mean(), abs=1e-12))
    beside_missing = against_baseline(np.append(baseline + difference, np.inf), np.append(baseline, 5.0))
    assert beside_missing == found
    assert against_baseline(np.full(3, np.inf), np.ones(3))["verdict"] == "worse"


def prepare(
    root: Path, missing: int | None = None, share_pictures: bool = True, faces: Faces | None = None, seen: int = 0,
    worse: float = 1,
) -> np.ndarray:  # fmt: skip
    """All that evaluate reads of demo-quick, its predictions among it. Returns their NMEs (N,) in percent.

    seen: how many test faces are of images of the training. worse: a factor of the errors.
    """
    faces = some_faces() if faces is None else faces
    faces = replace(faces, extra={"image_sha256": [f"{i:064x}" for i in range(len(faces))]})
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
    crops = root / "data/crops/demo"
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
    images = sorted(f"{i:064x}" for i in (*range(seen), *range(100, 140)))
    (root / "data/training/demo-quick/images.txt").write_text("".join(f"{name}\n" for name in images))
    predictions = predict(faces, [0, 1, 2, 3, 4], missing)
    points = predictions.truth + worse * (predictions.points - predictions.truth)
    predictions = replace(predictions, points=np.where(faces.annotated[..., None], points, 0))
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
        "landmarks", "numbers", "conditions", "calibration", "robustness", "training", "faces", "failures"
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
    render(root)
    text = (root / "reports/pages/demo-quick.md").read_text()
    assert "1 face has no prediction and counts as a failure: f7." in text
    content = json.loads((root / "reports/experiments/demo-quick/details.json").read_text())
    assert content["without_prediction"] == ["f7"]


def test_the_page_says_what_is_not_annotated(root):
    nme = prepare(root, faces=with_holes(some_faces()))
    evaluate.main("demo-quick")
    assert "Results that are not shown" not in render(root)
    metrics = json.loads((root / "reports/experiments/demo-quick/metrics.json").read_text())
    assert metrics["test"]["nme"] == pytest.approx(nme.mean(), rel=1e-9)
    text = (root / "reports/pages/demo-quick.md").read_text()
    assert "Of the 200 landmarks of the test faces, 22 are not annotated, so not measured, and " in text
    assert "Faces differ in their number of annotated landmarks" in text
    assert "Every face has the same number of landmarks" not in text
    assert "for the 29 of 40 faces that have all of these annotated" in text


def test_the_page_is_silent_where_everything_is_annotated(root):
    faces = some_faces()
    prepare(root, faces=replace(faces, visible=np.ones((40, 5), bool)))
    evaluate.main("demo-quick")
    render(root)
    text = (root / "reports/pages/demo-quick.md").read_text()
    assert "not annotated" not in text
    assert "Every face has the same number of landmarks" in text
    assert "that have all of these annotated" not in text


def test_figures_are_given_at_the_dataset_s_own_thresholds(root):
    nme = prepare(root)
    file = root / "params/datasets/demo.yaml"
    assert "thresholds: [0.08, 0.10]" in file.read_text()
    file.write_text(file.read_text().replace("thresholds: [0.08, 0.10]", "thresholds: [0.07, 0.125]"))
    with pytest.raises(InputError, match="evaluation.thresholds: two decimals at most"):
        evaluate.main("demo-quick")
    file.write_text(file.read_text().replace("0.125]", "0.2]"))
    evaluate.main("demo-quick")
    render(root)
    entry = json.loads((root / "reports/experiments/demo-quick/metrics.json").read_text())["test"]
    assert {key for key in entry if key.startswith(("fr", "auc"))} == {
        f"{kind}_{t}{end}" for kind in ("fr", "auc") for t in ("0.07", "0.20") for end in ("", "_ci95")
    }
    assert entry["fr_0.07"] == pytest.approx(100 * (nme > 7).mean())
    assert entry["auc_0.20"] == pytest.approx(100 * np.clip(1 - nme / 20, 0, 1).mean())
    for page in ("results.md", "pages/demo-quick.md"):
        (header, *_) = re.findall(
            r"\| (?:method|subset)[^\n]*FR@7\b(?! \[)[^\n]*", (root / "reports" / page).read_text()
        )
        assert re.findall(r"(?:FR|AUC)@\d+", header) == ["FR@7", "FR@20", "AUC@7", "AUC@20"]


def test_a_model_that_learned_nothing_is_said_to_be_worse_than_the_mean_shape(root, capsys):
    prepare(root, worse=20)
    evaluate.main("demo-quick")
    render(root)
    test = json.loads((root / "reports/experiments/demo-quick/metrics.json").read_text())["test"]
    words = f"worse than the mean-shape baseline ({test['nme']:.2f} % against {test['nme_mean_shape']:.2f} %)"
    assert (
        f"warning: demo-quick: {words}: it has learned nothing that helps. Usual causes: too few"
        in capsys.readouterr().err
    )
    assert f"**Note**: {words}" in (root / "reports/pages/demo-quick.md").read_text()
    text = (root / "reports/results.md").read_text()
    assert f"</sup> W{words[1:]}" in text
    assert "<sup>a</sup>" in of_method(text, "demo-quick")["method"]


@pytest.mark.parametrize(("seen", "recorded"), [(0, True), (7, True), (7, False)])
def test_test_faces_of_training_images_are_counted_and_said(root, capsys, seen, recorded):
    prepare(root, seen=seen)
    if not recorded:
        (root / "data/training/demo-quick/images.txt").unlink()
    evaluate.main("demo-quick")
    render(root)
    made = json.loads((root / "reports/experiments/demo-quick/provenance.json").read_text())
    assert made["seen_in_training"] == (seen if recorded else None)
    words = "7 of 40 test faces are of images that the model was trained on: optimistic"
    said = seen > 0 and recorded
    assert (words in capsys.readouterr().err) == said
    for page in ("results.md", "pages/demo-quick.md"):
        assert (words in (root / "reports" / page).read_text()) == said


def test_damaged_results_are_not_logged(root):
    prepare(root)
    evaluate.main("demo-quick")
    (root / "models/demo-quick").mkdir()
    (root / "models/demo-quick/model.safetensors").write_bytes(b"weights")
    (root / "reports/experiments/demo-quick/metrics.json").write_text("{")
    assert report.main() == ["demo-quick"]
    assert log_missing(["demo-quick"]) == []


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


def test_the_axis_of_means_says_which_of_them_have_an_interval():
    with_interval, without = Mean(nme=4.0, ci95=(3.0, 5.0)), Mean(nme=4.0, ci95=None)
    assert nme_label([with_interval, with_interval]) == "NME (%), with 95 % interval"
    assert nme_label([with_interval, without]) == "NME (%), 95 % interval from 130 faces on"
    assert nme_label([without]) == nme_label([]) == "NME (%)"
