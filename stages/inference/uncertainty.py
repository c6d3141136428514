"""The expected error of every landmark, from the shape of its heat map: the height and the width of its peak.

The mean error of a landmark, in sides of the face box, is exp(constant + height · log score + width · log spread), with
a constant for each landmark and two slopes for all. They are fitted on val, whose errors chose an epoch at most, as the
mean of an exponential distribution (the quasi-likelihood that needs no more than the right mean); `bound` times it is
what 90 % of val's errors are below.

Symbols: N faces, K landmarks.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize

from stages.data.crops import Crops
from stages.data.geometry import apply
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, FusedNetwork, Progress, predict

COVERAGE = 0.9  # of the errors below the bound
LOWEST_SCORE, NARROWEST = 1e-3, 0.1  # what the logarithms are taken of at least
LEAST_ERROR = 1e-5  # sides of the face box: an error of 0 would pull a mean to 0
FEWEST = 20  # faces of val


class Uncertainty(BaseModel):
    """Fitted on `faces` faces. constants: (K,)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    constants: list[float]
    height: float
    width: float
    bound: float
    faces: int

    def expected(self, scores: np.ndarray, spreads: np.ndarray) -> np.ndarray:
        """(N, K) the expected error in sides of the face box; of a landmark without a peak NaN."""
        height, width = _features(scores, spreads)
        return np.exp(np.array(self.constants) + self.height * height + self.width * width)


def shapes(
    model: HRNet | FusedNetwork,
    crops: Crops,
    model_input,
    *,
    batch: int,
    flip_order: np.ndarray | None,
    progress: Progress = iter,
    few: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, K, 2) image px, scores and spreads (N, K) of the faces of `crops`, as protocol `exact` has them.

    few: as in `model.predict.in_batches`.
    """
    batches = Batches(crops.images, crops.context, model_input)
    points, scores, spreads = predict(
        model, batches, batch=batch, flip_order=flip_order, spread=True, progress=progress, few=few
    )
    return apply(crops.to_image, points), scores, spreads


def fit(errors: np.ndarray, scores: np.ndarray, spreads: np.ndarray) -> Uncertainty | None:
    """errors: (N, K) in sides of the face box, NaN where not annotated. None for too few faces."""
    known = np.isfinite(errors) & np.isfinite(scores) & np.isfinite(spreads)
    faces = int(known.any(1).sum())
    if faces < FEWEST:
        return None
    count = errors.shape[1]
    landmark = np.broadcast_to(np.arange(count), errors.shape)[known]
    error = np.maximum(errors[known], LEAST_ERROR)
    height, width = (feature[known] for feature in _features(scores, spreads))
    overall = np.log(error.mean())

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        constants, slopes = parameters[:count], parameters[count:]
        log_mean = constants[landmark] + slopes[0] * height + slopes[1] * width
        ratio = error * np.exp(-log_mean)
        slope = (1 - ratio) / len(error)
        # a weak pull to the overall mean, for a landmark that val hardly has
        pull = (constants - overall) / len(error)
        gradient = np.bincount(landmark, slope, count) + pull
        return (log_mean + ratio).mean() + (pull**2).sum() * len(error) / 2, np.concatenate(
            [gradient, [(slope * height).sum(), (slope * width).sum()]]
        )

    start = np.concatenate([np.full(count, overall), [0.0, 0.0]])
    solution = minimize(loss, start, jac=True, method="L-BFGS-B").x
    fitted = Uncertainty(
        constants=solution[:count].tolist(), height=float(solution[count]), width=float(solution[count + 1]), bound=1.0,
        faces=faces,
    )  # fmt: skip
    bound = float(np.quantile(error / fitted.expected(scores, spreads)[known], COVERAGE))
    return fitted.model_copy(update={"bound": bound})


def _features(scores: np.ndarray, spreads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.log(np.maximum(scores, LOWEST_SCORE)), np.log(np.maximum(spreads, NARROWEST))
