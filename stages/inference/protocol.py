"""Landmarks on test faces by either protocol: `exact` from the crops, `paper` from the images.

Each function returns points (N, K, 2) in image px, in the dataset's numbering of pixels, scores (N, K), and by name
the points from perturbed face boxes (none unless asked for) and, as `detector`, those from detected ones (NaN for faces
that were not found).
"""

from collections.abc import Callable

import numpy as np

from stages.data.crops import Crops
from stages.data.faces import Faces
from stages.data.geometry import apply
from stages.inference.detected import NAME, predict_detected, predict_paper_detected
from stages.inference.paper_protocol import predict_paper
from stages.inference.perturbation import predict_paper_perturbed, predict_perturbed
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, FusedNetwork, Progress, predict
from stages.predictions.detections import Detections

Predicted = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def predict_from_crops(
    model: HRNet | FusedNetwork,
    crops: Crops,
    model_input,
    *,
    batch: int,
    flip_order: np.ndarray | None,
    perturbed: bool,
    detections: Detections | None = None,
    progress: Progress = iter,
) -> Predicted:
    """Protocol `exact`: no coordinate is rounded.

    model_input: what the model reads (checkpoint.ModelInput). flip_order: (K,) of the model's landmarks, for
    the flip test; None without it.
    """
    batches = Batches(crops.images, crops.context, model_input)
    options = {"batch": batch, "flip_order": flip_order, "progress": progress}
    points, scores = predict(model, batches, **options)
    moved = predict_perturbed(model, batches, **options) if perturbed else {}
    if detections is not None:
        options |= {"context": crops.context, "model_input": model_input}
        moved[NAME] = predict_detected(model, crops.images, crops.faces, detections, **options)
    return (
        apply(crops.to_image, points),
        scores,
        {name: apply(crops.to_image, points) for name, points in moved.items()},
    )


def predict_from_images(
    model: HRNet,
    read: Callable[[str], np.ndarray],
    faces: Faces,
    *,
    origin: float,
    shrink_stretches: bool,
    batch: int,
    perturbed: bool,
    detections: Detections | None = None,
    progress: Progress = iter,
) -> Predicted:
    """Protocol `paper`: the published crops, roundings and decoder.

    read: gives the pixels (H, W, 3) uint8 RGB of an image by its name. origin: `source.origin` for a model trained on
    our crops, which counts pixels from 0 as the protocol does; 0 for a released one, which was trained on the
    annotations as they are. shrink_stretches: as of `paper.crop`.
    """
    options = {"shrink_stretches": shrink_stretches, "batch": batch, "progress": progress}
    points, scores = predict_paper(model, read, faces, **options)
    moved = predict_paper_perturbed(model, read, faces, **options) if perturbed else {}
    if detections is not None:
        moved[NAME] = predict_paper_detected(model, read, faces, detections, **options)
    return points + origin, scores, {name: points + origin for name, points in moved.items()}
