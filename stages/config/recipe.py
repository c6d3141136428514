"""Sections of params/recipes/*.yaml, one model each. Types are strict: 2.5 is not a number of epochs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.config.section import Count, Section, Seed, Share


class Model(Section):
    """HRNetV2 (stages/model/hrnet.py); the published W18 is 18, 64, 4, [1, 4, 3], 4."""

    width: Count
    """Channels of the highest-resolution branch; the others have 2, 4 and 8 times as many."""
    stem: Count
    """Channels of the two convolutions before the first stage."""
    bottlenecks: Count
    """Bottleneck blocks of stage 1."""
    modules: Annotated[list[Count], Field(min_length=3, max_length=3)]
    """Modules of stages 2, 3 and 4."""
    blocks: Count
    """Basic blocks of a branch in a module."""


class Input(Section):
    size: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
    """Side of the network's input in px; the heat maps have a quarter of it."""
    box: Annotated[float, Field(ge=1, le=20)]
    """Side of the input in sides of the face box."""
    stretch: bool
    """The published loader's contrast stretch of every window, in training and in evaluation."""


class Target(Section):
    sigma: Annotated[float, Field(gt=0, le=100)]
    """Standard deviation of a landmark's Gaussian in heat-map cells."""
    rounding: Literal["exact", "paper"]
    """`exact` puts the Gaussian's centre where the landmark is; `paper` rounds it to a cell, as the published code
    does."""


class Augment(Section):
    """Drawn anew for each face and epoch. A share is the probability that a face gets the change."""

    scale: Annotated[float, Field(ge=0, lt=1)]
    """The face is scaled by a factor from U(1 - scale, 1 + scale)."""
    rotation: Annotated[float, Field(ge=0, le=180)]
    """The face is turned by degrees from U(-rotation, rotation) …"""
    rotation_share: Share
    """… with this probability."""
    shift: Annotated[float, Field(ge=0, lt=1)]
    """The face is shifted in x and in y by U(-shift, shift) of the input's side."""
    flip: Share
    """Probability that a face is mirrored."""
    grey: Share
    """Probability that its colours are taken out."""
    light: Share
    """Probability of another gamma, brightness and contrast."""
    blur: Share
    """Probability of a Gaussian blur."""
    noise: Share
    """Probability of Gaussian noise, independent per pixel and channel."""
    occlusion: Share
    """Probability of a patch of one colour or of noise over part of the face."""


class Train(Section):
    loss: Literal["mse", "awing", "smooth_l1"]
    """`mse` of the heat maps, `awing` (adaptive wing) or `smooth_l1`."""
    optimizer: Literal["adam", "adamw"]
    """Of torch, with its own betas and epsilon."""
    weight_decay: Annotated[float, Field(ge=0, le=100)]
    """As the optimiser defines it."""
    lr: Annotated[float, Field(gt=0, le=100)]
    """The full learning rate."""
    faces: Count | None = None
    """Train on so many faces of the train split only, always the same ones, fewer being a part of more."""
    epochs: Count
    """Passes over the train split."""
    least_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in all at least: where `epochs` passes over the faces are fewer, an epoch has several passes, so that a
    training on few faces is none of a few steps."""
    schedule: Literal["steps", "cosine"]
    """`steps`: the learning rate is multiplied by `gamma` at each milestone; `cosine`: it falls to 0 along a cosine."""
    milestones: list[Count]
    """Epochs after which schedule `steps` multiplies the learning rate by `gamma`."""
    gamma: Annotated[float, Field(gt=0, le=1)]
    """Of schedule `steps`."""
    warmup: Annotated[float, Field(ge=0)]
    """Epochs in which the learning rate rises linearly; fewer than `epochs`."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the exponential moving average of the weights, which is then the model; 0: none."""
    batch: Count
    """Faces of a step, over all processes."""
    sync_norm: bool
    """Batch norm over all processes instead of each alone."""
    precision: Literal["fp32", "tf32", "bf16"]
    """Of the forward and backward pass; `tf32` is `fp32` but on a GPU."""
    compile: bool | Literal["cuda-graph"]
    """On a GPU `true` compiles the network and the loss (`torch.compile`, minutes before the first step), and
    `cuda-graph` launches the kernels of a step together, without compiling; every batch then has exactly `batch` faces,
    and the rest of an epoch's order is left out. On a CPU either compiles the loss."""
    seed: Seed
    """Of initial weights, order of faces and augmentation."""
    checkpoint: Literal["best", "last"]
    """The epoch kept: the `best` on val, or the `last`."""

    @model_validator(mode="after")
    def _the_warm_up_ends(self) -> "Train":
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup is {self.warmup:g} of {self.epochs} epochs: the full lr would never be reached")
        return self


class Evaluate(Section):
    protocol: Literal["exact", "paper"]
    """`exact` decodes to fractions of a pixel; `paper` is the published code's evaluation, rounding included."""
    flip_test: bool
    """Average the heat maps with those of the mirrored face."""
    batch: Count
    """Faces predicted at once; it changes no figure."""

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
