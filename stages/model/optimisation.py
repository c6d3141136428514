"""Optimiser, learning-rate schedule and EMA."""

import math
from copy import deepcopy

import torch
from torch import nn


def optimizer(model: nn.Module, train) -> torch.optim.Optimizer:
    """The optimiser of a recipe's section `train`; weight decay does not apply to norms and biases."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer]
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return kind(groups, train.lr, fused=True)


def learning_rate(train, time: float, step: float = 0.0) -> float:
    """The learning rate at a `time` in epochs from 0: linear warm-up, then steps or a half cosine.

    step: the length of a step in epochs; the warm-up reaches at the end of a step what it says, so that no step has a
    rate of 0.
    """
    if time < train.warmup:
        return train.lr * min(1.0, (time + step) / train.warmup)
    if train.schedule == "steps":
        return train.lr * train.gamma ** sum(time >= milestone for milestone in train.milestones)
    progress = (time - train.warmup) / (train.epochs - train.warmup)
    return train.lr * (1 + math.cos(math.pi * progress)) / 2


class EMA(nn.Module):
    """The exponential moving average of a model's weights and batch norm statistics (Polyak and Juditsky 1992).

    At step n the decay is min(decay, (1 + n) / (10 + n)): smaller at first, so that the random initial weights are soon
    forgotten. Integer buffers keep their initial values. Both models' tensors are listed once, since collecting them
    takes longer than averaging them: they are changed in place from then on, never replaced.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__()
        self.module, self.decay = deepcopy(model), decay
        # counts from 1, on the CPU: a GPU would have to send its value back in every step
        self.register_buffer("n_averaged", torch.ones((), dtype=torch.long))
        self._averages, self._values = (
            [tensor.detach() for tensor in (*of.parameters(), *of.buffers()) if tensor.is_floating_point()]
            for of in (self.module, model)
        )

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights after a step."""
        n = int(self.n_averaged)
        torch._foreach_lerp_(self._averages, self._values, 1 - min(self.decay, (1 + n) / (10 + n)))
        self.n_averaged += 1
