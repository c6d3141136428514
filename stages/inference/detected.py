"""Landmarks from a detector's face boxes, which are what a model gets in use; the benchmark's come from annotation."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from stages.data.faces import Faces
from stages.inference.paper_protocol import predict_paper
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, FusedNetwork, predict
from stages.predictions.detections import Detections

NAME = "detector"  # of these predictions among those from perturbed boxes


def _of_all(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(N, K, 2) with NaN for the faces that were not found."""
    whole = np.full((len(found), *points.shape[1:]), np.nan)
    whole[found] = points
    return whole


def predict_detected(
    model: HRNet | FusedNetwork, images: np.ndarray, faces: Faces, detections: Detections, **run
) -> np.ndarray:
    """Points (N, K, 2) in crop px, NaN for faces that were not found, from crops around the annotated boxes.

    What a detected box shows beyond the crop is black: crops reach half a face box further than the input. run: as of
    `model.predict`, with context and model_input, as of Batches.
    """
    found = np.flatnonzero(detections.found)
    batches = Batches(images[found], run.pop("context"), run.pop("model_input"))
    scale = detections.side[found] / faces.side[found]
    shift = (detections.center[found] - faces.center[found]) / faces.side[found, None]
    matrix = torch.zeros(len(found), 2, 3, dtype=torch.float64)
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.from_numpy(scale)
    middle = (1 - scale[:, None]) * (batches.size - 1) / 2 + shift * batches.size / batches.box
    matrix[:, :, 2] = torch.from_numpy(middle)
    return _of_all(predict(model, batches, moves=matrix, **run)[0], detections.found)


def predict_paper_detected(
    model: HRNet, read: Callable[[str], np.ndarray], faces: Faces, detections: Detections, **run
) -> np.ndarray:
    """Points (N, K, 2) in image px by the published protocol; run: as of `predict_paper`."""
    detected = replace(faces, center=detections.center, side=detections.side).where(detections.found)
    return _of_all(predict_paper(model, read, detected, **run)[0], detections.found)
