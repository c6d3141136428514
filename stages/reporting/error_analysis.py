"""The error analysis of experiments, one row each, for the results page; their own pages have more."""

from collections.abc import Sequence

from stages.metrics.results import Result
from stages.metrics.schema import Bin
from stages.reporting.tables import NOTHING, correlation, error, markdown_table, mean_error

LEGEND = """\
P90, P99: 90 and 99 % of the faces have at most this error. Smallest- and largest-yaw bin: the faces nearest to frontal
and to profile, the yaw being estimated from the true landmarks. Spearman ρ: the rank correlation over faces of the
error with the confidence (the peak of the heat maps), its sign turned: 1 where the confidence ranks the errors
perfectly. NME at 90 % coverage: with 10 % of the faces rejected, lowest confidence first (risk–coverage). NME,
perturbed boxes: the mean over face boxes shifted by 5 to 15 % of their side or scaled by 10 or 20 %.
"""
HEADER = ("experiment", "P90", "P99", "worst group", "smallest-yaw bin", "largest-yaw bin",
          "Spearman ρ (confidence, error)", "NME at 90 % coverage", "NME, perturbed boxes")  # fmt: skip


def _yaw_bin(bins: Sequence[Bin], index: int) -> str:
    """`6.2 (0–10°, n 120)`"""
    if not bins:
        return NOTHING
    bin = bins[index]
    return f"{mean_error(bin.nme)} ({bin.low:.0f}–{bin.high or 90:.0f}°, n {bin.n})"


def _row(result: Result) -> tuple[str, ...]:
    details = result.details
    percentiles = details.percentiles["test"]
    worst = max(details.groups.items(), key=lambda group: float("inf") if group[1].nme is None else group[1].nme,
                default=None)  # fmt: skip
    yaw = details.conditions.get("yaw", [])
    calibration = details.calibration
    nme_left = dict(zip(calibration.rejected, calibration.nme_left, strict=True)) if calibration else {}
    return (
        f"[{result.name}](pages/{result.name}.md)",
        *(error(percentiles.get(p)) for p in ("90", "99")),
        f"{worst[0]} {mean_error(worst[1].nme)}" if worst else NOTHING,
        _yaw_bin(yaw, 0),
        _yaw_bin(yaw, -1),
        correlation(calibration.rank_correlation_faces) if calibration else NOTHING,
        error(nme_left.get(0.1)) if calibration else NOTHING,
        mean_error(details.robustness.mean.nme) if details.robustness else NOTHING,
    )


def table(experiments: Sequence[Result]) -> str:
    """The experiments of one dataset under one normaliser, and what the columns are."""
    return f"{markdown_table(HEADER, [_row(result) for result in experiments])}\n{LEGEND}"
