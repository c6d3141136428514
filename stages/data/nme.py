"""The normalised mean error (NME) of one face, and what it is divided by.

Training (the best epoch on val) and evaluation share this definition; what is made of the errors of many faces is in
stages/metrics. Symbols: N faces, K landmarks.
"""

from collections.abc import Mapping

import numpy as np

from stages.system.errors import InputError


def face_errors(predicted: np.ndarray, truth: np.ndarray, normaliser: np.ndarray) -> np.ndarray:
    """Each face's mean distance over its annotated landmarks as a fraction of its normaliser.

    predicted, truth: (N, K, 2) in the same px, truth NaN where not annotated. normaliser: (N,) in those px. Returns
    (N,) float64. A face with a NaN prediction of an annotated landmark has an infinite error: a failure at every
    threshold. NaN where nothing can be measured: no landmark is annotated, or the normaliser is NaN.
    Raises ValueError where the shapes differ, since broadcasting would give figures for faces that do not exist.
    """
    predicted, truth, normaliser = (np.asarray(a, np.float64) for a in (predicted, truth, normaliser))
    if predicted.shape != truth.shape or normaliser.shape != truth.shape[:1]:
        raise ValueError(f"predicted {predicted.shape}, truth {truth.shape} and normaliser {normaliser.shape} differ")
    distance = np.hypot(*np.moveaxis(predicted - truth, -1, 0))  # (N, K)
    annotated = np.isfinite(truth).all(-1)
    distance = np.where(annotated & np.isnan(distance), np.inf, distance)
    if annotated.all():
        return distance.mean(axis=1) / normaliser
    with np.errstate(invalid="ignore"):  # 0/0: no landmark is annotated
        return np.where(annotated, distance, 0).sum(axis=1) / annotated.sum(axis=1) / normaliser


def normalisers(truth: np.ndarray, box_side: np.ndarray, definitions: Mapping[str, object]) -> dict[str, np.ndarray]:
    """The normalisers, (N,) px each, by name.

    truth: (N, K, 2) px. box_side: (N,) px, the side of the square face box. definitions, from a scheme:
    two landmarks ([60, 72]: their distance), two groups of landmarks ([[96], [97]]: the distance of the groups' means),
    or "box" (the face box's side). Always defined as well: `box_sqrt`, √(w·h) of the landmarks' own bounding box, and
    `box_diagonal` of the same.
    NaN for a face where the normaliser is 0 or needs a landmark that is not annotated; only who needs it refuses.
    Raises `InputError` for a definition that names no landmark of these.
    """
    truth = np.asarray(truth, np.float64)
    count = truth.shape[1]
    low, high = (np.where(np.isnan(truth), empty, truth) for empty in (np.inf, -np.inf))
    width, height = np.moveaxis(high.max(axis=1, initial=-np.inf) - low.min(axis=1, initial=np.inf), -1, 0)
    lengths = {}
    for name, definition in definitions.items():
        if definition == "box":
            lengths[name] = np.asarray(box_side, np.float64)
            continue
        one, other = (np.atleast_1d(group) for group in definition)
        outside = [int(i) for i in (*one, *other) if not 0 <= i < count]
        if outside:
            raise InputError(f"normaliser {name} names landmarks {outside}; there are {count} (0 to {count - 1}).")
        apart = truth[:, one].mean(axis=1) - truth[:, other].mean(axis=1)
        lengths[name] = np.hypot(apart[:, 0], apart[:, 1])
    lengths |= {"box_sqrt": np.sqrt(width * height), "box_diagonal": np.hypot(width, height)}
    return {name: np.where(np.isfinite(px) & (px > 0), px, np.nan) for name, px in lengths.items()}
