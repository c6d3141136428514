"""From predicted landmarks to all that is told of them: per face, per subset, as a curve and as a gallery.

Symbols: N faces, K landmarks. Everything is computed from points in image px; no image is looked at but the gallery's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.data.faces import Faces, list_column
from stages.measure.metrics import ced, face_errors, normalisers, summarise

SEED = 1  # of the intervals and of the gallery's random faces


@dataclass(frozen=True)
class Evaluation:
    """Predicted landmarks (N, K, 2) image px with scores (N, K) against the truth of `faces`."""

    faces: Faces
    points: np.ndarray
    scores: np.ndarray
    nme: Mapping[str, np.ndarray]  # per normaliser (N,), fractions
    official: str  # the dataset's normaliser
    displaced: Mapping[str, np.ndarray] = field(default_factory=dict)  # the official NME (N,) from displaced boxes

    def subsets(self) -> dict[str, np.ndarray]:
        """(N,) bool per subset; `test` is the whole split."""
        names = sorted({name for row in self.faces.subsets for name in row})
        whole = np.ones(len(self.faces), bool)
        return {"test": whole} | {name: np.array([name in row for row in self.faces.subsets]) for name in names}

    def metrics(self, baseline: "Evaluation | None" = None) -> dict[str, dict]:
        """metrics.json: an entry per subset, in percent; with a baseline (the mean shape) also its NME."""
        nme = self.nme[self.official]
        found = {name: summarise(nme[rows], SEED) for name, rows in self.subsets().items()}
        if baseline is not None:
            for name, rows in self.subsets().items():
                found[name]["nme_mean_shape"] = 100 * float(baseline.nme[self.official][rows].mean())
        return found

    def ced(self) -> pd.DataFrame:
        """ced.csv: per subset the steps of the cumulative error distribution, NME in percent."""
        nme = 100 * self.nme[self.official]
        parts = []
        for name, rows in self.subsets().items():
            values, share = ced(nme[rows])
            parts.append(pd.DataFrame({"subset": name, "nme": values, "share": share}))
        return pd.concat(parts, ignore_index=True)

    def predictions(self) -> pa.Table:
        """predictions.parquet: landmarks as a flat list x0, y0, … in image px; NMEs in percent.

        `nme` is that of the official normaliser, and so are `displaced_shift_5`, …: from boxes displaced by so many
        percent of their side.
        """
        n = len(self.faces)
        columns = {
            "face_id": pa.array(self.faces.face_id),
            "image": pa.array(self.faces.image),
            "landmarks": list_column(self.points.reshape(n, -1)),
            "scores": list_column(self.scores),
            "nme": pa.array(100 * self.nme[self.official]),
        }
        columns |= {f"nme_{name}": pa.array(100 * values) for name, values in self.nme.items()}
        return pa.table(columns | {f"displaced_{n}": pa.array(100 * values) for n, values in self.displaced.items()})

    def telling(self) -> list[tuple[int, str]]:
        """(row, caption) of the gallery: four faces drawn at random, the four best and the four worst."""
        nme = self.nme[self.official]
        order = np.argsort(nme, kind="stable")
        drawn = np.random.default_rng(SEED).permutation(len(nme))
        kinds = (("random", drawn[:4]), ("best", order[:4]), ("worst", order[::-1][:4]))
        return [(int(row), f"{kind}: {100 * nme[row]:.1f} %") for kind, rows in kinds for row in rows]


def evaluate(
    faces: Faces,
    points: np.ndarray,
    scores: np.ndarray,
    definitions: Mapping[str, object],
    official: str,
    *,
    displaced: Mapping[str, np.ndarray] | None = None,
    of: Sequence[int] | None = None,
) -> Evaluation:
    """Measure points (N, K, 2) image px against `faces`; definitions as of `metrics.normalisers`.

    displaced: by name the points (N, K, 2) image px that were found from displaced boxes. of: the numbers of the faces'
    landmarks that the points are, where they are not all; the normalisers are always those of all landmarks.
    """
    truth = faces.landmarks if of is None else faces.landmarks[:, list(of)]
    divisors = normalisers(faces.landmarks, faces.side, definitions)
    nme = {name: face_errors(points, truth, divisor) for name, divisor in divisors.items()}
    off = {name: face_errors(each, truth, divisors[official]) for name, each in (displaced or {}).items()}
    return Evaluation(faces, points, scores, nme, official, off)


def mean_shape(train: Faces, test: Faces) -> np.ndarray:
    """What a model must beat: the training faces' mean shape, laid into each test face's box. (N, K, 2) image px."""
    shape = ((train.landmarks - train.center[:, None]) / train.side[:, None, None]).mean(0)
    return test.center[:, None] + shape * test.side[:, None, None]


def outside_input(faces: Faces, box: float) -> float:
    """The share of landmarks outside the model's input, the square of `box` face boxes: no heat map can show them."""
    off = np.abs(faces.landmarks - faces.center[:, None]).max(-1)
    return float((off > box / 2 * faces.side[:, None]).mean())
