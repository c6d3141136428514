"""An ONNX file that `python -m stages.export` wrote, run on the CPU on the benchmark's own windows."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from stages.data.scheme import DatasetScheme
from stages.exporting.graph import INPUT, MISSING, OUTPUTS
from stages.inference.calibration import Calibration
from stages.model import augment
from stages.model.checkpoint import ModelInput
from stages.model.predict import Batches
from stages.system.errors import InputError
from stages.system.processes import cores

CPU = torch.device("cpu")


class ExportedModel:
    """A file in one of the runtimes. facts: its metadata."""

    def _describe(self, path: Path, properties: Mapping[str, str]) -> None:
        """Read the metadata. Raises `InputError` where they are somebody else's."""
        try:
            self.facts = {name: json.loads(properties[name]) for name in properties}
            self.scheme = DatasetScheme(**self.facts["scheme"])
            self.input = ModelInput(**{key: self.facts["input"][key] for key in ("size", "box", "stretch")})
            self.flip_test = bool(self.facts["flip_test"])
            self.calibration = Calibration(**self.facts["calibration"])
        except (ValueError, KeyError, TypeError, ValidationError):
            raise InputError(
                f"{path} does not say its scheme, input and calibration in its metadata: it is not of python -m "
                "stages.export, or of an older one. Export it again."
            ) from None

    def run(self, crops: np.ndarray) -> tuple[np.ndarray, ...]:
        """Landmarks (n, K, 2) input px, confidences and spreads (n, K) of input windows (n, S, S, 3) float32 RGB in
        0 … 255."""
        raise NotImplementedError

    def predict(
        self, faces: Batches, *, batch: int, rounded: bool = False, progress: Callable[[list], Iterable] = iter
    ) -> tuple[np.ndarray, ...]:
        """Points (N, K, 2) float64 in crop px, scores and spreads (N, K), as of `model.predict.predict` with spread.

        rounded: the windows are rounded to whole grey levels first.
        """
        parts = []
        for start in progress(list(range(0, len(faces), batch))):
            windows, crops = input_windows(faces, slice(start, start + batch))
            found, *shape = self.run(np.rint(crops) if rounded else crops)
            points = augment.from_input(windows, torch.from_numpy(found).double()).numpy()
            parts.append((faces.from_pooled(points), *(values.astype(float) for values in shape)))
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


class OnnxFile(ExportedModel):
    """By ONNX Runtime, in fp32. threads: None: as many as there are cores.

    Raises `InputError` where ONNX Runtime is not installed, or the file is missing, damaged or somebody else's.
    """

    def __init__(self, path: Path, threads: int | None = None):
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(MISSING.format(error.name)) from None
        require_file(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 4  # what is wrong is in the exception too
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a type of its own for every fault, none of them documented
            raise unreadable(path, error) from None
        self._describe(path, self.session.get_modelmeta().custom_metadata_map)

    def run(self, crops: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(self.session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(crops)}))


def require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {path}: python -m stages.export writes one.")


def unreadable(path: Path, error: Exception) -> InputError:
    """What to say where a runtime cannot load the file."""
    said = str(error).strip().partition("\n")[0][:200]
    return InputError(f"{path} is not an ONNX file that can be run ({said}): export it again.")


def input_windows(faces: Batches, part: slice) -> tuple[torch.Tensor, np.ndarray]:
    """Input px → px of `faces.images` (n, 2, 3), and the windows (n, S, S, 3) float32 RGB in 0 … 255 of some faces."""
    pixels = faces.pixels(part, CPU)
    windows = faces.windows(len(pixels))
    return windows, augment.warp(pixels, windows, faces.size).permute(0, 2, 3, 1).numpy()
