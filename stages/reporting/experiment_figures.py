"""The figures of an experiment's page, drawn from its details.json and history.csv as matplotlib Figures."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.metrics.intervals import MINIMUM_FACES
from stages.metrics.results import Result
from stages.metrics.schema import Bin, Calibration, Details, ExpectedErrors, Mean, Robustness
from stages.reporting.figures import GREY, PALETTE, plain_axes, training_curve

BLUE, ORANGE, LIGHT_BLUE, BLACK = PALETTE[0], PALETTE[1], PALETTE[5], PALETTE[6]
AXES = {"yaw": "yaw of the head, estimated (°)", "side": "side of the face box (px)", "visible": "landmarks visible"}
NUMBERED = 5  # of the worst landmarks


def experiment_figures(result: Result) -> dict[str, Callable[[], Figure]]:
    """What draws each figure, by its name, without those that the results have nothing for."""
    details = result.details
    figures = {
        "landmarks": lambda: landmark_figure(details, result.provenance.landmarks),
        "numbers": lambda: number_figure(details, result.provenance.landmarks),
    }
    if details.conditions:
        figures["conditions"] = lambda: conditions_figure(details.conditions)
    if details.calibration:
        figures["calibration"] = lambda: calibration_figure(details.calibration)
    if details.expected:
        figures["expected"] = lambda: expected_figure(details.expected)
    if details.robustness:
        figures["robustness"] = lambda: robustness_figure(details.robustness)
    if result.is_experiment and result.history is not None:
        figures["training"] = lambda: training_curve(result.history)
    return figures


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)


def _means(axes: Axes, x: Sequence[float], means: Sequence[Mean]) -> None:
    """Means as dots on a line, with their intervals as bars."""
    for position, mean in zip(x, means, strict=True):
        if mean.ci95:
            axes.plot([position, position], mean.ci95, color=BLACK, linewidth=1.4, zorder=1)
    axes.plot(x, _array([mean.nme for mean in means]), "o-", color=BLUE, linewidth=1.2, markersize=6, zorder=2)


def nme_label(means: Iterable[Mean]) -> str:
    """The label of an axis of means: which of them have an interval."""
    known = {mean.ci95 is not None for mean in means}
    interval = {True: ", with 95 % interval", False: f", 95 % interval from {MINIMUM_FACES} faces on"}
    return "NME (%)" + (interval[False not in known] if True in known else "")


def landmark_figure(details: Details, landmarks: Sequence[int]) -> Figure:
    """NME per landmark on the mean face, and per group with its interval; landmarks: the dataset's numbers of them."""
    nme = _array(details.landmarks)
    shape = np.array([(np.nan, np.nan) if point is None else point for point in details.mean_face])
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    face, bars = figure.subplots(1, 2, width_ratios=(1.25, 1))
    dots = face.scatter(*shape.T, c=nme, cmap="cividis_r", s=42, edgecolors=BLACK, linewidths=0.4, vmin=0)
    for i in np.argsort(-nme, kind="stable")[:NUMBERED]:
        if np.isfinite(nme[i]):
            face.annotate(f"{landmarks[i]}", shape[i], xytext=(5, 3), textcoords="offset points", fontsize=8)
    face.invert_yaxis()
    face.set_aspect("equal")
    face.set_axis_off()
    face.set_title(f"on the mean face; the {NUMBERED} worst are numbered", fontsize=9)
    figure.colorbar(dots, ax=face, label="NME (%)", shrink=0.8)
    for position, group in enumerate(details.groups.values()):
        if group.nme is not None:
            bars.barh(position, group.nme, color=LIGHT_BLUE, height=0.62)
        if group.ci95:
            bars.plot(group.ci95, [position, position], color=BLACK, linewidth=1.4)
    labels = [f"{name} ({details.group_sizes[name]})" for name in details.groups]
    bars.set_yticks(range(len(labels)), labels)
    bars.invert_yaxis()
    bars.set_xlabel(nme_label(details.groups.values()))
    bars.set_title("by group (number of landmarks)", fontsize=9)
    plain_axes(bars)
    bars.grid(visible=False, axis="y")
    return figure


def number_figure(details: Details, landmarks: Sequence[int]) -> Figure:
    """The mean face with the dataset's number of every landmark at its place, in the colour of its error."""
    nme = _array(details.landmarks)
    figure = Figure(figsize=(8.4, 7.6), layout="constrained")
    axes = figure.subplots()
    known = [i for i, point in enumerate(details.mean_face) if point is not None]
    shape = np.array([details.mean_face[i] for i in known], float).reshape(-1, 2)
    dots = axes.scatter(*shape.T, c=nme[known], cmap="cividis_r", s=18, edgecolors=BLACK, linewidths=0.3, vmin=0)
    for i, point in zip(known, shape, strict=True):
        axes.annotate(f"{landmarks[i]}", point, xytext=(3, 3), textcoords="offset points", fontsize=7)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_axis_off()
    figure.colorbar(dots, ax=axes, label="NME (%)", shrink=0.6)
    return figure


def bin_label(condition: str, bin: Bin) -> str:
    """`30–45`; `all` of the landmarks visible."""
    if condition == "visible":
        return "all" if bin.high is None or bin.low >= 1 else f"{100 * bin.low:.0f}–{100 * bin.high:.0f} %"
    return f"{bin.low:.0f}–{bin.high:.0f}"


def conditions_figure(conditions: Mapping[str, Sequence[Bin]]) -> Figure:
    """The error by yaw, size and visibility: a panel each, the mean of every bin with its interval."""
    figure = Figure(figsize=(3.7 * len(conditions), 3.6), layout="constrained")
    panels = figure.subplots(1, len(conditions), squeeze=False, sharey=True)[0]
    for axes, (condition, bins) in zip(panels, conditions.items(), strict=True):
        _means(axes, range(len(bins)), bins)
        labels = [f"{bin_label(condition, bin)}\nn {bin.n}" for bin in bins]
        axes.set_xticks(range(len(bins)), labels, fontsize=7)
        axes.set_xlabel(AXES[condition])
        axes.set_ylim(bottom=0)
        plain_axes(axes)
    panels[0].set_ylabel(nme_label([bin for bins in conditions.values() for bin in bins]))
    return figure


def calibration_figure(calibration: Calibration) -> Figure:
    """Left, the reliability curve of landmarks; right, the risk–coverage curve of faces."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    scores = [bin.score for bin in calibration.reliability]
    for field, label, colour, dash in (("error", "mean", BLUE, "-"), ("median", "median", ORANGE, "--")):
        errors = _array([getattr(bin, field) for bin in calibration.reliability])
        left.plot(scores, errors, "o", linestyle=dash, color=colour, markersize=5, label=label)
    left.set(xlabel="score (peak of the heat map), tenths of the landmarks", ylabel="error (%)")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    share = 100 * np.array(calibration.rejected)
    right.plot(share, _array(calibration.nme_left), color=BLUE, label="lowest confidence first")
    best = _array(calibration.nme_left_at_best)
    right.plot(share, best, "--", color=ORANGE, label="worst first (the best possible)")
    whole = calibration.nme_left[0]
    if whole is not None:
        right.axhline(whole, color=GREY, linestyle=":", label="at random")
    right.set(xlabel="faces rejected (%)", ylabel="NME of the rest (%)", xlim=(0, share[-1]))
    right.set_ylim(bottom=0)
    right.legend(frameon=False, loc="lower left")
    for axes in (left, right):
        plain_axes(axes)
    return figure


def expected_figure(expected: ExpectedErrors) -> Figure:
    """Left, expected error against error; right, the coverage of the 90 % bound by group."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = [(bin.expected, bin.error) for bin in expected.bins]
    most = 1.05 * max(max(pair) for pair in values)
    left.plot([0, most], [0, most], ":", color=GREY, label="as expected")
    left.plot(*zip(*values, strict=True), "o-", color=BLUE, markersize=5, label="tenths of the landmarks")
    left.set(xlabel="expected error (%)", ylabel="error (%)", xlim=(0, most), ylim=(0, most))
    left.legend(frameon=False)
    names = [*expected.groups, "all"]
    right.barh(names, [100 * covered for covered in (*expected.groups.values(), expected.covered)], color=LIGHT_BLUE)
    right.axvline(90, color=BLACK, linestyle=":")
    right.invert_yaxis()
    right.set(xlabel="errors below the 90 % bound (%)", xlim=(0, 100))
    for axes in (left, right):
        plain_axes(axes)
    right.grid(visible=False, axis="y")
    return figure


def robustness_figure(robustness: Robustness) -> Figure:
    """The NME by perturbation of the face box, the mean over faces with its interval."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    curves = (
        (robustness.shift, False, "box shifted, any direction (% of its side)"),
        (robustness.scale, True, "box scaled (% of its side)"),
    )
    for axes, (perturbations, signed, label) in zip(panels, curves, strict=True):
        by = [perturbation.by for perturbation in perturbations]
        _means(axes, by, perturbations)
        axes.set_xticks(by, [f"{percent:+d}" if signed and percent else f"{percent}" for percent in by])
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
        plain_axes(axes)
    panels[0].set_ylabel(nme_label([*robustness.shift, *robustness.scale]))
    return figure
