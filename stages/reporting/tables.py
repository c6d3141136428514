"""Markdown tables, and figures with the digits that their intervals justify."""

import math
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from stages.metrics.schema import Mean, Metrics

NOTHING = "–"
INFINITE = "∞"  # a mean over faces of which one has no prediction
Interval = tuple[float, float] | None
NORMALISERS = {"inter_ocular": "inter-ocular", "inter_pupil": "inter-pupil", "box_side": "box side"}


def normaliser_name(normaliser: str) -> str:
    """A normaliser's usual name."""
    return NORMALISERS.get(normaliser, normaliser)


def at_threshold(kind: str, threshold: float | str) -> str:
    """`FR@8`, `AUC@10`: the name of fr or auc at a threshold, a fraction of the normaliser (0.08, or "0.08")."""
    return f"{kind.upper()}@{100 * float(threshold):g}"


def thresholds(entries: Iterable[Metrics]) -> list[str]:
    """The thresholds of a table of these entries: all that one of them has, ascending."""
    return sorted({threshold for entry in entries for threshold in entry.at})


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """A Markdown table, aligned in its source; the first `left` columns are aligned left and all others right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    align = ["left" if i < left else "right" for i in range(len(header))]
    return tabulate(cells[1:], cells[0], tablefmt="pipe", disable_numparse=True, colalign=align) + "\n"


def decimals(interval: Interval) -> int:
    """The decimals of an estimate: two significant digits of the interval's half-width, at most two decimals."""
    if interval is None:
        return 1
    half = (interval[1] - interval[0]) / 2
    return 2 if half <= 0 else min(max(1 - math.floor(math.log10(half)), 0), 2)


def number(value: float | None, places: int) -> str:
    return NOTHING if value is None else f"{value:.{places}f}"


def with_interval(value: float | None, interval: Interval) -> str:
    """`5.12 [4.98, 5.27]`"""
    places = decimals(interval)
    if value is None or interval is None:
        return number(value, places)
    return f"{value:.{places}f} [{interval[0]:.{places}f}, {interval[1]:.{places}f}]"


def nme(entry: Metrics) -> str:
    """The NME with its interval; ∞ where a face has no prediction."""
    return INFINITE if entry.nme is None and entry.n else with_interval(entry.nme, entry.nme_ci95)


def mean(entry: Mean) -> str:
    """A mean error without its interval, with the digits that it justifies; ∞ where a face has no prediction."""
    return INFINITE if entry.nme is None else number(entry.nme, decimals(entry.ci95))


def failure_rate(entry: Metrics, threshold: str) -> str:
    """A failure rate without its interval, with the digits that it justifies; – where not measured at the threshold."""
    at = entry.at.get(threshold)
    return NOTHING if at is None else number(at.fr, decimals(at.fr_ci95))


def auc(entry: Metrics, threshold: str) -> str:
    """An AUC of the entry: it changes about ten times as much as the NME, so it has one digit fewer."""
    at = entry.at.get(threshold)
    return NOTHING if at is None else number(at.auc, max(decimals(entry.nme_ci95) - 1, 0))
