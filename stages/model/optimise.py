"""How the weights move: the optimiser, the learning rate over time, and the weights' moving average."""

import math
from copy import deepcopy

import torch
from torch import nn


def optimizer(model: nn.Module, train) -> torch.optim.Optimizer:
    """The optimiser of a recipe's section `train`; weight decay leaves out norms and biases, which have no scale."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer]
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return kind(groups, train.lr, fused=True)


def rate(train, time: float) -> float:
    """The learning rate at a time in epochs from 0: a linear rise over the warm-up, then steps or a half cosine."""
    if time < train.warmup:
        return train.lr * time / train.warmup
    if train.schedule == "steps":
        return train.lr * train.gamma ** sum(time >= milestone for milestone in train.milestones)
    done = (time - train.warmup) / (train.epochs - train.warmup)
    return train.lr * (1 + math.cos(math.pi * done)) / 2


class Average:
    """The exponential moving average of a model's weights and norms (Polyak and Juditsky 1992).

    Early on the decay is smaller, (1 + steps) / (10 + steps), so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay, self.steps = deepcopy(model), decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        mine, theirs = self.model.state_dict().values(), model.state_dict().values()
        pairs = [(m, t) for m, t in zip(mine, theirs, strict=True) if m.is_floating_point()]
        torch._foreach_lerp_([m for m, _ in pairs], [t for _, t in pairs], 1 - decay)
