"""Optimiser, learning-rate schedule and EMA."""

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


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


def ema_model(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a model's weights and batch norm statistics (Polyak and Juditsky 1992).

    Call `update_parameters(model)` after each step. At step n the decay is min(decay, (1 + n) / (10 + n)): smaller at
    first, so that the random initial weights are soon forgotten. Integer buffers keep their initial values.
    """
    ema = AveragedModel(model, use_buffers=True)

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], _: Tensor) -> None:
        if averages[0].is_floating_point():
            n = int(ema.n_averaged)  # on the CPU, unlike the argument, whose value a GPU would have to send back
            torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + n) / (10 + n)))

    ema.multi_avg_fn = update
    ema.update_parameters(model)  # the first update copies the weights, so that n counts the steps
    return ema
