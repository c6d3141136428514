"""HRNetV2: a network that keeps a high-resolution representation from the first layer to the last.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", arXiv:1908.07919; the head that
joins all resolutions is that of Sun et al., "High-Resolution Representations for Labeling Pixels and Regions",
arXiv:1904.04514. Submodules have the published names, so that a released state dict loads unchanged.

Symbols: N images, K landmarks, H and W the input's height and width in px, C the width of the finest branch. Branch b
(0, 1, 2, 3) has C·2ᵇ channels at stride 4·2ᵇ.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stages.system.errors import InputError

STRIDE = 4  # input px per heat-map cell
COARSEST = 32  # stride of the coarsest branch; height and width must be multiples of it
EXPANSION = 4  # ratio of a bottleneck's outer to its inner width (He et al. 2015)


@dataclass(frozen=True)
class HRNetConfig:
    """A variant of the network; the defaults are HRNetV2-W18, of 9.66 million parameters with 98 landmarks."""

    width: int = 18  # C, after which the variant is named
    stem: int = 64  # channels of the stem, and the inner width of stage 1's bottlenecks
    bottlenecks: int = 4  # in stage 1
    modules: tuple[int, int, int] = (1, 4, 3)  # of stages 2, 3 and 4, which have 2, 3 and 4 branches
    blocks: int = 4  # of every branch of every module


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=0.01)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def conv_norm_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, stride=stride), norm(outputs), nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a residual connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels), norm(channels)
        self.conv2, self.bn2 = conv(channels, channels), norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.bn1(self.conv1(x)))
        return F.relu_(self.bn2(self.conv2(y)).add_(x))


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up, and a residual connection (projected where the number of channels changes)."""

    def __init__(self, inputs: int, inner: int):
        super().__init__()
        outputs = inner * EXPANSION
        self.conv1, self.bn1 = conv(inputs, inner, kernel=1), norm(inner)
        self.conv2, self.bn2 = conv(inner, inner), norm(inner)
        self.conv3, self.bn3 = conv(inner, outputs, kernel=1), norm(outputs)
        self.downsample = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, kernel=1), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.bn1(self.conv1(x)))
        y = F.relu_(self.bn2(self.conv2(y)))
        return F.relu_(self.bn3(self.conv3(y)).add_(self.downsample(x)))


def fuse_path(widths: list[int], source: int, target: int) -> nn.Module:
    """From branch `source` to the channels of branch `target`, and to its resolution where that is coarser."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(conv(widths[source], widths[target], kernel=1), norm(widths[target]))
    halvings = [conv_norm_relu(widths[source], widths[source], stride=2) for _ in range(target - source - 1)]
    last = nn.Sequential(conv(widths[source], widths[target], stride=2), norm(widths[target]))
    return nn.Sequential(*halvings, last)


class HighResolutionModule(nn.Module):
    """Residual blocks on every branch, then fusion: each branch becomes the sum of all, resampled to its resolution."""

    def __init__(self, widths: list[int], blocks: int):
        super().__init__()
        branches = range(len(widths))
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(w) for _ in range(blocks))) for w in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_path(widths, source, target) for source in branches) for target in branches
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(b) for branch, b in zip(self.branches, x, strict=True)]
        return [self.fuse(paths, x, target) for target, paths in enumerate(self.fuse_layers)]

    @staticmethod
    def fuse(paths: nn.ModuleList, x: list[Tensor], target: int) -> Tensor:
        parts = []
        for source, path in enumerate(paths):
            part = path(x[source])
            if source > target:
                part = F.interpolate(part, size=x[target].shape[-2:], mode="bilinear", align_corners=False)
            parts.append(part)
        return F.relu_(sum(parts[1:], start=parts[0]))  # in branch order: bit for bit the published sums


def transition(before: list[int], after: list[int]) -> nn.ModuleList:
    """From branches of widths `before` to one more, `after`: the new one is the last at half its resolution."""
    kept = [nn.Identity() if b == a else conv_norm_relu(b, a) for b, a in zip(before, after, strict=False)]
    return nn.ModuleList([*kept, nn.Sequential(conv_norm_relu(before[-1], after[-1], stride=2))])


def stage(widths: list[int], modules: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(HighResolutionModule(widths, blocks) for _ in range(modules)))


def head(channels: int, landmarks: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=1),
        norm(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, landmarks, kernel_size=1),
    )


class HRNet(nn.Module):
    """Images (N, 3, H, W), standardised, to heat maps (N, K, H/4, W/4); H and W are multiples of 32."""

    def __init__(self, landmarks: int, config: HRNetConfig | None = None):
        super().__init__()
        self.landmarks, self.config = landmarks, config or HRNetConfig()
        stem, blocks = self.config.stem, self.config.blocks
        widths = [self.config.width * 2**b for b in range(4)]
        self.conv1, self.bn1 = conv(3, stem, stride=2), norm(stem)
        self.conv2, self.bn2 = conv(stem, stem, stride=2), norm(stem)
        outer = stem * EXPANSION
        self.layer1 = nn.Sequential(
            *(Bottleneck(outer if n else stem, stem) for n in range(self.config.bottlenecks)),
        )
        self.transition1 = transition([outer], widths[:2])
        self.stage2 = stage(widths[:2], self.config.modules[0], blocks)
        self.transition2 = transition(widths[:2], widths[:3])
        self.stage3 = stage(widths[:3], self.config.modules[1], blocks)
        self.transition3 = transition(widths[:3], widths)
        self.stage4 = stage(widths, self.config.modules[2], blocks)
        self.head = head(sum(widths), landmarks)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % COARSEST or width % COARSEST:
            raise InputError(
                f"an input of {height}×{width} px does not fit the network: make both sides multiples of {COARSEST}"
            )
        x = F.relu_(self.bn1(self.conv1(images)))
        x = F.relu_(self.bn2(self.conv2(x)))
        x = [self.layer1(x)]
        for paths, modules in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # A new branch is made from the coarsest existing one.
            x = modules([path(x[min(b, len(x) - 1)]) for b, path in enumerate(paths)])
        size = (height // STRIDE, width // STRIDE)
        coarse = [F.interpolate(b, size=size, mode="bilinear", align_corners=False) for b in x[1:]]
        return self.head(torch.cat([x[0], *coarse], dim=1))


def initialise(model: nn.Module) -> None:
    """Draw the weights as published: convolutions from N(0, 0.001²), batch norm weights 1; all biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.001)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


def fuse_for_inference(model: HRNet) -> HRNet:
    """A copy of `model` in eval mode with every batch norm folded into the convolution before it."""
    model = deepcopy(model).eval()
    for parent in list(model.modules()):
        previous = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm):
                setattr(parent, previous, fuse_conv_bn_eval(getattr(parent, previous), child))
                setattr(parent, name, nn.Identity())
            previous = name
    return model
