"""What training minimises. Each loss takes predicted and target heat maps (N, K, H, W) and gives one number."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,  # the paper's, section 3.4: the mean over all cells of all maps
}
