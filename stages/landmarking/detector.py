"""Faces in an image by OpenCV's YuNet, and from its boxes to those that a network was trained with.

YuNet (Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023; MIT
licence) gives boxes that are larger and higher than those of landmarks; how far is measured on training faces.

Symbols: n faces found, N faces of a dataset. Pixels are counted from 0.
"""

from pathlib import Path

import cv2
import numpy as np

from stages.predictions.detections import BoxMap
from stages.sources.download import download

URL = "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
FILE = Path("models/face_detection_yunet_2023mar.onnx")
SIZES = (640, 1600)  # px, the longer side that an image is reduced to: YuNet finds faces of 10 to 300 px
OVERLAP = 0.3  # intersection over union from which two boxes are one face
SCORE = 0.6  # of a face at least
MOST = 5000  # boxes before overlapping ones are merged


# Fitted on LFPW's 805 training faces; for a model whose own training faces were not looked at
USUAL = BoxMap(0.0046, 0.1329, 0.7748)


def fit(boxes: np.ndarray, center: np.ndarray, side: np.ndarray) -> BoxMap:
    """The map by the medians over the faces that were found. boxes: (N, 4), NaN where not; center (N, 2), side (N,)."""
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1)
    offset = (center - (boxes[:, :2] + boxes[:, 2:]) / 2) / longer[:, None]
    x, y = np.nanmedian(offset, 0)
    return BoxMap(float(x), float(y), float(np.nanmedian(side / longer)))


class Detector:
    """`detect` finds the faces of an image; score: the least that a box needs. One thread at a time may use it.

    file: YuNet's; None: that of models/, which is downloaded once.
    """

    def __init__(self, score: float = SCORE, file: Path | None = None):
        file = file or download(URL, SHA256, FILE)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of its own choice of an engine
        self.network = cv2.FaceDetectorYN.create(str(file), "", (320, 320), score, OVERLAP, MOST)

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) px and scores (n,), largest box first, of an image (H, W, 3) uint8 RGB."""
        height, width = image.shape[:2]
        boxes, scores = [np.empty((0, 4))], [np.empty(0)]
        for longest in dict.fromkeys(min(size, max(height, width)) for size in SIZES):
            reduced = np.maximum(1, np.round(np.array([width, height]) * longest / max(height, width))).astype(int)
            small = image
            if longest < max(height, width):
                small = cv2.resize(image, tuple(map(int, reduced)), interpolation=cv2.INTER_AREA)
            self.network.setInputSize(tuple(map(int, reduced)))
            found = self.network.detect(np.ascontiguousarray(small[..., ::-1]))[1]
            if found is not None:
                step = np.array([width, height]) / reduced
                # edges of pixels, whose centres are half a pixel from them
                corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], 1) * np.tile(step, 2) - 0.5
                boxes.append(corners)
                scores.append(found[:, 14])
        boxes, scores = np.concatenate(boxes), np.concatenate(scores)
        if len(boxes):
            sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
            kept = np.array(cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), 0.0, OVERLAP)).reshape(-1)
            boxes, scores = boxes[kept], scores[kept]
        order = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(1), kind="stable")
        return boxes[order], scores[order]


class FaceBoxes:
    """Face boxes of an image: the detector's, by the map of the model, or by the usual one where it has none."""

    def __init__(self, box_map: BoxMap | None, score: float = SCORE, file: Path | None = None):
        self.detector, self.map = Detector(score, file), box_map or USUAL

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """Centres (n, 2), sides (n,) and the detector's scores of the faces of an image (H, W, 3) uint8 RGB."""
        boxes, scores = self.detector.detect(image)
        return *self.map.apply(boxes), scores.tolist()
