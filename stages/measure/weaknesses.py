"""Where experiments fail, one row each, for the results page; the pages of the experiments say more."""

from collections.abc import Sequence

from stages.measure.cells import NOTHING, decimals, number, table
from stages.measure.results import Bin, Experiment, Group

ABOUT = """\
P90 and P99: 90 and 99 % of the faces have at most this error. Turned aside: the heads that look to the camera and those
that look away furthest, the turn being estimated from the true landmarks. Score and error: the rank correlation, over
faces, of the heat maps' peaks with the error; then the NME when the 10 % least certain faces are put aside. Box off:
the mean NME from face boxes that are shifted by 5 to 15 % of their side or scaled by 10 or 20 %. Each name leads to the
experiment's own page.
"""


def _cell(found: Bin | Group) -> str:
    return "∞" if found.nme is None else number(found.nme, decimals(found.ci95))


def _turned(bins: Sequence[Bin], which: int) -> str:
    """The error of the first or of the last bin of yaw: `6.2 (0–10°, n 120)`."""
    if not bins:
        return NOTHING
    found = bins[which]
    return f"{_cell(found)} ({found.low:.0f}–{found.high or 90:.0f}°, n {found.n})"


def section(experiments: Sequence[Experiment]) -> str:
    """A section's experiments that have been analysed."""
    rows = []
    for each in experiments:
        told = each.details
        if told is None:
            continue
        places = decimals(each.metrics["test"].nme_ci95)
        whole = told.percentiles["test"]
        beyond = [number(whole.get(p), places) for p in ("90", "99")]
        worst = max(told.groups.items(), key=lambda item: float("inf") if item[1].nme is None else item[1].nme,
                    default=None)  # fmt: skip
        turned = told.conditions.get("yaw", [])
        left = dict(zip(told.calibration.rejected, told.calibration.nme_left, strict=True)).get(0.1)
        rows.append((
            f"[{each.name}](experiments/{each.name}/README.md)", *beyond,
            f"{worst[0]} {_cell(worst[1])}" if worst else NOTHING, _turned(turned, 0), _turned(turned, -1),
            number(told.calibration.rank_correlation_faces, 2), number(left, places),
            _cell(told.robustness.mean) if told.robustness else NOTHING,
        ))  # fmt: skip
    if not rows:
        return ""
    header = ("experiment", "P90", "P99", "worst group", "facing the camera", "turned aside most", "score and error",
              "NME without 10 %", "NME, box off")  # fmt: skip
    return f"### Where they fail\n\n{table(header, rows)}\n{ABOUT}"
