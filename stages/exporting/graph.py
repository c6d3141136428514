"""A trained network as an ONNX graph: normalisation before it, the heat-map decoder behind it.

Input `crops` (N, S, S, 3) float32, RGB in 0 … 255: the model's input window. Outputs `landmarks` (N, K, 2) float32, px
of that window with pixel centres at integers, `confidences` (N, K), the heat maps' peaks, `spreads` (N, K), how wide
these are, in cells, from which the calibration tells expected errors, and `heat_maps` (N, K, S/4, S/4), for runtimes
that compute in bf16, where a decoder would round coordinates. N is dynamic. The input is float32 since some sizes of
crops and windows are sampled between pixels; uint8 pixels are cast by the caller.
"""

import json
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.model import augment, heatmap, paper
from stages.model.checkpoint import ModelInput
from stages.model.hrnet import HRNet, fuse_for_inference
from stages.system.errors import InputError

INPUT, OUTPUTS, MAPS = "crops", ("landmarks", "confidences", "spreads"), "heat_maps"
OPSET = 18
MISSING = "{} is not installed, which ONNX files need: run make onnx (or pip install onnx onnxscript onnxruntime)."


class LandmarkGraph(nn.Module):
    """The fused network between normalisation and decoder. flip_order: (K,) for the flip test, at twice the time."""

    def __init__(self, model: HRNet, stretch: bool, flip_order: Tensor | None = None):
        super().__init__()
        self.network, self.stretch = fuse_for_inference(model), stretch
        for name, values in (("mean", augment.MEAN), ("std", augment.STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.register_buffer("flip_order", flip_order)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images = crops.permute(0, 3, 1, 2)
        images = ((paper.stretch(images) if self.stretch else images) / 255 - self.mean) / self.std
        maps = self.network(images)
        if self.flip_order is not None:
            maps = (maps + heatmap.flip_maps(self.network(images.flip(-1)), self.flip_order)) / 2
        cells, scores = decode(maps)
        return heatmap.to_input(cells), scores, heatmap.spread(maps, cells).float(), maps


def decode(maps: Tensor) -> tuple[Tensor, Tensor]:
    """`heatmap.decode` of maps (N, K, H, W) by operations that ONNX has."""
    height, width = maps.shape[-2:]
    flat, reach = maps.flatten(2), heatmap.REACH
    maximum = flat.argmax(-1)  # torch does not say which of equal values, ONNX's ArgMax takes the first
    y = maximum // width
    x = maximum - y * width
    left, top = (peak.clamp(reach, n - 1 - reach) - reach for peak, n in ((x, width), (y, height)))
    offsets = torch.arange(2 * reach + 1, device=maps.device)
    cells = (top[..., None] + offsets)[..., None] * width + (left[..., None] + offsets)[..., None, :]
    window = flat.gather(2, cells.flatten(2)).unflatten(2, (len(offsets), len(offsets))).permute(2, 3, 0, 1)
    across, down = heatmap.profiles(window)
    shift = torch.stack([heatmap.vertex(across) + left - x, heatmap.vertex(down) + top - y], dim=-1)
    scores = flat.amax(-1)
    known = (scores > 0)[..., None] & ~shift.isnan()
    peak = torch.stack([x, y], dim=-1)
    return (peak + torch.where(known, shift.clamp(-1, 1), 0)).float(), scores


def write(path: Path, model: HRNet, model_input: ModelInput, flip_order: Tensor | None, facts: dict) -> None:
    """Write the ONNX file, with `facts` (of JSON's types) as its metadata, each value as JSON.

    Raises `InputError` where the packages are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(MISSING.format(error.name)) from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that no graph here needs
    graph = LandmarkGraph(model.cpu(), model_input.stretch, flip_order).eval()
    example = torch.zeros(2, model_input.size, model_input.size, 3)
    with torch.no_grad():
        program = torch.onnx.export(
            graph, (example,), input_names=[INPUT], output_names=[*OUTPUTS, MAPS], opset_version=OPSET, dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("faces")},), verbose=False,
        )  # fmt: skip
    program.model.metadata_props.update({name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()})
    program.model.producer_name = "hrnet-landmark-benchmark"
    program.model.producer_version = str(facts.get("version", ""))
    program.save(path, external_data=False)
