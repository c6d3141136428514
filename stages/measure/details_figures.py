"""The figures of an experiment's page, drawn from details.json. All return a matplotlib Figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from stages.measure.figures import GREY, bare

BLACK = "#000000"
AXES = {"yaw": "turn of the head, estimated (°)", "side": "side of the face box (px)", "visible": "landmarks visible"}
NUMBERED = 5  # of the worst landmarks


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)


def landmark_figure(shape: np.ndarray, details: Mapping) -> Figure:
    """NME per landmark on the mean face (K, 2; y down), and per group with its interval."""
    nme = _numbers(details["landmarks"])
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    face, bars = figure.subplots(1, 2, width_ratios=(1.25, 1))
    dots = face.scatter(*shape.T, c=nme, cmap="cividis_r", s=42, edgecolors=BLACK, linewidths=0.4, vmin=0)
    for i in np.argsort(-nme, kind="stable")[:NUMBERED]:
        if np.isfinite(nme[i]):
            face.annotate(f"{i}", shape[i], xytext=(5, 3), textcoords="offset points", fontsize=8)
    face.invert_yaxis()
    face.set_aspect("equal")
    face.set_axis_off()
    face.set_title(f"on the mean face; the {NUMBERED} worst are numbered", fontsize=9)
    figure.colorbar(dots, ax=face, label="NME (%)", shrink=0.8)
    names = list(details["groups"])
    for place, name in enumerate(names):
        group = details["groups"][name]
        if group["nme"] is not None:
            bars.barh(place, group["nme"], color="#56B4E9", height=0.62)
        if group["ci95"]:
            bars.plot(group["ci95"], [place, place], color=BLACK, linewidth=1.4)
    bars.set_yticks(range(len(names)), [f"{name} ({details['group_sizes'][name]})" for name in names])
    bars.invert_yaxis()
    bars.set_xlabel("NME (%), with 95 % interval")
    bars.set_title("by group (landmarks in it)", fontsize=9)
    bare(bars)
    bars.grid(visible=False, axis="y")
    return figure


def bin_label(name: str, low: float, high: float | None) -> str:
    """A bin as a reader says it: `30–45`; `all` of the landmarks visible."""
    if name == "visible":
        return "all" if high is None or low >= 1 else f"{100 * low:.0f}–{100 * high:.0f} %"
    return f"{low:.0f}–{high:.0f}"


def conditions_figure(conditions: Mapping[str, Sequence[Mapping]]) -> Figure:
    """The error against yaw, size and occlusion: a panel each, the mean of every bin with its interval."""
    figure = Figure(figsize=(3.7 * len(conditions), 3.6), layout="constrained")
    panels = figure.subplots(1, len(conditions), squeeze=False, sharey=True)[0]
    for axes, (name, bins) in zip(panels, conditions.items(), strict=True):
        nme = _numbers([each["nme"] for each in bins])
        for place, each in enumerate(bins):
            if each["ci95"]:
                axes.plot([place, place], each["ci95"], color=BLACK, linewidth=1.4, zorder=1)
        axes.plot(range(len(bins)), nme, "o-", color="#0072B2", linewidth=1.2, markersize=6, zorder=2)
        labels = [f"{bin_label(name, each['low'], each['high'])}\nn {each['n']}" for each in bins]
        axes.set_xticks(range(len(bins)), labels, fontsize=7)
        axes.set_xlabel(AXES[name])
        axes.set_ylim(bottom=0)
        bare(axes)
    panels[0].set_ylabel("NME (%), with 95 % interval")
    return figure


def calibration_figure(found: Mapping) -> Figure:
    """Left, the error of landmarks by score; right, the NME of the faces left when the least certain are put aside."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    score = [each["score"] for each in found["reliability"]]
    for key, colour, dash in (("error", "#0072B2", "-"), ("median", "#D55E00", "--")):
        values = _numbers([each[key] for each in found["reliability"]])
        left.plot(score, values, "o", linestyle=dash, color=colour, markersize=5, label={"error": "mean"}.get(key, key))
    left.set(xlabel="score (peak of the heat map), tenths of the landmarks", ylabel="error (%)")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    share = 100 * np.array(found["rejected"])
    right.plot(share, _numbers(found["nme_left"]), color="#0072B2", label="least certain first")
    right.plot(
        share, _numbers(found["nme_left_at_best"]), "--", color="#D55E00", label="worst first (the best possible)"
    )
    whole = found["nme_left"][0]
    if whole is not None:
        right.axhline(whole, color=GREY, linestyle=":", label="at random")
    right.set(xlabel="faces put aside (%)", ylabel="NME of the rest (%)", xlim=(0, share[-1]))
    right.set_ylim(bottom=0)
    right.legend(frameon=False, loc="lower left")
    for axes in (left, right):
        bare(axes)
    return figure


def robustness_figure(found: Mapping) -> Figure:
    """The NME against how far the face box is displaced, the mean over faces with its interval."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    told = {"shift": "box shifted, any direction (% of its side)", "scale": "box scaled (% of its side)"}
    for axes, (kind, label) in zip(panels, told.items(), strict=True):
        by = [each["by"] for each in found[kind]]
        for each in found[kind]:
            if each["ci95"]:
                axes.plot([each["by"]] * 2, each["ci95"], color=BLACK, linewidth=1.4, zorder=1)
        nme = _numbers([each["nme"] for each in found[kind]])
        axes.plot(by, nme, "o-", color="#0072B2", linewidth=1.2, markersize=6, zorder=2)
        axes.set_xticks(by, [f"{each:+d}" if kind == "scale" and each else f"{each}" for each in by])
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
        bare(axes)
    panels[0].set_ylabel("NME (%), with 95 % interval")
    return figure
