"""How many wrong labels are found, and how many suspects are right labels: measured with labels moved on purpose.

Symbols: N faces, K landmarks, M methods.
"""

from dataclasses import dataclass

import numpy as np

from stages.metrics.label_suspects import Scores, score

FACES = 500  # of a larger dataset, that many are drawn
REPEATS = 3


@dataclass(frozen=True)
class Found:
    """Of labels moved by so many percent of the normaliser: the share that are suspects (recall), and the share of the
    suspects that were not moved (false_alarms; NaN without a suspect)."""

    by: float
    moved: int
    recall: float
    false_alarms: float


def simulate(
    scores: Scores, predictions: np.ndarray, truth: np.ndarray, normaliser: np.ndarray,
    instability: np.ndarray | None = None, *, by: float, share: float, false_alarms: float, seed: int,
) -> Found:  # fmt: skip
    """Replace all labels by right ones, move a `share` of them `by` percent of the normaliser in random directions, and
    look for them at the expected share of `false_alarms`.

    A right label lies about the methods' consensus as `scores.null` says; what is measured is then whether the score
    and its threshold find the moved ones among them. Arrays as of `label_suspects.score`, which gave `scores`.
    """
    rng = np.random.default_rng(seed)
    moved_total = found = false = 0
    for _ in range(REPEATS):
        rows = np.sort(rng.permutation(len(truth))[:FACES])
        labels, moved = moved_labels(*right_labels(scores, truth, normaliser, rows, rng), by, share, rng)
        unstable = None if instability is None else instability[rows]
        suspects = score(predictions[:, rows], labels, normaliser[rows], unstable).suspects(false_alarms)
        moved_total += moved.sum()
        found += (suspects & moved).sum()
        false += (suspects & ~moved).sum()
    return Found(
        by, int(moved_total), found / max(moved_total, 1), false / (found + false) if found + false else np.nan
    )


def right_labels(
    scores: Scores, truth: np.ndarray, normaliser: np.ndarray, rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(n, K, 2) px: labels of some faces that are right by construction, NaN where there is no score; and the faces'
    normalisers (n,)."""
    unit = normaliser[rows, None, None] / 100
    known = np.isfinite(scores.score[rows])
    root = np.linalg.cholesky(np.where(known[..., None, None], scores.covariance[rows], np.eye(2)))
    angle = rng.uniform(0, 2 * np.pi, known.shape)
    direction = np.stack([np.cos(angle), np.sin(angle)], -1)
    usual = scores.null.draw(known.shape, rng)[..., None] * np.einsum("nkij,nkj->nki", root, direction)
    labels = truth[rows] + (scores.residual[rows] - usual) * unit
    return np.where(known[..., None], labels, np.nan), normaliser[rows]


def moved_labels(
    labels: np.ndarray, normaliser: np.ndarray, by: float, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The labels (n, K, 2) with a share of them moved, at least one; and (n, K) bool, which ones."""
    known = np.flatnonzero(np.isfinite(labels).all(-1))
    chosen = rng.choice(known, max(1, round(share * len(known))), replace=False)
    moved = np.zeros(labels.shape[:2], bool)
    moved.flat[chosen] = True
    angle = rng.uniform(0, 2 * np.pi, moved.shape)
    step = by / 100 * normaliser[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return np.where(moved[..., None], labels + step, labels), moved
