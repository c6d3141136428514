"""Cumulative error distributions and training curves, as matplotlib Figures.

`encode` turns a Figure into bytes that are the same whenever it is drawn again, so that git shows a figure as changed
only where it has. Colours are Okabe and Ito's, which colour-blind readers can distinguish.
"""

import io
from collections.abc import Iterable, Mapping
from zlib import crc32

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from stages.metrics.intervals import share_interval
from stages.reporting.tables import error

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")  # redundant with the colour, for print in black and white
GREY = "#666666"


def encode(figure: Figure) -> bytes:
    """The figure as a PNG without date and program name."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A (colour, dash) for each name, chosen by the name itself: a new name changes no other unless they collide."""
    chosen: dict[str, tuple[str, str]] = {}
    taken: set[int] = set()
    for name in sorted(set(names)):
        if len(taken) == len(PALETTE):  # all colours again, with other dashes
            taken = set()
        slot = crc32(name.encode()) % len(PALETTE)
        while slot in taken:
            slot = (slot + 1) % len(PALETTE)
        taken.add(slot)
        chosen[name] = (PALETTE[slot], DASHES[(slot + len(chosen) // len(PALETTE)) % len(DASHES)])
    return chosen


def experiment_styles(recipes: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The style of each experiment, given its recipe or what else sets it apart: the same on every dataset."""
    style = styles(recipes.values())
    return {name: style[recipe] for name, recipe in recipes.items()}


def plain_axes(axes: Axes) -> None:
    """No box, and a light grid behind the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def ced_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    style: Mapping[str, tuple[str, str]],
    title: str,
    normaliser: str,
    limit: float = 10.0,
    banded: Mapping[str, int] | None = None,
) -> Figure:
    """Cumulative error distributions from 0 to `limit` percent, the legend beside them.

    curves: per label the steps of `summary.ced`: NME (M,) in percent, ascending, and the share of faces (M,) up to it.
    style: per label its colour and dash (`styles`); curves without one are grey, behind the others.
    banded: the labels of coloured curves that get a band, with their number of faces.
    """
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    others = [label for label in curves if label not in style]
    for label in (*others, *(label for label in curves if label in style)):
        nme, share = curves[label]
        x, y = np.concatenate([[0.0], nme]), 100 * np.concatenate([[0.0], share])
        inside = x <= limit
        x, y = np.append(x[inside], limit), np.append(y[inside], y[inside][-1])
        if label in style:
            colour, dash = style[label]
            axes.step(x, y, where="post", color=colour, linestyle=dash, linewidth=1.8, label=label)
            if label in (banded or {}):
                axes.fill_between(x, *share_band(y, banded[label]), step="post", color=colour, alpha=0.18, linewidth=0)
        else:
            name = f"{len(others)} other{'' if len(others) == 1 else 's'}" if label == others[-1] else None
            axes.step(x, y, where="post", color="#BBBBBB", linewidth=0.8, label=name)
    axes.set(xlim=(0, limit), ylim=(0, 101), title=title)
    axes.set_xlabel(f"NME (%, {normaliser})")
    axes.set_ylabel("faces with at most this error (%)")
    plain_axes(axes)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] not in style)  # the grey ones last
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    if banded:
        handles.append(Patch(color=GREY, alpha=0.18, linewidth=0))
        labels.append("95 % interval")
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def share_band(share: np.ndarray, n: int) -> tuple[list[float], list[float]]:
    """The bounds (M,) of the 95 % intervals of shares (M,) of n faces, all in percent.

    At each NME the faces up to it are binomial, so the interval of Clopper and Pearson (1934) is exact: the band holds
    point by point, not for the curve as a whole, and at a threshold it is that of the failure rate. Of several seeds
    the mean count is rounded outwards and no face counts twice, which is too wide rather than too narrow.
    """
    counts = np.round(share / 100 * n, 6)
    low, high = (
        [100 * interval[end] for interval in (share_interval(int(count), n) for count in outwards(counts))]
        for end, outwards in enumerate((np.floor, np.ceil))
    )
    return low, high


def _rate_scale(rates: pd.Series) -> str:
    """Steps of a learning rate are read on a logarithmic axis; one that ends near 0 would take decades of it."""
    return "log" if 0 < rates.max() <= 1e4 * rates.min() else "linear"


def training_curve(history: pd.DataFrame) -> Figure:
    """Training loss, val NME and learning rate by epoch.

    history: a row per epoch with `epoch`, `train/loss`, `lr` and, with a val split, `val/nme` in percent.
    """
    panels = {"train/loss": ("training loss", PALETTE[0], 3), "val/nme": ("val NME (%)", PALETTE[1], 3)}
    panels |= {"lr": ("learning rate", GREY, 1.4)}
    panels = {key: panel for key, panel in panels.items() if key in history}
    heights = [height for _, _, height in panels.values()]
    figure = Figure(figsize=(6.4, 0.75 * sum(heights)), layout="constrained")
    subplots = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights)
    axes = dict(zip(panels, subplots, strict=True))
    for key, (label, colour, _) in panels.items():
        axes[key].plot(history["epoch"], history[key], color=colour, linewidth=1.6, marker=".", markersize=4)
        axes[key].set_ylabel(label)
        axes[key].set_yscale({"val/nme": "linear", "lr": _rate_scale(history["lr"])}.get(key, "log"))
        plain_axes(axes[key])
    if "val/nme" in history and history["val/nme"].notna().any():
        best = history.loc[history["val/nme"].idxmin()]
        axes["val/nme"].plot(best["epoch"], best["val/nme"], "o", color=PALETTE[1], markersize=7, fillstyle="none")
        axes["val/nme"].set_title(
            f"best: {error(best['val/nme'])} % at epoch {best['epoch']:.0f}", fontsize=9, loc="right"
        )
    axes["lr"].set_xlabel("epoch")
    axes["lr"].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure
