"""dlib's cascade of regression trees (ERT), trained on a dataset's own training faces: the classical baseline.

Kazemi and Sullivan, "One Millisecond Face Alignment with an Ensemble of Regression Trees", CVPR 2014. It needs the
package dlib-bin (`make dlib`). dlib's own pretrained file is not used: by its author's word it was trained on all of
300W, test faces included. dlib gives whole pixels and no scores.
"""

import os
from collections.abc import Callable, Iterable

import dlib
import numpy as np

MARGIN = 0.5  # face boxes on each side of the box, kept of an image


def train(
    faces: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    *, seed: int = 0, oversampling: int = 20, nu: float = 0.1, depth: int = 4, cascades: int = 10,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:  # fmt: skip
    """Train on images (H, W, 3) RGB, boxes (n, 4) and landmarks (n, K, 2); faces that lack a landmark are left out.

    oversampling: initial shapes per face. nu: shrinkage. depth: of the trees. The result predicts (n, K, 2) from an
    image and boxes.
    """
    images, annotations = [], []
    for image, boxes, landmarks in faces:
        for box, points in zip(boxes, landmarks, strict=True):
            if not np.isfinite(points).all():
                continue
            window, corner = _cut(image, box)
            parts = [dlib.point(*(int(round(float(value))) for value in point)) for point in points - corner]
            images.append(window)
            annotations.append([dlib.full_object_detection(_rectangle(box - np.tile(corner, 2)), parts)])
    options = dlib.shape_predictor_training_options()
    options.oversampling_amount, options.nu = oversampling, nu
    options.tree_depth, options.cascade_depth = depth, cascades
    options.random_seed, options.num_threads, options.be_verbose = str(seed), len(os.sched_getaffinity(0)), False
    predictor = dlib.train_shape_predictor(images, annotations, options)

    def predict(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        shapes = []
        for box in boxes:
            window, corner = _cut(image, box)
            shape = predictor(window, _rectangle(box - np.tile(corner, 2)))
            shapes.append(np.array([(part.x, part.y) for part in shape.parts()], float) + corner)
        return np.stack(shapes)

    return predict


def _cut(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image about a box, whose pixels are those of the image, and its corner (x, y)."""
    margin = MARGIN * (box[2:] - box[:2])
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(box[:2] - margin), 0, (width - 1, height - 1)).astype(int)
    x1, y1 = np.clip(np.ceil(box[2:] + margin) + 1, (x0 + 1, y0 + 1), (width, height)).astype(int)
    return np.ascontiguousarray(image[y0:y1, x0:x1]), np.array([x0, y0], float)


def _rectangle(box: np.ndarray) -> dlib.rectangle:
    return dlib.rectangle(*(int(round(float(value))) for value in box))
