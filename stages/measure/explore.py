"""What the notebooks show of faces, errors and runs beyond what the report shows. No stage reads this.

Symbols: N faces, K landmarks, M values. Figures are matplotlib Figures, as in figures.py.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from stages.data.faces import Faces
from stages.errors import refuse
from stages.measure.figures import CELL, COLUMNS, GREY, PALETTE, styles
from stages.measure.metrics import ced

TAGS = ("data", "code", "lock", "device")  # of a run, beside its parameters: hashes of three, and what it ran on
NAMED = 5  # how many of the highest landmarks a mean face names

# ---- tables


def counts(splits: Mapping[str, Faces]) -> pd.DataFrame:
    """How many faces each split (a column) and each subset of it (a row) has."""
    names = sorted({name for faces in splits.values() for row in faces.subsets for name in row})
    rows = {"all faces": {split: len(faces) for split, faces in splits.items()}}
    rows |= {
        name: {split: sum(name in row for row in faces.subsets) for split, faces in splits.items()} for name in names
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def shapes(faces: Faces) -> np.ndarray:
    """(N, K, 2) landmarks from the middle of each face's box, in sides of the box."""
    return (faces.landmarks - faces.center[:, None]) / faces.side[:, None, None]


def spread(parts: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The number, mean and percentiles of the errors of each part (a row); the parts are arrays of any shape."""
    levels = (50, 90, 95, 99)
    rows = {}
    for name, errors in parts.items():
        rows[name] = {"n": errors.size}
        if errors.size:
            told = np.percentile(errors, levels, method="inverted_cdf")
            rows[name] |= {"mean": errors.mean()} | {f"P{p}": value for p, value in zip(levels, told, strict=True)}
    return pd.DataFrame.from_dict(rows, orient="index")


def bins(x: np.ndarray, y: np.ndarray, count: int = 10) -> pd.DataFrame:
    """y's quartiles over about equally many values of x: a row per bin with n, the mean of x, and P25, P50, P75 of y.

    x, y: (M,). Equal values of x stay in one bin, so there may be fewer than `count`.
    """
    edges = np.unique(np.quantile(x, np.linspace(0, 1, count + 1)))
    place = np.searchsorted(edges[1:-1], x, side="right")
    rows = []
    for each in np.unique(place):
        low, middle, high = np.percentile(y[place == each], (25, 50, 75), method="inverted_cdf")
        rows.append({"n": (place == each).sum(), "x": x[place == each].mean(), "P25": low, "P50": middle, "P75": high})
    return pd.DataFrame(rows)


def runs_of(runs: pd.DataFrame, experiments: Sequence[str]) -> pd.DataFrame:
    """The finished runs of some experiments, newest first, by run name; runs: as `mlflow.search_runs` gives them.

    Raises `InputError` for an experiment without one.
    """
    if "tags.experiment" in runs:
        runs = runs[runs["status"] == "FINISHED"].sort_values("start_time", ascending=False)
    known = set(runs.get("tags.experiment", ()))
    refuse(
        [f"experiment {name}: no finished run" for name in experiments if name not in known],
        f"MLflow's runs (it knows {', '.join(sorted(known)) or 'none'})",
        "Run dvc repro, then python -m stages.evaluate --log-restored, which enters what DVC's cache gave back.",
    )
    return runs[runs["tags.experiment"].isin(experiments)].set_index("tags.mlflow.runName")


def differing(runs: pd.DataFrame) -> pd.DataFrame:
    """The parameters, and the TAGS, in which the runs (as of `runs_of`) differ: a row each, a column a run."""
    shown = runs[[name for name in runs if name.startswith("params.") or name in {f"tags.{tag}" for tag in TAGS}]]
    several = shown.loc[:, shown.nunique(dropna=False) > 1]
    return several.rename(columns=lambda name: name.removeprefix("params.").removeprefix("tags.")).T


# ---- figures


def pixels(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(M, h, w, 3) uint8 RGB of what the network reads: (M, 3, h, w), `mean` (3,) taken out and divided by `std`."""
    shown = images * np.reshape(std, (1, 3, 1, 1)) + np.reshape(mean, (1, 3, 1, 1))
    return np.rint(255 * shown.clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)


def _axes(width: float, height: float):
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _log(axis) -> None:
    """Plain numbers, close enough for an axis that spans less than a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def colours(groups: Mapping[str, Sequence[int]], count: int) -> list[str]:
    """A colour for each of `count` landmarks, one a group; grey for those of no group."""
    found = [GREY] * count
    for place, group in enumerate(groups.values()):
        for landmark in group:
            found[landmark] = PALETTE[place % len(PALETTE)]
    return found


def annotated(
    images: np.ndarray,
    points: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    captions: Sequence[str],
    visible: np.ndarray | None = None,
) -> Figure:
    """Faces four in a row with their landmarks, a colour for each group; hollow where `visible` (M, K) says no.

    images: (M, h, w, 3) uint8 RGB. points: (M, K, 2) px of these images; NaN is not drawn.
    """
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * CELL, rows * (CELL + 0.25)), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    colour = colours(groups, points.shape[1])
    seen = np.ones(points.shape[:2], bool) if visible is None else visible
    for axes, image, face, shown, caption in zip(panels, images, points, seen, captions, strict=False):
        fill = [one if show else "none" for one, show in zip(colour, shown, strict=True)]
        axes.imshow(image, interpolation="antialiased")
        axes.scatter(*face.T, s=7, c="white", linewidths=0)  # a rim, so that dark dots show on dark hair
        axes.scatter(*face.T, s=5, c=fill, edgecolors=colour, linewidths=0.6)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        axes.set_title(caption, fontsize=9, pad=3)
    for axes in panels:
        axes.set_axis_off()
    signs = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colour[group[0]], label=name)
        for name, group in groups.items()
        if group
    ]
    figure.legend(handles=signs, loc="outside lower center", ncols=max(len(signs), 1), frameon=False, fontsize=9)
    return figure


def distribution(values: Mapping[str, np.ndarray], label: str) -> Figure:
    """The share of faces up to each value, for each split: no bins to choose, and splits of any size compare."""
    figure, axes = _axes(6.4, 3.4)
    style = styles(values)
    for name, each in values.items():
        colour, dash = style[name]
        x, share = ced(each)
        label_of = f"{name} ({len(each)})"
        axes.step(x, 100 * share, where="post", color=colour, linestyle=dash, linewidth=1.6, label=label_of)
    axes.set(xlabel=label, ylabel="faces up to this (%)")
    axes.legend(frameon=False)
    return figure


def mean_face(shape: np.ndarray, values: np.ndarray, label: str) -> Figure:
    """A value of each landmark (K,) drawn at its place in the shape (K, 2); the highest are named by their number."""
    figure, axes = _axes(6.0, 5.0)
    size = 20 + 100 * values / np.nanmax(values)  # a second sign beside the colour
    dots = axes.scatter(*shape.T, s=size, c=values, cmap="cividis_r", edgecolors="black", linewidths=0.5)
    for landmark in np.argsort(values)[::-1][:NAMED]:
        axes.annotate(str(landmark), shape[landmark], (6, 5), textcoords="offset points", fontsize=8)
    axes.set(aspect="equal")
    axes.invert_yaxis()
    axes.margins(0.08)
    axes.set_axis_off()
    figure.colorbar(dots, label=label, shrink=0.8)
    return figure


def against(x: np.ndarray, error: np.ndarray, label: str, what: str = "NME (%)") -> Figure:
    """Errors (M,) over what may explain them, x (M,): a dot each, and per bin of x the median and the middle half."""
    figure, axes = _axes(6.4, 3.8)
    line = bins(x, error)
    axes.plot(x, error, ".", color=GREY, markersize=3, alpha=min(1.0, 0.5 * (600 / len(x)) ** 0.5), linewidth=0)
    axes.fill_between(line["x"], line["P25"], line["P75"], color=PALETTE[0], alpha=0.25, linewidth=0)
    axes.plot(line["x"], line["P50"], color=PALETTE[0], marker="o", markersize=4)
    told = error[np.isfinite(error) & (error > 0)]
    axes.set(xlabel=label, ylabel=what, yscale="log", ylim=(np.quantile(told, 0.005) / 1.1, told.max() * 1.1))
    _log(axes.yaxis)
    return figure


def paired(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> Figure:
    """The NME of each face (N,) in percent, one experiment against the other; below the line the second is better."""
    figure, axes = _axes(4.8, 4.8)
    told = np.concatenate([first, second])
    told = told[np.isfinite(told) & (told > 0)]
    reach = told.min() / 1.1, told.max() * 1.1
    axes.plot(reach, reach, color=GREY, linewidth=1)
    axes.plot(first, second, ".", color=PALETTE[0], markersize=4, alpha=0.6)
    axes.set(xscale="log", yscale="log", xlim=reach, ylim=reach, aspect="equal")
    axes.set(xlabel=f"NME of {names[0]} (%)", ylabel=f"NME of {names[1]} (%)")
    better = 100 * np.mean(second < first)
    axes.set_title(f"below the line, where {names[1]} is better: {better:.0f} % of faces", fontsize=9)
    _log(axes.xaxis)
    _log(axes.yaxis)
    return figure


def courses(histories: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> Figure:
    """How trainings went: for each metric a panel, and in it for each run its (epoch, value) pairs as a line."""
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
