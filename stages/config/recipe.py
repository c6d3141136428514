"""Sections of params/recipes/*.yaml, one model each. Types are strict: 2.5 is not a number of epochs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.config.section import Count, Section, Seed, Share


class Model(Section):
    """HRNetV2 (stages/model/hrnet.py); the published W18 is 18, 64, 4, [1, 4, 3], 4."""

    width: Count
    stem: Count
    bottlenecks: Count
    modules: Annotated[list[Count], Field(min_length=3, max_length=3)]
    blocks: Count


class Input(Section):
    size: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]  # px
    box: Annotated[float, Field(ge=1, le=20)]  # side of the input in sides of the face box
    stretch: bool  # the published loader's contrast stretch of every window, in training and in evaluation


class Target(Section):
    sigma: Annotated[float, Field(gt=0, le=100)]  # heat-map cells
    rounding: Literal["exact", "paper"]


class Augment(Section):
    """Drawn anew for each face and epoch. A share is the probability that a face gets the change."""

    scale: Annotated[float, Field(ge=0, lt=1)]  # factor from U(1 - scale, 1 + scale)
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees from U(-rotation, rotation) …
    rotation_share: Share  # … with this probability
    shift: Annotated[float, Field(ge=0, lt=1)]  # of the input's side, from U(-shift, shift) in x and in y
    flip: Share
    grey: Share  # colours taken out
    light: Share  # gamma, brightness and contrast
    blur: Share  # Gaussian
    noise: Share  # Gaussian, independent per pixel and channel
    occlusion: Share  # a patch of one colour or of noise over part of the face


class Train(Section):
    loss: Literal["mse", "awing", "smooth_l1"]
    optimizer: Literal["adam", "adamw"]
    weight_decay: Annotated[float, Field(ge=0, le=100)]
    lr: Annotated[float, Field(gt=0, le=100)]
    epochs: Count
    schedule: Literal["steps", "cosine"]
    milestones: list[Count]  # of schedule steps: epochs after which the learning rate is × gamma
    gamma: Annotated[float, Field(gt=0, le=1)]
    warmup: Annotated[float, Field(ge=0)]  # epochs in which the learning rate rises linearly; fewer than epochs
    ema_decay: Annotated[float, Field(ge=0, lt=1)]  # of the weights' exponential moving average; 0: none
    batch: Count  # over all processes
    sync_norm: bool  # batch norm over all processes instead of each alone
    precision: Literal["fp32", "tf32", "bf16"]  # of the network's forward and backward pass; tf32: fp32 but on a GPU
    compile: bool  # torch.compile on a GPU
    seed: Seed
    checkpoint: Literal["best", "last"]  # the epoch kept: the best on val, or the last

    @model_validator(mode="after")
    def _the_warm_up_ends(self) -> "Train":
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup is {self.warmup:g} of {self.epochs} epochs: the full lr would never be reached")
        return self


class Evaluate(Section):
    protocol: Literal["exact", "paper"]
    flip_test: bool
    batch: Count

    @model_validator(mode="after")
    def _the_paper_has_no_flip_test(self) -> "Evaluate":
        if self.protocol == "paper" and self.flip_test:
            raise ValueError("protocol paper has no flip test: set flip_test to false")
        return self


RECIPE: dict[str, type[Section]] = {
    "model": Model,
    "input": Input,
    "target": Target,
    "augment": Augment,
    "train": Train,
    "evaluate": Evaluate,
}


class Recipe:
    """The sections of a recipe that were asked for, as attributes."""

    model: Model
    input: Input
    target: Target
    augment: Augment
    train: Train
    evaluate: Evaluate

    def __init__(self, **sections: Section):
        self.__dict__.update(sections)
