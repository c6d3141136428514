"""What a detector's face boxes cost: the error from them beside that from the annotated boxes, on the same faces."""

from collections.abc import Sequence

import numpy as np

from stages.metrics.intervals import mean_interval

SEED = 1


def detector_errors(nme: np.ndarray, detected: np.ndarray, thresholds: Sequence[float]) -> dict:
    """nme, detected: (N,) percent, from annotated and from detected boxes; ∞ for a face that was not found.

    nme, annotated_boxes: means over the faces that were found; difference: their paired difference. fr: at each
    threshold, a fraction, the share of all N faces above it, those not found among them.
    """
    found = np.isfinite(detected) & np.isfinite(nme)
    difference = detected[found] - nme[found]
    rates = {f"{t:.2f}": 100 * float((detected > 100 * t).mean()) for t in thresholds}
    return {
        "n": len(nme), "found": int(found.sum()),
        "nme": float(detected[found].mean()) if found.any() else None, "ci95": mean_interval(detected[found], SEED),
        "annotated_boxes": float(nme[found].mean()) if found.any() else None,
        "difference": float(difference.mean()) if found.any() else None,
        "difference_ci95": mean_interval(difference, SEED), "fr": rates,
    }  # fmt: skip
