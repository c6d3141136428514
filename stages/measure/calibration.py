"""Does a heat map's score tell the error? N faces, K landmarks; a score is the peak of a heat map, 1 a perfect one."""

import warnings

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr

LEVELS = 10  # bins of the reliability curve
REJECTED = np.arange(0, 31) / 100  # shares of the faces


def rank_correlation(scores: np.ndarray, errors: np.ndarray) -> float | None:
    """Spearman's, of how unsure (the score, downwards) with how wrong: 1 where the score tells the order of errors.

    None where all scores or all errors are the same, or there are fewer than two.
    """
    if len(scores) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        found = float(spearmanr(-scores, errors).statistic)
    return None if np.isnan(found) else found


def reliability(scores: np.ndarray, errors: np.ndarray, levels: int = LEVELS) -> list[dict[str, float]]:
    """Landmarks by score in `levels` parts of equal number, the least certain first: mean score, median and mean error.

    scores, errors: of any one shape, landmark by landmark.
    """
    rank = np.argsort(scores, axis=None, kind="stable")
    parts = [part for part in np.array_split(rank, levels) if len(part)]
    score, error = scores.ravel(), errors.ravel()
    return [
        {"n": len(part), "score": float(score[part].mean()), "error": float(error[part].mean()),
         "median": float(np.median(error[part]))}
        for part in parts
    ]  # fmt: skip


def after_rejecting(certainty: np.ndarray, nme: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The mean error of the faces that are left when each of `shares` of them, the least certain, is put aside.

    certainty, nme: (N,). With −nme as the certainty it is the best that any score could do.
    """
    kept = nme[np.argsort(-certainty, kind="stable")]
    left = np.maximum(len(nme) - np.floor(shares * len(nme) + 1e-9).astype(int), 1)
    return np.array([kept[:n].mean() for n in left])
