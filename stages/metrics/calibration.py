"""Whether the score of a heat map predicts the error.

Symbols: N faces, K landmarks. A score is the peak of a heat map, 1 at best.
"""

import warnings

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr

LEVELS = 10  # bins of the reliability curve
REJECTED = np.arange(0, 31) / 100  # shares of the faces


def rank_correlation(scores: np.ndarray, errors: np.ndarray) -> float | None:
    """Spearman's ρ of the error with the score, the sign turned: 1 where the lowest score has the largest error.

    None where all scores or all errors are the same, or there are fewer than two.
    """
    if len(scores) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        rho = float(spearmanr(-scores, errors).statistic)
    return None if np.isnan(rho) else rho


def reliability(scores: np.ndarray, errors: np.ndarray, levels: int = LEVELS) -> list[dict[str, float]]:
    """The reliability curve: landmarks by score in `levels` bins of equal number, lowest score first.

    scores, errors: of any one shape, landmark by landmark. Per bin its number, mean score, mean and median error.
    """
    rank = np.argsort(scores, axis=None, kind="stable")
    bins = [rows for rows in np.array_split(rank, levels) if len(rows)]
    score, error = scores.ravel(), errors.ravel()
    return [
        {"n": len(rows), "score": float(score[rows].mean()), "error": float(error[rows].mean()),
         "median": float(np.median(error[rows]))}
        for rows in bins
    ]  # fmt: skip


def risk_coverage(confidence: np.ndarray, nme: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """The risk–coverage curve: the mean error of the faces that remain when shares of them are rejected.

    confidence, nme: (N,); the lowest confidence is rejected first. rejected: (M,) shares; the coverage is 1 − rejected.
    With −nme as the confidence it is the best possible curve.
    """
    order = nme[np.argsort(-confidence, kind="stable")]
    kept = np.maximum(len(nme) - np.floor(rejected * len(nme) + 1e-9).astype(int), 1)
    return np.array([order[:n].mean() for n in kept])
