"""Tables in Markdown, and one function per kind of figure that says with which digits it is shown, wherever it is."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from stages.metrics.schema import Metrics

NOTHING = "–"
INFINITE = "∞"  # a mean over faces of which one has no prediction
SPACE = "\N{NO-BREAK SPACE}"  # within a figure, so that no cell breaks it
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


def folded(title: str, body: str) -> str:
    """What a click on its title unfolds."""
    return f"<details><summary>{title}</summary>\n\n{body.rstrip()}\n\n</details>\n"


def _figure(value: float | None, places: int, interval: Interval = None, sign: str = "") -> str:
    """`3.93 [3.80, 4.07]`, without a space at which it may be broken."""
    if value is None:
        return NOTHING
    text = f"{value:{sign}z.{places}f}"
    if interval is None:
        return text
    low, high = (f"{bound:{sign}z.{places}f}" for bound in interval)
    return f"{text}{SPACE}[{low},{SPACE}{high}]"


def error(value: float | None, interval: Interval = None) -> str:
    """An NME in percent: `3.93`, `3.93 [3.80, 4.07]`; – where there is none."""
    return _figure(value, 2, interval)


def mean_error(value: float | None, interval: Interval = None) -> str:
    """An NME over faces of which there are some: ∞ where one of them has no prediction."""
    return INFINITE if value is None else error(value, interval)


def nme(entry: Metrics) -> str:
    """The NME of a subset with its interval."""
    return mean_error(entry.nme, entry.nme_ci95) if entry.n else NOTHING


def difference(value: float | None, interval: Interval = None) -> str:
    """A difference of two NMEs: `-0.30 [-0.37, -0.22]`"""
    return _figure(value, 2, interval, sign="+")


def failure_rate(value: float | None, interval: Interval = None) -> str:
    """In percent: `4.64`"""
    return _figure(value, 2, interval)


def auc(value: float | None, interval: Interval = None) -> str:
    """In percent: `60.5`. It changes about ten times as much as the NME, so it has one decimal fewer."""
    return _figure(value, 1, interval)


def at(kind: str, value: float | None, interval: Interval = None) -> str:
    """A figure at a threshold; kind: fr or auc."""
    return {"fr": failure_rate, "auc": auc}[kind](value, interval)


def spread(text: str, deviation: str) -> str:
    """`3.93 ± 0.04`: with the standard deviation over seeds, which may be none."""
    return text if deviation == NOTHING else f"{text}{SPACE}±{SPACE}{deviation}"


def correlation(value: float | None) -> str:
    return _figure(value, 2)


def share(value: float, places: int = 0) -> str:
    """`16 %`, of a fraction."""
    return f"{100 * value:.{places}f}{SPACE}%"


def parameters(count: int) -> str:
    """In millions: `9.65`"""
    return f"{count / 1e6:.2f}"


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"
