"""Faces from frame to frame, and exponential smoothing of their landmarks.

Symbols: n faces of a frame, K landmarks.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from stages.data.geometry import iou

OVERLAP = 0.3  # intersection over union from which a box continues a track
PATIENCE = 15  # frames that a track waits for its face


class Tracks:
    """Gives every face of a video a number that stays with it.

    lag: frames by which the smoothed landmarks of a face that moves steadily are behind; 0: no smoothing. It is an
    exponential average with the weight 1/(1 + lag) for the new frame.
    """

    def __init__(self, lag: float = 0.0):
        self.weight = 1 / (1 + lag)
        self.boxes: dict[int, np.ndarray] = {}
        self.points: dict[int, np.ndarray] = {}
        self.missing: dict[int, int] = {}
        self.next = 0

    def assign(self, boxes: np.ndarray) -> list[int]:
        """The track of each box (n, 4) of the next frame."""
        known = list(self.boxes)
        tracks = [-1] * len(boxes)
        if known and len(boxes):
            overlap = iou(np.stack([self.boxes[track] for track in known]), boxes)
            for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[i, j] >= OVERLAP:
                    tracks[j] = known[i]
        for j, track in enumerate(tracks):
            if track < 0:
                tracks[j], self.next = self.next, self.next + 1
            self.boxes[tracks[j]], self.missing[tracks[j]] = boxes[j], 0
        for track in set(known) - set(tracks):
            self.missing[track] += 1
            if self.missing[track] > PATIENCE:
                for kept in (self.boxes, self.missing, self.points):
                    kept.pop(track, None)
        return tracks

    def smooth(self, tracks: list[int], points: np.ndarray) -> np.ndarray:
        """Landmarks (n, K, 2) of the frame, averaged with those of the same track before it."""
        smoothed = points.copy()
        for i, track in enumerate(tracks):
            if track in self.points and not self.missing[track]:
                smoothed[i] = self.points[track] + self.weight * (points[i] - self.points[track])
            self.points[track] = smoothed[i]
        return smoothed
