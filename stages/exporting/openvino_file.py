"""The same file run by OpenVINO on the CPU, in fp32 or bf16; the decoder stays outside, where bf16 rounds nothing."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from stages.exporting.graph import MAPS
from stages.exporting.onnx_file import ExportedModel, require_file, unreadable
from stages.model import heatmap
from stages.system.errors import InputError
from stages.system.processes import cores


def is_installed() -> bool:
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


class OpenVinoFile(ExportedModel):
    """threads: None: as many as there are cores. Raises `InputError` as `OnnxFile`, and where OpenVINO is missing."""

    def __init__(self, path: Path, precision: Literal["fp32", "bf16"] = "fp32", threads: int | None = None):
        try:
            import openvino
        except ImportError:
            raise InputError("openvino is not installed: run make openvino (or pip install openvino).") from None
        require_file(path)
        core = openvino.Core()
        try:
            model = core.read_model(path)
            properties = {
                name: value.astype(str) for name, value in model.get_rt_info("framework").astype(dict).items()
            }
        except RuntimeError as error:
            raise unreadable(path, error) from None
        self._describe(path, properties)
        maps = [output for output in model.outputs if MAPS in output.names]
        network = openvino.Model([output.node.input(0).get_source_output() for output in maps], model.get_parameters())
        hints = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": threads or cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.compiled = core.compile_model(network, "CPU", hints)

    def run(self, crops: np.ndarray) -> tuple[np.ndarray, ...]:
        (maps,) = self.compiled(np.ascontiguousarray(crops, np.float32)).values()
        maps = torch.from_numpy(maps)
        cells, peaks = heatmap.decode(maps)
        return heatmap.to_input(cells).numpy(), peaks.numpy(), heatmap.spread(maps, cells).numpy()
