"""The error analysis of one set of predictions as plain values: details.json."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from stages.data.geometry import outside_window
from stages.metrics import breakdown, calibration
from stages.metrics.detected import detector_errors
from stages.metrics.evaluation import Evaluation
from stages.metrics.expected import expected_errors
from stages.metrics.remarks import against_baseline


def group_columns(groups: Mapping[str, Sequence[int]], landmarks: Sequence[int]) -> dict[str, list[int]]:
    """The dataset's groups as columns of the predicted `landmarks`; groups without a predicted one are left out."""
    column = {landmark: k for k, landmark in enumerate(landmarks)}
    columns = {name: [column[i] for i in members if i in column] for name, members in groups.items()}
    return {name: members for name, members in columns.items() if members}


def outside_input(evaluation: Evaluation, box: float) -> np.ndarray:
    """(N, K) bool: which annotated landmarks are outside a model's input of `box` face boxes."""
    faces = evaluation.faces
    return outside_window(evaluation.predictions.truth, faces.center, faces.side, box)


def details(
    evaluation: Evaluation,
    box: float | None,
    baseline: Evaluation | None = None,
    left_out: Sequence[str] = (),
    thresholds: Sequence[float] = (),
) -> dict:
    """details.json: percent of the official normaliser where no other is named; None where a value is not finite.

    box: the side of the model's input in face boxes, None where that is not known. baseline: the mean shape on the same
    faces. left_out: faces of the test split that cannot be measured. Landmarks and groups are those that were
    predicted; pose, size and visibility are those of the whole face. What is not annotated counts in nothing.
    """
    predictions, scheme, faces = evaluation.predictions, evaluation.scheme, evaluation.faces
    points, truth = predictions.points, predictions.truth
    landmarks = evaluation.landmarks
    by_normaliser = {name: breakdown.landmark_errors(points, truth, px) for name, px in evaluation.normalisers.items()}
    errors = by_normaliser[scheme.normaliser]
    nme = 100 * evaluation.official
    visible, annotated = faces.visible[:, landmarks], faces.annotated[:, landmarks]
    averages = {
        name: breakdown.averages(by_normaliser[name], px, visible) for name, px in evaluation.normalisers.items()
    }
    groups = group_columns(scheme.groups, landmarks)
    degrees = breakdown.yaw(faces.landmarks, scheme.groups, scheme.flip_pairs)
    bins = breakdown.conditions(nme, degrees, faces.side, faces.visible, faces.annotated)
    scores = predictions.scores[annotated]
    perturbed = {name: 100 * values for name, values in evaluation.perturbed.items()}
    detected = perturbed.pop("detector", None)
    content = {
        "n": len(faces),
        "normaliser": scheme.normaliser,
        "without_prediction": [faces.face_id[i] for i in np.flatnonzero(~np.isfinite(nme))],
        "averages": averages,
        "percentiles": {name: breakdown.percentiles(nme[rows]) for name, rows in evaluation.subsets().items()},
        "landmarks": breakdown.known_mean(errors, 0).tolist(),
        "mean_face": [
            None if np.isnan(point).any() else point.round(5).tolist()
            for point in breakdown.mean_face(truth, faces.center, faces.side)
        ],
        "groups": breakdown.group_errors(errors, groups),
        "group_sizes": {name: len(members) for name, members in groups.items()},
        "conditions": {name: [bin._asdict() for bin in condition] for name, condition in bins.items()},
        "robustness": breakdown.robustness(nme, perturbed),
        "detector": None if detected is None else detector_errors(nme, detected, thresholds),
        "calibration": None if np.isnan(scores).any() else _calibration(evaluation, scores, errors[annotated]),
        "expected": _expected(evaluation, errors, groups),
        "outside_input": None if box is None else _outside_input(evaluation, box, errors),
        "annotation": {
            "landmarks": annotated.size,
            "not_annotated": int((~annotated).sum()),
            "hidden": int((annotated & ~visible).sum()),
        },
        "left_out": list(left_out),
        "mean_shape": baseline and against_baseline(nme, 100 * baseline.official),
    }
    return _plain(content)


def _calibration(evaluation: Evaluation, scores: np.ndarray, errors: np.ndarray) -> dict:
    """scores, errors: (L,) of all annotated landmarks."""
    confidence, nme, rejected = evaluation.confidence, 100 * evaluation.official, calibration.REJECTED
    return {
        "rank_correlation_faces": calibration.rank_correlation(confidence, nme),
        "rank_correlation_landmarks": calibration.rank_correlation(scores, errors),
        "reliability": calibration.reliability(scores, errors),
        "rejected": rejected.tolist(),
        "nme_left": calibration.risk_coverage(confidence, nme, rejected).tolist(),
        "nme_left_at_best": calibration.risk_coverage(-nme, nme, rejected).tolist(),
    }


def _expected(evaluation: Evaluation, errors: np.ndarray, groups: Mapping[str, Sequence[int]]) -> dict | None:
    """errors: (N, K)."""
    predictions = evaluation.predictions
    if predictions.expected is None or predictions.made is None or predictions.made.bound is None:
        return None
    normaliser = evaluation.normalisers[evaluation.scheme.normaliser]
    return expected_errors(100 * predictions.expected / normaliser[:, None], errors, predictions.made.bound, groups)


def _outside_input(evaluation: Evaluation, box: float, errors: np.ndarray) -> dict:
    """errors: (N, K)."""
    outside = outside_input(evaluation, box)
    annotated = evaluation.faces.annotated[:, evaluation.landmarks]
    return {
        "landmarks": float(outside.sum() / annotated.sum()),
        "faces": int(outside.any(1).sum()),
        "nme": float(errors[outside].mean()) if outside.any() else None,
    }


def _plain(value: object) -> object:
    """JSON has no ∞, no NaN and no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
