"""An exported file beside the model in PyTorch, on the same windows of real faces: points and NME."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from stages.data.crops import Crops
from stages.data.geometry import apply
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme
from stages.exporting.onnx_file import OnnxFile
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, predict
from stages.system.errors import InputError

LIMIT = 0.01  # px of the input window
PEAK = (
    0.1  # of a confidence, a Gaussian's own being 1: below it a heat map has no position that the last bits leave alone
)
BATCH = 8  # faces


@dataclass(frozen=True)
class Parity:
    """How far two predictions of N faces are apart, in px of the input window, and the NME of both in percent.

    largest_px, mean_px: over the landmarks of all faces that have a peak of at least PEAK; flat, flat_px: how many have
    none, and the largest of these. landmark: that of the largest. landmarks_px: (K,) the largest of each. confidence:
    the largest difference. rounded_px, nme_rounded: the file's on windows rounded to uint8: the mean difference from
    those that are not, and the NME.
    """

    faces: int
    largest_px: float
    mean_px: float
    landmark: int
    landmarks_px: list[float]
    flat: int
    flat_px: float
    confidence: float
    nme_pytorch: float
    nme_onnx: float
    rounded_px: float
    nme_rounded: float


def compare(
    model: HRNet,
    file: OnnxFile,
    crops: Crops,
    flip_order: np.ndarray | None,
    progress: Callable[[list], Iterable] = iter,
) -> Parity:
    """Both on all faces of a split. Raises `InputError` where these have other landmarks or there are none."""
    if not len(crops) or crops.faces.landmarks.shape[1] != model.landmarks:
        raise InputError(
            f"the crops are {len(crops)} faces of {crops.faces.landmarks.shape[1]} landmarks, and the model has "
            f"{model.landmarks}: give those of its dataset with --crops."
        )
    faces = Batches(crops.images, crops.context, file.input)
    expected, peaks = predict(model, faces, batch=BATCH, flip_order=flip_order, progress=progress)
    points, scores, _ = file.predict(faces, batch=BATCH, progress=progress)
    rounded, *_ = file.predict(faces, batch=BATCH, rounded=True, progress=progress)

    scale = file.input.size / (file.input.box / crops.context * crops.size)  # crop px → input px
    apart = np.hypot(*np.moveaxis(points - expected, -1, 0)) * scale
    flat = peaks < PEAK
    peaked = np.where(flat, 0, apart)
    nme = partial(nme_of, crops, file.scheme)

    return Parity(
        faces=len(crops), largest_px=float(peaked.max()), mean_px=float(peaked.sum() / max(1, (~flat).sum())),
        landmark=int(peaked.max(0).argmax()), landmarks_px=peaked.max(0).tolist(), flat=int(flat.sum()),
        flat_px=float(np.where(flat, apart, 0).max()),
        confidence=float(np.abs(scores - peaks).max()), nme_pytorch=nme(expected), nme_onnx=nme(points),
        rounded_px=float(np.hypot(*np.moveaxis(rounded - points, -1, 0)).mean() * scale), nme_rounded=nme(rounded),
    )  # fmt: skip


def nme_of(crops: Crops, scheme: DatasetScheme, points: np.ndarray) -> float:
    """The NME, in percent, of points (N, K, 2) in crop px."""
    side = normalisers(crops.faces.landmarks, crops.faces.side, scheme.normalisers())[scheme.normaliser]
    return 100 * float(np.nanmean(face_errors(apply(crops.to_image, points), crops.faces.landmarks, side)))


def require(parity: Parity, limit: float = LIMIT) -> None:
    """Raise `InputError` where a point is further away than `limit` px, or is no number."""
    if not parity.largest_px <= limit:
        above = sum(not value <= limit for value in parity.landmarks_px)
        raise InputError(
            f"ONNX Runtime and PyTorch differ by up to {parity.largest_px:.3g} px of the input window (landmark "
            f"{parity.landmark}; {above} landmarks above {limit:g} px), so nothing was written. A heat map with two "
            "equal peaks can do that; otherwise try other versions of onnxruntime and onnxscript."
        )


def record(parity: Parity) -> dict:
    """What is kept of it."""
    return {name: value for name, value in asdict(parity).items() if name != "landmarks_px"}
