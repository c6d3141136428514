"""Per-face errors, subset summaries and CED of predicted landmarks.

Symbols: N faces, K predicted landmarks. Everything is computed from points in image px; no image is read. What is not
annotated is not measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from stages.data.faces import Faces, subset_rows
from stages.data.geometry import from_boxes
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme
from stages.metrics.breakdown import known_mean, mean_face, yaw
from stages.metrics.per_face import FaceErrors, table
from stages.metrics.summary import ced, summarise
from stages.predictions.table import Predictions
from stages.system.errors import refuse

SEED = 1  # of the intervals and of the gallery's random faces
FAILURE_CASES = 12  # worst faces, and as many about the median


@dataclass(frozen=True)
class Evaluation:
    """Predictions measured against the annotation of their faces.

    scheme: of the faces' dataset. normalisers: (N,) px by name, of all but the official one NaN where a face lacks it.
    nme: by normaliser (N,), a fraction; ∞ without a prediction, NaN without the normaliser. perturbed: by perturbation
    of the face box (`shift_-5`) the NME (N,) by the official normaliser; `detector`: from detected boxes.
    """

    predictions: Predictions
    scheme: DatasetScheme
    normalisers: Mapping[str, np.ndarray]
    nme: Mapping[str, np.ndarray]
    perturbed: Mapping[str, np.ndarray]

    @property
    def faces(self) -> Faces:
        return self.predictions.faces

    @property
    def landmarks(self) -> list[int]:
        """The dataset's landmarks that the K predicted ones are."""
        made = self.predictions.made
        return list(range(self.scheme.count)) if made is None else made.landmarks

    @property
    def official(self) -> np.ndarray:
        """(N,) the NME by the dataset's own normaliser, a fraction."""
        return self.nme[self.scheme.normaliser]

    @property
    def confidence(self) -> np.ndarray:
        """(N,) the mean score of a face's annotated landmarks."""
        return known_mean(np.where(self.faces.annotated[:, self.landmarks], self.predictions.scores, np.nan), 1)

    def subsets(self) -> dict[str, np.ndarray]:
        """(N,) bool per subset; `test` is the whole split."""
        return subset_rows(self.faces.subsets)

    def metrics(self, thresholds: Sequence[float], baseline: "Evaluation | None" = None) -> dict[str, dict]:
        """metrics.json: an entry per subset, in percent; with a baseline (the mean shape) also its NME.

        That is None where the mean shape lacks a landmark, since no training face has it annotated.
        """
        entries = {}
        for name, rows in self.subsets().items():
            entries[name] = summarise(self.official[rows], SEED, thresholds)
            if baseline is not None:
                mean = float(baseline.official[rows].mean())
                entries[name]["nme_mean_shape"] = 100 * mean if np.isfinite(mean) else None
        return entries

    def ced(self) -> pd.DataFrame:
        """ced.csv: per subset the steps of the cumulative error distribution, NME in percent."""
        nme = 100 * self.official
        parts = []
        for name, rows in self.subsets().items():
            values, share = ced(nme[rows])
            parts.append(pd.DataFrame({"subset": name, "nme": values, "share": share}))
        return pd.concat(parts, ignore_index=True)

    def face_table(self) -> pd.DataFrame:
        """faces.csv: per face its official NME in percent, its subsets and what may explain the error."""
        faces = self.faces
        visible = faces.visible.sum(1) / faces.annotated.sum(1)
        columns = {"side": faces.side, "visible": visible, "score": self.confidence}
        degrees = yaw(faces.landmarks, self.scheme.groups, self.scheme.flip_pairs)
        columns |= {} if degrees is None else {"yaw": degrees}
        return table(FaceErrors(faces.face_id, 100 * self.official, faces.subsets), **columns)

    def nme_columns(self) -> dict[str, np.ndarray]:
        """The NME (N,) in percent as columns of a table: `nme` by the official normaliser, `nme_<name>` by each."""
        return {"nme": 100 * self.official} | {f"nme_{name}": 100 * nme for name, nme in self.nme.items()}

    def gallery_rows(self) -> list[tuple[int, str]]:
        """(row, caption) of four random faces, the four best and the four worst."""
        order = np.argsort(self.official, kind="stable")
        random = np.random.default_rng(SEED).permutation(len(order))
        kinds = (("random", random[:4]), ("best", order[:4]), ("worst", order[::-1][:4]))
        return [(int(row), self._caption(kind, row)) for kind, rows in kinds for row in rows]

    def failure_cases(self, rows: np.ndarray) -> list[tuple[int, str]]:
        """(row, caption) of the worst faces of a subset (N,) bool, worst first, then of those about its median."""
        nme = 100 * self.official
        order = np.flatnonzero(rows)[np.argsort(-nme[rows], kind="stable")]
        middle = max(len(order) // 2 - FAILURE_CASES // 2, 0)
        kinds = (("worst", order[:FAILURE_CASES]), ("median", order[middle : middle + FAILURE_CASES]))
        return [(int(row), self._caption(kind, row)) for kind, chosen in kinds for row in chosen]

    def _caption(self, kind: str, row: int) -> str:
        nme = 100 * self.official[row]
        return f"{kind}: {nme:.1f} %" if np.isfinite(nme) else f"{kind}: no prediction"


def measurable(predictions: Predictions, scheme: DatasetScheme) -> np.ndarray:
    """(N,) bool: the faces that have the official normaliser, and one of the predicted landmarks annotated."""
    faces = predictions.faces
    official = normalisers(faces.landmarks, faces.side, scheme.normalisers())[scheme.normaliser]
    return np.isfinite(official) & np.isfinite(predictions.truth).all(-1).any(1)


def evaluate(predictions: Predictions, scheme: DatasetScheme) -> Evaluation:
    """Measure predictions; the normalisers are always those of all landmarks of a face.

    Raises `InputError` as `nme.normalisers`, and naming the faces that cannot be measured.
    """
    faces, truth = predictions.faces, predictions.truth
    lengths = normalisers(faces.landmarks, faces.side, scheme.normalisers())
    refuse(
        [
            f"face {faces.face_id[i]}: "
            + (
                f"{scheme.normaliser} is 0 or needs a landmark that is not annotated"
                if np.isnan(lengths[scheme.normaliser][i])
                else "none of the landmarks that were predicted is annotated"
            )
            for i in np.flatnonzero(~measurable(predictions, scheme))
        ],
        "faces without a measurable error",
        "Annotate these landmarks, or take the faces out of the dataset's test files; then run dvc repro.",
    )
    nme = {name: face_errors(predictions.points, truth, px) for name, px in lengths.items()}
    official = lengths[scheme.normaliser]
    perturbed = {name: face_errors(points, truth, official) for name, points in predictions.perturbed.items()}
    return Evaluation(predictions, scheme, lengths, nme, perturbed)


def mean_shape(train: Faces, test: Faces) -> np.ndarray:
    """(N, K, 2) image px: the mean of the training faces' annotated landmarks, laid into each test face's box.

    NaN for a landmark that no training face has.
    """
    return from_boxes(mean_face(train.landmarks, train.center, train.side), test.center, test.side)


def mean_shape_predictions(train: Faces, predictions: Predictions) -> Predictions:
    """The mean-shape baseline for the faces and the landmarks of `predictions`; scores are theirs."""
    points = mean_shape(train, predictions.faces)
    if predictions.made is not None:
        points = points[:, predictions.made.landmarks]
    return replace(predictions, points=points, perturbed={})
