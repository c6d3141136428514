"""Tables and figures of faces, errors and runs for the notebooks. No stage uses this.

Symbols: N faces, K landmarks, M values. Figures are matplotlib Figures, as in figures.py. A value that is NaN, as of a
landmark that is not annotated, is left out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from stages.data.faces import Faces
from stages.metrics.breakdown import PERCENTILES
from stages.metrics.summary import ced
from stages.reporting.figures import GREY, PALETTE, styles
from stages.reporting.gallery import CELL, COLUMNS
from stages.system.errors import refuse

TAGS = ("data", "code", "initial_weights", "lock", "device")  # of a run: hashes, and the device it ran on
LABELLED = 5  # of the highest values on a mean face

# ---- tables


def face_counts(splits: Mapping[str, Faces]) -> pd.DataFrame:
    """How many faces each split (a column) and each subset of it (a row) has."""
    names = sorted({name for faces in splits.values() for row in faces.subsets for name in row})
    rows = {"all faces": {split: len(faces) for split, faces in splits.items()}}
    rows |= {
        name: {split: sum(name in row for row in faces.subsets) for split, faces in splits.items()} for name in names
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def error_summary(groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Number, mean and percentiles of the errors of each group (a row); the errors are arrays of any shape."""
    rows = {}
    for name, errors in groups.items():
        errors = errors[~np.isnan(errors)]
        rows[name] = {"n": errors.size}
        if errors.size:
            values = np.percentile(errors, PERCENTILES, method="inverted_cdf")
            percentiles = {f"P{p}": value for p, value in zip(PERCENTILES, values, strict=True)}
            rows[name] |= {"mean": errors.mean()} | percentiles
    return pd.DataFrame.from_dict(rows, orient="index")


def binned_quartiles(x: np.ndarray, y: np.ndarray, count: int = 10) -> pd.DataFrame:
    """Quartiles of y in bins of about equally many values of x: per bin a row with n, mean x, and P25, P50, P75 of y.

    x, y: (M,). Equal values of x stay in one bin, so there may be fewer than `count`.
    """
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    edges = np.unique(np.quantile(x, np.linspace(0, 1, count + 1))) if len(x) else np.empty(0)
    index = np.searchsorted(edges[1:-1], x, side="right")
    rows = []
    for i in np.unique(index):
        inside = index == i
        low, median, high = np.percentile(y[inside], (25, 50, 75), method="inverted_cdf")
        rows.append({"n": inside.sum(), "x": x[inside].mean(), "P25": low, "P50": median, "P75": high})
    return pd.DataFrame(rows, columns=["n", "x", "P25", "P50", "P75"])


def finished_runs(runs: pd.DataFrame, experiments: Sequence[str]) -> pd.DataFrame:
    """The finished runs of some experiments, newest first, by run name; runs: as of `mlflow.search_runs`.

    Raises `InputError` for an experiment without one.
    """
    if "tags.experiment" in runs:
        runs = runs[runs["status"] == "FINISHED"].sort_values("start_time", ascending=False)
    known = set(runs.get("tags.experiment", ()))
    refuse(
        [f"experiment {name}: no finished run" for name in experiments if name not in known],
        f"MLflow's runs (of {', '.join(sorted(known)) or 'no experiment'})",
        "Run dvc repro, then python -m stages.log_restored, which logs what DVC restored from its cache.",
    )
    return runs[runs["tags.experiment"].isin(experiments)].set_index("tags.mlflow.runName")


def differing_parameters(runs: pd.DataFrame) -> pd.DataFrame:
    """The parameters and TAGS in which the runs (as of `finished_runs`) differ: rows; a column per run."""
    tags = {f"tags.{tag}" for tag in TAGS}
    columns = runs[[name for name in runs if name.startswith("params.") or name in tags]]
    differing = columns.loc[:, columns.nunique(dropna=False) > 1]
    return differing.rename(columns=lambda name: name.removeprefix("params.").removeprefix("tags.")).T


# ---- figures


def pixels(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(M, h, w, 3) uint8 RGB of the network's input (M, 3, h, w), which is normalised by `mean` (3,) and `std` (3,)."""
    unnormalised = images * np.reshape(std, (1, 3, 1, 1)) + np.reshape(mean, (1, 3, 1, 1))
    return np.rint(255 * unnormalised.clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)


def _axes(width: float, height: float):
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _log(axis) -> None:
    """A logarithmic axis with plain numbers, dense enough for less than a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def group_colours(groups: Mapping[str, Sequence[int]], count: int) -> list[str]:
    """A colour for each of `count` landmarks, the same within a group; grey for those of no group."""
    colours = [GREY] * count
    for i, group in enumerate(groups.values()):
        for landmark in group:
            colours[landmark] = PALETTE[i % len(PALETTE)]
    return colours


def annotated_faces(
    images: np.ndarray,
    points: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    captions: Sequence[str],
    visible: np.ndarray | None = None,
) -> Figure:
    """Faces four in a row with their landmarks, a colour for each group; hollow where `visible` (M, K) is False.

    images: (M, h, w, 3) uint8 RGB. points: (M, K, 2) px of these images; NaN is not drawn.
    """
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * CELL, rows * (CELL + 0.25)), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    colours = group_colours(groups, points.shape[1])
    visible = np.ones(points.shape[:2], bool) if visible is None else visible
    for axes, image, face, filled, caption in zip(panels, images, points, visible, captions, strict=False):
        fill = [colour if fill else "none" for colour, fill in zip(colours, filled, strict=True)]
        axes.imshow(image, interpolation="antialiased")
        axes.scatter(*face.T, s=7, c="white", linewidths=0)  # a rim, so that dark dots are visible on dark hair
        axes.scatter(*face.T, s=5, c=fill, edgecolors=colours, linewidths=0.6)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        axes.set_title(caption, fontsize=9, pad=3)
    for axes in panels:
        axes.set_axis_off()
    markers = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colours[group[0]], label=name)
        for name, group in groups.items()
        if group
    ]
    figure.legend(handles=markers, loc="outside lower center", ncols=max(len(markers), 1), frameon=False, fontsize=9)
    return figure


def cumulative_distribution(splits: Mapping[str, np.ndarray], label: str) -> Figure:
    """The share of faces up to each value, for each split; unlike a histogram it needs no bins."""
    figure, axes = _axes(6.4, 3.4)
    style = styles(splits)
    for split, values in splits.items():
        colour, dash = style[split]
        values = values[~np.isnan(values)]
        x, share = ced(values)
        legend = f"{split} ({len(values)})"
        axes.step(x, 100 * share, where="post", color=colour, linestyle=dash, linewidth=1.6, label=legend)
    axes.set(xlabel=label, ylabel="faces up to this (%)")
    axes.legend(frameon=False)
    return figure


def mean_face(shape: np.ndarray, values: np.ndarray, label: str) -> Figure:
    """A value of each landmark (K,) at its position in the shape (K, 2); the highest are labelled by their number."""
    figure, axes = _axes(6.0, 5.0)
    values = np.where(np.isfinite(values), values, np.nan)  # those are not drawn
    size = 20 + 100 * values / np.nanmax(values)  # redundant with the colour
    dots = axes.scatter(*shape.T, s=size, c=values, cmap="cividis_r", edgecolors="black", linewidths=0.5)
    for landmark in np.argsort(-values)[: min(LABELLED, np.isfinite(values).sum())]:
        axes.annotate(str(landmark), shape[landmark], (6, 5), textcoords="offset points", fontsize=8)
    axes.set(aspect="equal")
    axes.invert_yaxis()
    axes.margins(0.08)
    axes.set_axis_off()
    figure.colorbar(dots, label=label, shrink=0.8)
    return figure


def error_scatter(x: np.ndarray, error: np.ndarray, label: str, what: str = "NME (%)") -> Figure:
    """Errors (M,) against what may explain them, x (M,): dots, and per bin of x the median and interquartile range."""
    figure, axes = _axes(6.4, 3.8)
    line = binned_quartiles(x, error)
    axes.plot(x, error, ".", color=GREY, markersize=3, alpha=min(1.0, 0.5 * (600 / len(x)) ** 0.5), linewidth=0)
    axes.fill_between(line["x"], line["P25"], line["P75"], color=PALETTE[0], alpha=0.25, linewidth=0)
    axes.plot(line["x"], line["P50"], color=PALETTE[0], marker="o", markersize=4)
    positive = error[np.isfinite(error) & (error > 0)]
    limits = np.quantile(positive, 0.005) / 1.1, positive.max() * 1.1
    axes.set(xlabel=label, ylabel=what, yscale="log", ylim=limits)
    _log(axes.yaxis)
    return figure


def paired_scatter(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> Figure:
    """The NME of each face (N,) in percent, one experiment against the other; below the line the second is better."""
    figure, axes = _axes(4.8, 4.8)
    errors = np.concatenate([first, second])
    errors = errors[np.isfinite(errors) & (errors > 0)]
    limits = errors.min() / 1.1, errors.max() * 1.1
    axes.plot(limits, limits, color=GREY, linewidth=1)
    axes.plot(first, second, ".", color=PALETTE[0], markersize=4, alpha=0.6)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel=f"NME of {names[0]} (%)", ylabel=f"NME of {names[1]} (%)")
    better = 100 * np.mean(second < first)
    axes.set_title(f"below the line, where {names[1]} is better: {better:.0f} % of faces", fontsize=9)
    _log(axes.xaxis)
    _log(axes.yaxis)
    return figure


def training_curves(histories: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> Figure:
    """A panel per metric, and in it a line per run: its (epoch, value) pairs."""
    figure = Figure(figsize=(6.4, 2.6 * len(histories)), layout="constrained")
    panels = figure.subplots(len(histories), 1, sharex=True, squeeze=False)[:, 0]
    style = styles(run for runs in histories.values() for run in runs)
    for axes, (metric, runs) in zip(panels, histories.items(), strict=True):
        for run, pairs in runs.items():
            colour, dash = style[run]
            axes.plot(*np.array(sorted(pairs)).reshape(-1, 2).T, color=colour, linestyle=dash, label=run)
        axes.set(ylabel=metric, yscale="log")
        axes.spines[["top", "right"]].set_visible(False)
        _log(axes.yaxis)
    panels[0].legend(frameon=False, fontsize=8)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
