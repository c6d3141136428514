"""Faces from frame to frame, and exponential smoothing of their landmarks.

Symbols: n faces of a frame, K landmarks.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

OVERLAP = 0.3  # intersection over union from which a box continues a track
PATIENCE = 15  # frames that a track waits for its face


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(m, n) intersection over union of boxes (m, 4) and (n, 4), corners."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(box[:, 2:] - box[:, :2]).prod(-1) for box in (one, other)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)


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
            overlap = overlaps(np.stack([self.boxes[track] for track in known]), boxes)
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
