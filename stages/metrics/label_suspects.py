"""Which annotated landmarks are doubtful: where unlike methods agree with each other and not with the annotation.

Symbols: N faces, K landmarks, M methods. Residuals are predicted − annotated in percent of a face's normaliser.

Score. A method's own bias, its median residual on a landmark of upright faces, is removed. Each landmark has its usual
residuals, far longer along the jaw than across it: a robust 2×2 covariance Σ. Where the methods are at odds about the
landmarks around (hair, shadow, profile), larger residuals are usual too: the difficulty h is the mean square of their
disagreement about the nearest landmarks, this one left out, relative to what is usual there. The consensus r of the
methods, weighted by their usual precision, is uncertain by its standard error, from their scatter here, and by how far
predictions move from slightly other face boxes, more than they usually do for this landmark: behind sunglasses or hair
methods may agree on a guess. With the sum u² of both squares, score² = rᵀ (h Σ + u² I)⁻¹ r, where hΣ is scaled so that
without u the median is a Gaussian's. A label that one of two methods agrees with has a score of 1 at most.

Threshold. The expected share of false alarms comes from an empirical null (Efron 2004, JASA 99): the errors that
methods share, relative to Σ and h, are taken to have the tail of those that they do not share. The latter can be seen:
in the disagreement of the two most precise methods, standardised in the same way. The tail is that of a bivariate
Student t, P(score² > x) = (1 + x / (ν c))^(−ν/2). N·K times it, over the number of labels above a score, is the
expected share: an upper one, since the standard error of the consensus, which lowers the scores, is not in it.

What holds: where right labels are scattered so about the consensus, the share measured with labels moved on purpose is
at most the share stated (stages/metrics/moved_labels.py). What does not: methods that learned from the same annotators,
or that see the same shadow, may err alike where they never disagree. Predictions and annotation alone cannot tell that
from a wrong label: a person has to look. With one method nothing is known of agreement: h is then the face's median
residual, and the tail that of the residuals between their median and their 97.5th percentile. It tells what is unusual
for this method, and promises nothing about the labels: a method that fails on some faces has a list of these.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

KEPT = 0.75  # of the faces, in a landmark's robust covariance
BORROWED = 10  # faces' worth of the pooled covariance in that of a landmark
SMALLEST = 0.05  # percent of the normaliser: nothing is known better
GAUSSIAN = 2 * np.log(2)  # the median of χ² with two degrees of freedom
NEAREST = 8  # landmarks that tell a landmark's difficulty …
USUAL = 4  # … and so many more of the usual one, since eight are few …
MOST = 8  # … each counting up to so many times the usual square
TAIL = (0.9, 1)  # the quantiles of disagreements between which their tail is fitted …
BULK = (0.5, 0.975)  # … and those of residuals where there is one method
FEWEST = 100  # scores, from which a tail can be fitted


@dataclass(frozen=True)
class Null:
    """The scores of right labels: P(score² > x) = (1 + x / (freedom · scale))^(−freedom / 2)."""

    freedom: float
    scale: float

    def tail(self, score: np.ndarray) -> np.ndarray:
        return np.exp(-self.freedom / 2 * np.log1p(np.square(score) / (self.freedom * self.scale)))

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Scores of right labels."""
        share = 1 - rng.random(shape)
        return np.sqrt(self.freedom * self.scale * (share ** (-2 / self.freedom) - 1))


@dataclass(frozen=True)
class Scores:
    """residual: (N, K, 2) the consensus − the annotation, in percent, biases removed. spread: (N, K) percent, twice the
    standard error of the consensus: of two methods alike, the distance between them.

    score: (N, K), NaN where label or normaliser is missing or fewer methods predict than are needed. covariance: (N, K,
    2, 2) of a right label about the consensus, without the standard error of that. null: the scores of right labels.
    """

    residual: np.ndarray
    spread: np.ndarray
    score: np.ndarray
    covariance: np.ndarray
    null: Null

    @property
    def distance(self) -> np.ndarray:
        """(N, K) percent of the normaliser."""
        return np.hypot(*np.moveaxis(self.residual, -1, 0))

    @property
    def false_share(self) -> np.ndarray:
        """(N, K) the expected share of false alarms in the shortest list that has the label; at most 1."""
        known = np.isfinite(self.score)
        values = self.score[known]
        order = np.argsort(-values, kind="stable")
        expected = len(values) * self.null.tail(values[order]) / np.arange(1, len(values) + 1)
        longer = np.minimum.accumulate(np.minimum(expected, 1)[::-1])[::-1]  # a longer list may be the better one
        share = np.full(self.score.shape, np.nan)
        share[known] = longer[np.argsort(order, kind="stable")]
        return share

    def suspects(self, false_alarms: float) -> np.ndarray:
        """(N, K) bool: the longest list whose expected share of false alarms is at most `false_alarms`."""
        return self.false_share <= false_alarms  # False for NaN


def score(
    predictions: np.ndarray, truth: np.ndarray, normaliser: np.ndarray, instability: np.ndarray | None = None
) -> Scores:
    """Score every label that two methods predict, or one where there is one method.

    predictions: (M, N, K, 2), truth: (N, K, 2), normaliser: (N,), instability: (N, K), all in px and NaN where missing.
    Raises ValueError where the shapes differ, and for fewer than 100 labels with a score.
    """
    predictions, truth, normaliser = (np.asarray(a, float) for a in (predictions, truth, normaliser))
    if not len(predictions) or predictions.shape[1:] != truth.shape or truth.shape[:1] != normaliser.shape:
        raise ValueError(
            f"predictions {predictions.shape}, truth {truth.shape} and normaliser {normaliser.shape} differ"
        )
    turn = upright(truth)
    residual = np.einsum("nij,mnkj->mnki", turn, 100 * (predictions - truth) / normaliser[:, None, None])
    known = np.isfinite(residual).all(-1)
    known &= known.sum(0) >= min(2, len(predictions))
    residual = np.where(known[..., None], residual, np.nan)
    residual -= _median(residual, 1)[:, None]
    squares = _median((residual**2).sum(-1), 1) + SMALLEST**2  # (M, K)
    weight = np.where(known, 1 / squares[:, None], 0)
    weight /= np.where(known.any(0), weight.sum(0), 1)
    consensus = _sum(weight[..., None] * residual)
    consensus -= _median(consensus, 0)
    scatter = _sum(weight * ((residual - consensus) ** 2).sum(-1)) / np.maximum(known.sum(0) - 1, 1)
    spread = 2 * np.sqrt(scatter)
    shape = covariances(consensus)
    unstable = np.zeros(truth.shape[:2])
    if instability is not None:
        moves = (100 * instability / normaliser[:, None]) ** 2
        unstable = np.nan_to_num(np.maximum(moves - _median(moves, 0), 0))
    if len(predictions) > 1:
        one, other = np.argsort(np.nanmean(squares, 1))[:2]
        apart = residual[one] - residual[other]
        apart -= _median(apart, 0)
        own = covariances(apart)
        hard = difficulty(_mahalanobis(apart, own[None]), nearest(truth, turn))
        to_shared = np.linalg.cholesky(shape) @ np.linalg.inv(np.linalg.cholesky(own))
        unshared, _ = standardise(np.einsum("kij,nkj->nki", to_shared, apart), shape, hard, unstable)
        null = fit_null(unshared, TAIL)
    else:
        spread = np.zeros_like(spread)
        usual = _mahalanobis(consensus, shape[None])
        hard, null = np.maximum(_median(usual, 1) / np.nanmedian(usual), 1)[:, None], None
    values, _ = standardise(consensus, shape, hard, unstable + np.nan_to_num(spread / 2) ** 2)
    _, covariance = standardise(consensus, shape, hard, unstable)
    return Scores(
        np.einsum("nji,nkj->nki", turn, consensus), np.where(known.any(0), spread, np.nan), values,
        np.einsum("nia,nkij,njb->nkab", turn, covariance, turn), null or fit_null(values, BULK),
    )  # fmt: skip


def standardise(
    residual: np.ndarray, shape: np.ndarray, hard: np.ndarray, doubt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) the lengths of residuals (N, K, 2) by the covariances (N, K, 2, 2) hΣ + u²I, and these.

    shape: Σ (K, 2, 2), scaled so that the median without u is a Gaussian's. hard: h, doubt: u² (N, K).
    """
    covariance = np.nan_to_num(hard, nan=1)[..., None, None] * shape
    covariance = covariance * np.nanmedian(_mahalanobis(residual, covariance)) / GAUSSIAN
    covariance = covariance + doubt[..., None, None] * np.eye(2)
    return np.sqrt(_mahalanobis(residual, covariance)), covariance


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Along an axis, of what is not NaN; NaN where there is nothing."""
    return np.ma.filled(np.ma.median(np.ma.masked_invalid(values), axis=axis), np.nan)


def _sum(values: np.ndarray) -> np.ndarray:
    """Over methods, of what is not NaN; NaN where there is nothing."""
    return np.where(np.isfinite(values).any(0), np.nansum(values, 0), np.nan)


def upright(points: np.ndarray) -> np.ndarray:
    """(N, 2, 2) the rotations that turn faces (N, K, 2) into the mean face's direction; landmarks may be NaN."""
    z = points[..., 0] + 1j * points[..., 1]
    known = np.isfinite(z)
    z = np.where(known, z, 0)
    z = np.where(known, z - z.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1), 0)
    size = np.linalg.norm(z, axis=1, keepdims=True)
    z = z / np.where(size > 0, size, 1)
    rotation = np.ones((len(z), 1))
    for _ in range(3):
        toward = ((z * rotation).sum(0) * z.conj()).sum(1, keepdims=True)
        rotation = np.where(toward == 0, 1, toward / np.where(toward == 0, 1, np.abs(toward)))
    c, s = rotation[:, 0].real, rotation[:, 0].imag
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], 1)


def nearest(truth: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(K, n) the landmarks next to each one on the mean face, itself left out."""
    faces = np.einsum("nij,nkj->nki", turn, truth)
    middle = _median(faces, 1)[:, None]
    size = _median(np.abs(faces - middle).max(-1), 1)[:, None, None]
    mean = _median((faces - middle) / np.where(size > 0, size, np.nan), 0)
    apart = np.hypot(*np.moveaxis(mean[:, None] - mean, -1, 0))
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, 1, kind="stable")[:, : min(NEAREST, len(apart) - 1)]


def difficulty(disagreement: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """(N, K), 1 where it is usual, of squared standardised disagreements (N, K) about the neighbours (K, n)."""
    around = np.minimum(disagreement / 2, MOST)[:, neighbours]
    known = np.isfinite(around)
    return (USUAL + np.where(known, around, 0).sum(-1)) / (USUAL + known.sum(-1))


def covariances(residual: np.ndarray) -> np.ndarray:
    """(K, 2, 2) of each landmark's residuals (N, K, 2) about 0, robust: of the three quarters nearest in their own
    metric, scaled so that the median of the squared distances is a Gaussian's."""
    known = np.isfinite(residual).all(-1)
    r = np.where(known[..., None], residual, 0)
    metric = np.broadcast_to(np.eye(2), (r.shape[1], 2, 2))
    for _ in range(10):
        squared = np.where(known, _mahalanobis(r, metric[None]), np.inf)
        kept = known & (np.argsort(np.argsort(squared, 0), 0) < np.ceil(KEPT * known.sum(0)))
        count = np.maximum(kept.sum(0), 1)[:, None, None]
        metric = np.einsum("nki,nkj->kij", r * kept[..., None], r) / count + SMALLEST**2 * np.eye(2)
    squared = np.where(known, _mahalanobis(r, metric[None]), np.nan)
    metric = metric * np.nan_to_num(_median(squared, 0) / GAUSSIAN, nan=1)[:, None, None]
    n = known.sum(0)[:, None, None]
    pooled = (metric * n).sum(0) / max(n.sum(), 1)
    return (n * metric + BORROWED * pooled) / (n + BORROWED) + SMALLEST**2 * np.eye(2)


def _mahalanobis(residual: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(N, K) squared, by covariances (N, K, 2, 2)."""
    return (residual * np.einsum("nkij,nkj->nki", np.linalg.inv(covariance), residual)).sum(-1)


def fit_null(values: np.ndarray, between: tuple[float, float]) -> Null:
    """By maximum likelihood of the scores between two quantiles, those beyond only counted. values may hold NaN.

    Raises ValueError for fewer than 100 scores.
    """
    values = values[np.isfinite(values)]
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} labels have a score, too few to know what is usual: {FEWEST} are needed")
    low, high = np.quantile(values, between)
    below, beyond = (values < low).sum(), (values > high).sum()
    squares = values[(values >= low) & (values <= high)] ** 2

    def loss(parameters: np.ndarray) -> float:
        null = Null(*np.exp(parameters))
        density = -np.log(2 * null.scale) - (null.freedom / 2 + 1) * np.log1p(squares / (null.freedom * null.scale))
        outside = np.array([1 - null.tail(low), null.tail(high)])
        ends = np.log(np.maximum(outside, 1e-300)) @ [below, beyond]
        return -float(density.sum() + ends)

    bounds = [(np.log(2.1), np.log(1000)), (np.log(0.05), np.log(20))]
    return Null(*np.exp(minimize(loss, [np.log(8), 0.0], method="L-BFGS-B", bounds=bounds).x))
