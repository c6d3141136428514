"""How a figure is written: with the digits its interval justifies, in Markdown tables with padded cells."""

import math
from collections.abc import Sequence

from stages.measure.results import Metrics
from stages.measure.statistics import share_interval

NOTHING = "–"
SPOKEN = {"inter_ocular": "inter-ocular", "inter_pupil": "inter-pupil", "box_side": "box side"}


def spoken(normaliser: str) -> str:
    """A normaliser's name as a reader knows it."""
    return SPOKEN.get(normaliser, normaliser)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table with padded cells, the first `left` columns aligned left and all others right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in cells
    ]
    lines.insert(1, ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def decimals(interval: tuple[float, float] | None) -> int:
    """How many an estimate deserves: two significant digits of the interval's half-width, at most two decimals."""
    if interval is None:
        return 1
    half = (interval[1] - interval[0]) / 2
    return 2 if half <= 0 else min(max(1 - math.floor(math.log10(half)), 0), 2)


def number(value: float | None, places: int) -> str:
    return NOTHING if value is None else f"{value:.{places}f}"


def with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    """`5.12 [4.98, 5.27]`"""
    places = decimals(interval)
    if value is None or interval is None:
        return number(value, places)
    return f"{value:.{places}f} [{interval[0]:.{places}f}, {interval[1]:.{places}f}]"


def nme(entry: Metrics) -> str:
    """The NME with its interval; ∞ where a face has no prediction."""
    return "∞" if entry.nme is None and entry.n else with_interval(entry.nme, entry.nme_ci95)


def failure_interval(entry: Metrics, percent: float | None) -> tuple[float, float] | None:
    """The interval, in percent, of a failure rate of the entry."""
    bounds = share_interval(round((percent or 0) / 100 * entry.n), entry.n)
    return bounds and (100 * bounds[0], 100 * bounds[1])


def failures(entry: Metrics, percent: float | None) -> str:
    """A failure rate of the entry without its interval, yet with the digits that it justifies."""
    return number(percent, decimals(failure_interval(entry, percent)))


def area(entry: Metrics, percent: float | None) -> str:
    """An AUC of the entry: what moves the NME moves it about ten times as far, so it deserves a digit less."""
    return number(percent, max(decimals(entry.nme_ci95) - 1, 0))
