"""The formula of the reference values: weights and an input that can be reproduced without a file."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def reference_state(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """The formula's tensor for every (name, shape); it also depends on the tensor's index k."""
    return {name: _reference_tensor(name, tuple(shape), k) for k, (name, shape) in enumerate(shapes)}


def _reference_tensor(name: str, shape: tuple[int, ...], k: int) -> Tensor:
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    u = np.sin(0.7 * i + 1.3 * k + 0.1 * (i % 7) * (i % 11)).reshape(shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) == 4:
        values = u * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        values = 1 + 0.5 * u
    elif name.endswith("weight"):
        values = 0.5 + 0.1 * u
    else:  # running means and biases
        values = 0.1 * u
    return torch.from_numpy(values.astype(np.float32))


def reference_input(size: int = 256) -> Tensor:
    """The formula's image, (1, 3, size, size)."""
    j = np.arange(3 * size * size, dtype=np.float64)
    values = np.sin(0.01 * j + 0.5 * np.cos(0.003 * j))
    return torch.from_numpy(values.astype(np.float32)).reshape(1, 3, size, size)
