"""What training minimises. Each loss takes predicted and target heat maps (N, K, H, W) and gives one number."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# Adaptive wing loss: Wang et al., "Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression", ICCV 2019,
# section 4.2 (its figures) and 4.3 (the weight map, W = 10, over the target's dilation at 0.2)
ALPHA, OMEGA, EPSILON, THETA = 2.1, 14.0, 1.0, 0.5
WEIGHT, NEAR = 10.0, 0.2


def adaptive_wing(predicted: Tensor, target: Tensor) -> Tensor:
    """Like the logarithm near the truth on the foreground, like the square on the background; equation 3 there."""
    power = ALPHA - target
    ratio = THETA / EPSILON
    slope = OMEGA * power * ratio ** (power - 1) / (EPSILON * (1 + ratio**power))
    offset = THETA * slope - OMEGA * torch.log1p(ratio**power)
    error = (predicted - target).abs()
    # the power of a clamped base: the branch that is not taken must have a finite gradient
    curved = OMEGA * torch.log1p((error.clamp(1e-6, THETA) / EPSILON) ** power)
    wing = torch.where(error < THETA, curved, slope * error - offset)
    near = F.max_pool2d(target, 3, stride=1, padding=1) >= NEAR
    return (wing * (1 + WEIGHT * near)).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,  # the paper's, section 3.4: the mean over all cells of all maps
    "smooth_l1": lambda predicted, target: F.smooth_l1_loss(predicted, target, beta=0.1),
    "awing": adaptive_wing,
}
