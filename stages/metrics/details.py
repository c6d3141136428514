"""The error analysis of one set of predictions as plain values: details.json."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from stages.data.geometry import outside_window
from stages.metrics import breakdown, calibration
from stages.metrics.evaluation import Evaluation


def group_columns(groups: Mapping[str, Sequence[int]], landmarks: Sequence[int]) -> dict[str, list[int]]:
    """The dataset's groups as columns of the predicted `landmarks`; groups without a predicted one are left out."""
    column = {landmark: k for k, landmark in enumerate(landmarks)}
    columns = {name: [column[i] for i in members if i in column] for name, members in groups.items()}
    return {name: members for name, members in columns.items() if members}


def details(evaluation: Evaluation, box: float) -> dict:
    """details.json: percent of the official normaliser where no other is named; None where a value is not finite.

    box: the side of the model's input in face boxes. Landmarks and groups are those that were predicted; pose, size and
    visibility are those of the whole face.
    """
    predictions, scheme, faces = evaluation.predictions, evaluation.scheme, evaluation.faces
    points, truth, scores = predictions.points, predictions.truth, predictions.scores
    landmarks = evaluation.landmarks
    by_normaliser = {name: breakdown.landmark_errors(points, truth, px) for name, px in evaluation.normalisers.items()}
    errors = by_normaliser[scheme.normaliser]
    nme = errors.mean(1)
    visible = faces.visible[:, landmarks]
    averages = {
        name: breakdown.averages(by_normaliser[name], px, visible) for name, px in evaluation.normalisers.items()
    }
    groups = group_columns(scheme.groups, landmarks)
    degrees = breakdown.yaw(faces.landmarks, scheme.groups, scheme.flip_pairs)
    bins = breakdown.conditions(nme, degrees, faces.side, faces.visible)
    confidence = scores.mean(1)
    outside = outside_window(truth, faces.center, faces.side, box)
    rejected = calibration.REJECTED
    content = {
        "n": len(faces),
        "normaliser": scheme.normaliser,
        "without_prediction": [faces.face_id[i] for i in np.flatnonzero(~np.isfinite(nme))],
        "averages": averages,
        "percentiles": {name: breakdown.percentiles(nme[rows]) for name, rows in evaluation.subsets().items()},
        "landmarks": errors.mean(0).tolist(),
        "mean_face": breakdown.mean_face(truth, faces.center, faces.side).round(5).tolist(),
        "groups": breakdown.group_errors(errors, groups),
        "group_sizes": {name: len(members) for name, members in groups.items()},
        "conditions": {name: [bin._asdict() for bin in condition] for name, condition in bins.items()},
        "robustness": breakdown.robustness(nme, {name: 100 * values for name, values in evaluation.perturbed.items()}),
        "calibration": {
            "rank_correlation_faces": calibration.rank_correlation(confidence, nme),
            "rank_correlation_landmarks": calibration.rank_correlation(scores.ravel(), errors.ravel()),
            "reliability": calibration.reliability(scores, errors),
            "rejected": rejected.tolist(),
            "nme_left": calibration.risk_coverage(confidence, nme, rejected).tolist(),
            "nme_left_at_best": calibration.risk_coverage(-nme, nme, rejected).tolist(),
        },
        "outside_input": {
            "landmarks": float(outside.mean()),
            "faces": int(outside.any(1).sum()),
            "nme": float(errors[outside].mean()) if outside.any() else None,
        },
    }
    return _plain(content)


def _plain(value: object) -> object:
    """JSON has no ∞, no NaN and no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
