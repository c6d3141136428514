"""What a reader must know before trusting a figure: remarks on a result, for the terminal and the pages."""

import numpy as np

from stages.metrics.intervals import mean_interval
from stages.metrics.provenance_schema import SubmissionFacts
from stages.metrics.results import Result

SEED = 1
CAUSES = (
    "Usual causes: too few epochs, wrong flip pairs, images and landmarks that are not turned the same way (EXIF), "
    "face boxes that do not fit the faces."
)


def against_baseline(nme: np.ndarray, baseline: np.ndarray) -> dict | None:
    """The mean difference of the faces' NMEs (N,) from those of the mean-shape baseline (N,), in percent.

    Paired, over the faces for which both have a prediction. `worse` where it is not below zero (or there is no such
    face), `not significantly better` where its 95 % interval is not. None where there is no baseline: each face has a
    landmark that no training face has.
    """
    if not np.isfinite(baseline).any():
        return None
    finite = np.isfinite(nme) & np.isfinite(baseline)
    difference = (nme - np.where(finite, baseline, 0))[finite]
    if not len(difference):
        return {"difference": None, "ci95": None, "verdict": "worse"}
    mean, interval = float(difference.mean()), mean_interval(difference, SEED)
    verdict = "worse" if mean >= 0 else "not significantly better" if interval and interval[1] >= 0 else "better"
    return {"difference": mean, "ci95": interval, "verdict": verdict}


def baseline_remark(verdict: str | None, nme: float | None, baseline: float | None) -> str:
    """In words, unless the model is better. nme, baseline: of the test split in percent; None: not finite.

    verdict: of `against_baseline`; None, where it was not recorded: by the two figures alone.
    """
    if baseline is None:
        return ""
    if verdict is None:
        verdict = "worse" if nme is not None and nme >= baseline else "better"
    if verdict == "better":
        return ""
    figures = f"({'∞' if nme is None else f'{nme:.2f} %'} against {baseline:.2f} %)"
    nothing = ": it has learned nothing that helps" if verdict == "worse" else ""
    return f"{verdict} than the mean-shape baseline {figures}{nothing}"


def seen_remark(seen: int | None, n: int) -> str:
    """seen: how many of the n test faces are of images that the model was trained on; None: unknown."""
    if not seen:
        return ""
    return f"{seen} of {n} test faces are of images that the model was trained on: optimistic"


def left_out_remark(left_out: int, n: int) -> str:
    """left_out: how many faces of the test split cannot be measured, beside the n that are."""
    if not left_out:
        return ""
    return f"{left_out} of {left_out + n} faces are left out, which lack the normaliser or all of these landmarks"


def contaminated_remark(submission: SubmissionFacts | None) -> str:
    """submission: what is known of somebody else's predictions; None for our own."""
    if submission is None or not submission.seen_test_faces:
        return ""
    return "trained on faces of this test split, so this is no measure of its accuracy"


def remarks(result: Result) -> list[str]:
    """All that apply to a result."""
    test, details = result.metrics["test"], result.details
    verdict = details.mean_shape and details.mean_shape.verdict
    found = (
        baseline_remark(verdict, test.nme, test.nme_mean_shape),
        seen_remark(result.provenance.seen_in_training, test.n),
        left_out_remark(len(details.left_out), test.n),
        contaminated_remark(result.provenance.submission),
        *(result.provenance.submission.warnings if result.provenance.submission else ()),
    )
    return [remark for remark in found if remark]
