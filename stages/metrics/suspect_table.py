"""The list of doubtful labels: a row per suspect, which of them were moved together, and the NME without them.

Symbols: N faces, K landmarks. Distances are in percent of the normaliser unless they are said to be in px.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stages.data.nme import face_errors
from stages.metrics.intervals import mean_interval
from stages.metrics.label_suspects import Scores
from stages.predictions.table import Predictions

SEED = 1
TOGETHER = np.cos(np.deg2rad(60))  # of the angle between the residuals of neighbours that were moved together
APART = 2  # places in a group's order: one landmark in between may be no suspect
FEWEST = 3  # suspects that were moved together


def groups(suspects: np.ndarray, residual: np.ndarray, parts: Mapping[str, Sequence[int]]) -> np.ndarray:
    """(N, K) the part of the face whose landmarks were moved together with a suspect, as `jaw 8–12`; "" where none.

    suspects: (N, K) bool. residual: (N, K, 2). parts: landmarks in order along the face, by name. Three suspects or
    more make a group if each is next to another, or next but one, and their residuals point the same way.
    """
    names = np.full(suspects.shape, "", object)
    for face in np.flatnonzero(suspects.sum(1) >= FEWEST):
        for part, members in parts.items():
            chain: list[int] = []
            for place in [place for place, k in enumerate(members) if suspects[face, k]] + [np.inf]:
                if chain and not (
                    place - chain[-1] <= APART
                    and _alike(residual[face, members[chain[-1]]], residual[face, members[place]])
                ):
                    if len(chain) >= FEWEST:
                        chosen = [members[i] for i in chain]
                        names[face, chosen] = f"{part} {min(chosen)}–{max(chosen)}"
                    chain = []
                chain.append(place)
    return names


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one @ other > TOGETHER * np.linalg.norm(one) * np.linalg.norm(other)


def suspect_table(
    scores: Scores, suspects: np.ndarray, truth: np.ndarray, normaliser: np.ndarray, face_id: Sequence[str],
    parts: Mapping[str, Sequence[int]],
) -> pd.DataFrame:  # fmt: skip
    """A row per suspect, highest score first. consensus_x, consensus_y: where the methods see it, image px."""
    rows, landmarks = np.nonzero(suspects)
    order = np.argsort(-scores.score[rows, landmarks], kind="stable")
    rows, landmarks = rows[order], landmarks[order]
    at = rows, landmarks
    consensus = truth[at] + scores.residual[at] * normaliser[rows, None] / 100
    part = {k: name for name, members in parts.items() for k in members}
    return pd.DataFrame(
        {
            "face_id": [face_id[i] for i in rows],
            "landmark": landmarks,
            "part": [part.get(k, "") for k in landmarks],
            "distance_px": scores.distance[at] * normaliser[rows] / 100,
            "distance_percent": scores.distance[at],
            "spread_percent": scores.spread[at],
            "score": scores.score[at],
            "expected_false_share": scores.false_share[at],
            "suspects_of_face": suspects.sum(1)[rows],
            "group": groups(suspects, scores.residual, parts)[at],
            "consensus_x": consensus[:, 0],
            "consensus_y": consensus[:, 1],
        }
    )


def instability(predictions: Predictions) -> np.ndarray:
    """(N, K) px: the RMS distance of the predictions from shifted and scaled face boxes; NaN where there are none."""
    moved = [p for name, p in predictions.perturbed.items() if name.startswith(("shift_", "scale_"))]
    if not moved:
        return np.full(predictions.points.shape[:2], np.nan)
    return np.sqrt(((np.stack(moved) - predictions.points) ** 2).sum(-1).mean(0))


def sensitivity(
    points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray, suspects: np.ndarray
) -> list[tuple[float, tuple[float, float] | None]]:
    """The NME in percent, with its interval, of points (N, K, 2) by all labels and without the suspects, on the faces
    that have a normaliser and another label; the normaliser stays what it is."""
    without = np.where(suspects[..., None], np.nan, truth)
    errors = [100 * face_errors(points, labels, normaliser) for labels in (truth, without)]
    measured = ~np.isnan(errors).any(0)
    return [(float(e[measured].mean()), mean_interval(e[measured], SEED)) for e in errors]
