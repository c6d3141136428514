"""The tables of an experiment's page."""

from collections.abc import Mapping, Sequence

from stages.metrics.breakdown import PERCENTILES
from stages.metrics.schema import Averages, Calibration, Details, Metrics
from stages.reporting.tables import NOTHING, at, at_threshold, error, markdown_table, mean_error, nme, share, thresholds

NORMALISERS = {
    "inter_ocular": "inter-ocular distance (outer eye corners)", "inter_pupil": "inter-pupil distance (eye centres)",
    "box_side": "side of the face box", "box_sqrt": "√(w·h) of the landmarks' bounding box",
    "box_diagonal": "diagonal of the landmarks' bounding box",
}  # fmt: skip
INDEXED = 7  # landmarks in a row of their index


def subset_table(metrics: Mapping[str, Metrics], percentiles: Mapping[str, Mapping[str, float | None]]) -> str:
    rows, columns = [], thresholds(metrics.values())
    for name, entry in metrics.items():
        levels = percentiles.get(name) or {}
        cells = [mean_error(levels[str(p)]) if str(p) in levels else NOTHING for p in PERCENTILES]
        rates = [at(kind, getattr(entry.at.get(t), kind, None)) for kind in ("fr", "auc") for t in columns]
        rows.append((name, entry.n, nme(entry), *cells, *rates, error(entry.nme_mean_shape)))
    header = [*(f"P{p}" for p in PERCENTILES), *(at_threshold(kind, t) for kind in ("fr", "auc") for t in columns)]
    return markdown_table(("subset", "n", "NME [95 %]", *header, "mean shape"), rows)


def normaliser_table(averages: Mapping[str, Averages], official: str) -> str:
    n, rows = max((average.n for average in averages.values() if average.n is not None), default=None), []
    for name, average in averages.items():
        title = NORMALISERS.get(name, name) + (" (official)" if name == official else "")
        title += f", {average.n} of {n} faces" if average.n != n else ""
        figures = [average.faces, average.visible, average.pooled]
        if average.n == 0:
            figures = [NOTHING] * 3
        elif average.faces is not None and average.visible is None:  # no landmark is visible
            figures[1] = NOTHING
        rows.append((title, *(value if value == NOTHING else mean_error(value) for value in figures)))
    return markdown_table(("normaliser", "faces", "visible", "pooled"), rows)


def risk_coverage_table(calibration: Calibration) -> str:
    rejected = calibration.rejected
    left = dict(zip(rejected, calibration.nme_left, strict=True))
    best = dict(zip(rejected, calibration.nme_left_at_best, strict=True))
    rows = [(share(1 - part), mean_error(left[part]), mean_error(best[part])) for part in (0.0, 0.05, 0.1)]
    return markdown_table(("coverage", "rejected: lowest confidence first", "worst first (best possible)"), rows)


def landmark_index(details: Details, landmarks: Sequence[int]) -> str:
    """The error of every landmark by its number, several to a row."""
    cells = [(f"{number}", mean_error(value)) for number, value in zip(landmarks, details.landmarks, strict=True)]
    columns = min(INDEXED, max(len(cells), 1))
    height = -(-len(cells) // columns)
    rows = [
        [text for pair in [(f"**{number}**", value) for number, value in cells[row::height]] for text in pair]
        for row in range(height)
    ]
    rows = [row + [""] * (2 * columns - len(row)) for row in rows]
    return markdown_table(("landmark", "NME") * columns, rows, left=0)
