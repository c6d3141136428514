"""Heat-map losses: from predicted and target maps (…, H, W) to a scalar, the mean over all cells of all maps."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# Adaptive wing loss: Wang et al., "Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression", ICCV 2019,
# sections 4.2 (the constants) and 4.3 (the weight map, W = 10, where the dilated target is at least 0.2)
ALPHA, OMEGA, EPSILON, THETA = 2.1, 14.0, 1.0, 0.5
WEIGHT, NEAR = 10.0, 0.2


def adaptive_wing(predicted: Tensor, target: Tensor) -> Tensor:
    """Equation 3: close to logarithmic for small errors on the foreground, quadratic on the background."""
    power = ALPHA - target
    ratio = THETA / EPSILON
    slope = OMEGA * power * ratio ** (power - 1) / (EPSILON * (1 + ratio**power))
    offset = THETA * slope - OMEGA * torch.log1p(ratio**power)
    error = (predicted - target).abs()
    # the base is clamped because the branch not taken must have a finite gradient too
    curved = OMEGA * torch.log1p((error.clamp(1e-6, THETA) / EPSILON) ** power)
    wing = torch.where(error < THETA, curved, slope * error - offset)
    near = F.max_pool2d(target, 3, stride=1, padding=1) >= NEAR
    return (wing * (1 + WEIGHT * near)).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,  # the HRNet paper's, section 3.4
    "smooth_l1": lambda predicted, target: F.smooth_l1_loss(predicted, target, beta=0.1),
    "awing": adaptive_wing,
}
