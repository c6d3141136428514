"""The figures: cumulative error distributions, faces with their landmarks, the course of a training.

All return a matplotlib Figure; `encode` turns it into bytes that are the same whenever it is drawn again, so that git
shows a figure as changed only where it has. Colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")  # a second sign beside the colour, for print in black and white
TRUTH, PREDICTED = "#FFFFFF", "#FF00A0"  # on photographs: neither is a colour of skin or lips
GREY = "#666666"
COLUMNS, CELL = 4, 2.4  # the gallery's faces in a row, and inches of each


def encode(figure: Figure, form: str) -> bytes:
    """The figure as a file's content; form: png for plots, jpg for photographs. No date and no program name in it."""
    file = io.BytesIO()
    if form == "png":
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    else:  # with every pixel's own colour, since the dots are small
        figure.savefig(file, format="jpg", dpi=110, pil_kwargs={"quality": 85, "subsampling": 0})
    return file.getvalue()


def styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A (colour, dash) for each name, chosen by the name itself: a new one changes no other unless the two collide."""
    found: dict[str, tuple[str, str]] = {}
    taken: set[int] = set()
    for name in sorted(set(names)):
        if len(taken) == len(PALETTE):  # go round again, with other dashes
            taken = set()
        slot = crc32(name.encode()) % len(PALETTE)
        while slot in taken:
            slot = (slot + 1) % len(PALETTE)
        taken.add(slot)
        found[name] = (PALETTE[slot], DASHES[(slot + len(found) // len(PALETTE)) % len(DASHES)])
    return found


def experiment_styles(recipes: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The style of each experiment, given the recipes of all that have results: a recipe has one on every dataset."""
    style = styles(recipes.values())
    return {name: style[recipe] for name, recipe in recipes.items()}


def bare(axes) -> None:
    """Only what carries the data: no box, a light grid behind the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def ced_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    style: Mapping[str, tuple[str, str]],
    title: str,
    normaliser: str,
    limit: float = 10.0,
) -> Figure:
    """Cumulative error distributions from 0 to `limit` percent.

    curves: per label the steps of `metrics.ced`: NME (M,) in percent, ascending, and the share of faces (M,) up to it.
    style: per label its colour and dash (`styles`).
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for label, (nme, share) in curves.items():
        colour, dash = style[label]
        x, y = np.concatenate([[0.0], nme]), 100 * np.concatenate([[0.0], share])
        seen = x <= limit
        x, y = np.append(x[seen], limit), np.append(y[seen], y[seen][-1])
        axes.step(x, y, where="post", color=colour, linestyle=dash, linewidth=1.8, label=label)
    axes.set(xlim=(0, limit), ylim=(0, 101), title=title)
    axes.set_xlabel(f"NME (%, {normaliser})")
    axes.set_ylabel("faces with at most this error (%)")
    bare(axes)
    axes.legend(loc="best", frameon=False)
    return figure


def gallery(images: np.ndarray, predicted: np.ndarray, truth: np.ndarray, captions: Sequence[str]) -> Figure:
    """Faces four in a row, each with its true and its predicted landmarks and a line from one to the other.

    images: (M, h, w, 3) uint8 RGB. predicted, truth: (M, K, 2) px of these images, pixel centres at integers.
    captions: M short texts, told above the faces.
    """
    rows = -(-len(images) // COLUMNS)
    face = CELL * images.shape[1] / images.shape[2]  # inches high
    row, foot = face + 0.24, 0.32  # with its caption; the legend below all
    width, height = COLUMNS * CELL, rows * row + foot
    figure = Figure(figsize=(width, height))
    for place, (image, given, true, caption) in enumerate(zip(images, predicted, truth, captions, strict=True)):
        left, bottom = place % COLUMNS * CELL, foot + (rows - 1 - place // COLUMNS) * row
        axes = figure.add_axes((left / width, bottom / height, (CELL - 0.04) / width, (face - 0.04) / height))
        axes.imshow(image, interpolation="antialiased")
        gaps = np.full_like(true, np.nan)  # one line with gaps is drawn many times faster than one for each landmark
        axes.plot(*np.stack([true, given, gaps], 1).reshape(-1, 2).T, color=PREDICTED, linewidth=0.6, alpha=0.8)
        axes.plot(*true.T, "o", markersize=2.6, color=TRUTH, markeredgecolor="black", markeredgewidth=0.4)
        axes.plot(*given.T, "o", markersize=2.0, color=PREDICTED, markeredgewidth=0)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))  # a point outside moves nothing
        axes.set_axis_off()
        axes.set_title(caption, fontsize=9, pad=3)
    signs = [
        Line2D([], [], linestyle="", marker="o", markersize=6, color=TRUTH, markeredgecolor="black", label="truth"),
        Line2D([], [], linestyle="", marker="o", markersize=5, color=PREDICTED, label="prediction"),
    ]
    figure.legend(handles=signs, loc="lower center", ncols=2, frameon=False, fontsize=9, borderaxespad=0.2)
    return figure


def training_curve(history: pd.DataFrame) -> Figure:
    """The course of a training; history: a row per epoch with `epoch`, `train/loss`, `lr` and, with a val split,
    `val/nme` in percent."""
    named = {"train/loss": ("training loss", PALETTE[0], 3), "val/nme": ("val NME (%)", PALETTE[1], 3)}
    named |= {"lr": ("learning rate", GREY, 1.4)}
    named = {key: what for key, what in named.items() if key in history}
    heights = [height for _, _, height in named.values()]
    figure = Figure(figsize=(6.4, 0.75 * sum(heights)), layout="constrained")
    panels = dict(zip(named, figure.subplots(len(named), 1, sharex=True, height_ratios=heights), strict=True))
    for key, (label, colour, _) in named.items():
        panels[key].plot(history["epoch"], history[key], color=colour, linewidth=1.6, marker=".", markersize=4)
        panels[key].set_ylabel(label)
        panels[key].set_yscale("linear" if key == "val/nme" else "log")
        bare(panels[key])
    if "val/nme" in history and history["val/nme"].notna().any():
        best = history.loc[history["val/nme"].idxmin()]
        panels["val/nme"].plot(best["epoch"], best["val/nme"], "o", color=PALETTE[1], markersize=7, fillstyle="none")
        panels["val/nme"].set_title(
            f"best: {best['val/nme']:.2f} % at epoch {best['epoch']:.0f}", fontsize=9, loc="right"
        )
    panels["lr"].set_xlabel("epoch")
    panels["lr"].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure
