"""All that an experiment's page tells, as plain values: details.json."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from stages.errors import refuse
from stages.measure import breakdown, calibration
from stages.measure.metrics import normalisers
from stages.measure.predictions import REMEDY, Predictions, subset_rows

QUOTED = np.array([0.05, 0.10])  # shares of the faces, the least certain, put aside


def official_errors(found: Predictions, definitions: Mapping[str, object], official: str) -> np.ndarray:
    """(N, K) percent of the official normaliser. Raises `InputError` where the NMEs stored are not those of the
    points stored: the predictions, the faces or the normaliser have changed since they were measured."""
    divisors = normalisers(found.faces.landmarks, found.faces.side, definitions)
    faults = [f"nme_{name}: missing" for name in divisors if name not in found.nme]
    for name in divisors.keys() & found.nme.keys():
        again = breakdown.landmark_errors(found.points, found.faces.landmarks, divisors[name]).mean(1)
        stored = found.nme[name]
        same = np.isclose(again, stored, rtol=1e-6, atol=0) | (again == stored)
        faults += [
            f"face {found.faces.face_id[i]}: nme_{name} is {stored[i]:.6g}, and its points give {again[i]:.6g}"
            for i in np.flatnonzero(~same)
        ]
    refuse(faults, "the predictions", REMEDY)
    return breakdown.landmark_errors(found.points, found.faces.landmarks, divisors[official])


def details(
    found: Predictions,
    definitions: Mapping[str, object],
    official: str,
    groups: Mapping[str, Sequence[int]],
    pairs: Sequence[Sequence[int]],
    box: float,
) -> dict:
    """details.json: figures in percent of the official normaliser where no other is named; None is not finite.

    definitions, official: the dataset's normalisers. groups, pairs: its landmarks. box: the input's side in face boxes.
    """
    faces = found.faces
    errors = official_errors(found, definitions, official)
    nme = errors.mean(1)
    divisors = normalisers(faces.landmarks, faces.side, definitions)
    averages = {
        name: breakdown.averages(
            breakdown.landmark_errors(found.points, faces.landmarks, divisor), divisor, faces.visible
        )
        for name, divisor in divisors.items()
    }
    turned = breakdown.yaw(faces.landmarks, groups, pairs)
    bins = breakdown.conditions(nme, turned, faces.side, faces.visible)
    certainty = found.scores.mean(1)
    outside = np.abs(faces.landmarks - faces.center[:, None]).max(-1) > box / 2 * faces.side[:, None]
    shares = calibration.REJECTED
    content = {
        "n": len(faces),
        "normaliser": official,
        "without_prediction": [faces.face_id[i] for i in np.flatnonzero(~np.isfinite(nme))],
        "averages": averages,
        "percentiles": {name: breakdown.percentiles(nme[rows]) for name, rows in subset_rows(faces.subsets).items()},
        "landmarks": errors.mean(0).tolist(),
        "groups": breakdown.group_errors(errors, groups),
        "group_sizes": {name: len(members) for name, members in groups.items()},
        "conditions": {name: [each._asdict() for each in of] for name, of in bins.items()},
        "robustness": breakdown.robustness(nme, found.displaced),
        "calibration": {
            "rank_correlation_faces": calibration.rank_correlation(certainty, nme),
            "rank_correlation_landmarks": calibration.rank_correlation(found.scores.ravel(), errors.ravel()),
            "reliability": calibration.reliability(found.scores, errors),
            "rejected": shares.tolist(),
            "nme_left": calibration.after_rejecting(certainty, nme, shares).tolist(),
            "nme_left_at_best": calibration.after_rejecting(-nme, nme, shares).tolist(),
        },
        "outside_input": {
            "landmarks": float(outside.mean()),
            "faces": int(outside.any(1).sum()),
            "nme": float(errors[outside].mean()) if outside.any() else None,
        },
    }
    return _plain(content)


def _plain(value: object) -> object:
    """JSON knows no ∞ and no NaN, and no intervals as tuples."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
