"""A trained network on faces of any image, by the same crops and the same code as the benchmark's test faces."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from stages.data.crops import Crops, cut
from stages.data.faces import Faces
from stages.data.geometry import apply, window_to_image
from stages.exporting.onnx_file import OnnxFile
from stages.exporting.openvino_file import OpenVinoFile, is_installed
from stages.inference import calibration, uncertainty
from stages.model import checkpoint
from stages.model.device import computes_bf16, device
from stages.model.predict import Batches, FusedNetwork
from stages.system.errors import InputError

SIZE, CONTEXT = 448, 2.1875  # px and face boxes of a crop, as preprocess cuts them for 256 px inputs of 1.25 boxes
BATCH = 8  # faces
Engine = Literal["auto", "pytorch", "onnxruntime", "openvino"]
# auto: bf16 where the device computes in it, which moves the NME by less than 0.01 percentage points
Precision = Literal["auto", "fp32", "bf16"]


class Landmarker:
    """models/<experiment>, ready to predict. flip_test: average with the mirrored face, at twice the time."""

    engine = "pytorch"

    def __init__(self, folder: Path, flip_test: bool = False, precision: Precision = "auto"):
        model, description = checkpoint.load(folder)
        self.precision = own_precision(device()) if precision == "auto" else precision
        self.network = FusedNetwork(model.to(device()), self.precision)
        self.name, self.input = folder.name, checkpoint.input_of(description)
        self.scheme = checkpoint.scheme_of(description)
        self.flip_order = self.scheme.flip_order() if flip_test else None
        self.calibration = calibration.of_model(folder)

    def predict(self, image: np.ndarray, center: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, ...]:
        """Landmarks (n, K, 2) px, scores and expected errors (n, K; px) of the faces of an image (H, W, 3) uint8 RGB.

        center, side: (n, 2), (n,) of the face boxes. Pixels are counted from 0. Expected errors are NaN where nothing
        was fitted to tell them.
        """
        n, count = len(side), self.scheme.count
        if not n:
            return np.empty((0, count, 2)), np.empty((0, count)), np.empty((0, count))
        to_image = window_to_image(center, side * CONTEXT, SIZE)
        images = np.stack([cut(image, window, SIZE) for window in to_image])
        nothing = np.full((n, count, 2), np.nan)
        faces = Faces(
            face_id=[str(i) for i in range(n)], split=["test"] * n, image=[""] * n, center=center, side=side,
            landmarks=nothing, visible=np.zeros((n, count), bool), subsets=[[] for _ in range(n)],
        )  # fmt: skip
        crops = Crops(images, faces, to_image)
        return self.from_crops(crops)

    def from_crops(self, crops: Crops) -> tuple[np.ndarray, ...]:
        """The same of crops (n), in px of their images."""
        points, scores, spreads = self.shapes(crops)
        errors = self.calibration.errors
        if errors is None:
            return points, scores, np.full(scores.shape, np.nan)
        return points, scores, errors.expected(scores, spreads) * crops.faces.side[:, None]

    def shapes(self, crops: Crops) -> tuple[np.ndarray, ...]:
        """Points (n, K, 2) px of the images, scores and spreads (n, K)."""
        return uncertainty.shapes(
            self.network, crops, self.input, batch=BATCH, flip_order=self.flip_order, few=len(crops) <= BATCH
        )


class OnnxLandmarker(Landmarker):
    """The same of a file that `python -m stages.export` wrote, by ONNX Runtime or OpenVINO on the CPU."""

    def __init__(self, path: Path, flip_test: bool = False, engine: Engine = "auto", precision: Precision = "auto"):
        if precision == "auto":
            by_openvino = engine == "openvino" or (engine == "auto" and is_installed())
            precision = own_precision(torch.device("cpu")) if by_openvino else "fp32"
        if engine == "auto":
            engine = "openvino" if precision == "bf16" else "onnxruntime"
        if (engine, precision) == ("onnxruntime", "bf16"):
            raise InputError("ONNX Runtime computes in fp32 alone: give --engine openvino, or --precision fp32.")
        self.engine, self.precision = engine, precision
        self.file = OnnxFile(path) if engine == "onnxruntime" else OpenVinoFile(path, precision)
        if flip_test and not self.file.flip_test:
            raise InputError(f"{path} was exported without the flip test: export it with --flip-test.")
        self.name, self.input, self.scheme = path.stem, self.file.input, self.file.scheme
        self.calibration = self.file.calibration

    def shapes(self, crops: Crops) -> tuple[np.ndarray, ...]:
        points, *shape = self.file.predict(Batches(crops.images, crops.context, self.input), batch=BATCH)
        return apply(crops.to_image, points), *shape


def own_precision(on: torch.device) -> Literal["fp32", "bf16"]:
    """The faster one of a device."""
    return "bf16" if computes_bf16(on) else "fp32"


def load(model: Path, flip_test: bool = False, engine: Engine = "auto", precision: Precision = "auto") -> Landmarker:
    """Of a folder models/<experiment>, which PyTorch runs, or of an ONNX file, which the other engines run.

    Raises `InputError` where model, engine and precision do not go together.
    """
    if model.suffix == ".onnx":
        if engine == "pytorch":
            raise InputError(
                f"{model} is an ONNX file, which PyTorch does not run: give the folder models/<experiment>."
            )
        return OnnxLandmarker(model, flip_test, engine, precision)
    if engine not in ("auto", "pytorch"):
        raise InputError(
            f"{engine} runs ONNX files: python -m stages.export {model} --out {model.name}.onnx writes one."
        )
    return Landmarker(model, flip_test, precision)
