"""Consistency of results: figures of the same faces in different files are computed again and compared.

metrics.json, ced.csv and faces.csv come from one array of errors, so each figure follows from the others, but for what
the rounding of the files may do to it.
"""

from collections.abc import Iterator

import numpy as np

from stages.metrics.results import Result
from stages.metrics.schema import Metrics

# Twice what rounding to six decimals does to a number in ced.csv (percent, or share). faces.csv has eight significant
# digits, so it is less than this share of a number there.
ROUNDING = 1e-6


def slack(error: float) -> float:
    """What the rounding may do to an error, or to the mean of errors, of about `error` percent."""
    return ROUNDING * (1 + error)


def area(nme: np.ndarray, share: np.ndarray, threshold: float) -> float:
    """The area under the steps (M,) of a CED up to `threshold`, in percent of the largest possible."""
    edges = np.append(nme[nme < threshold], threshold)
    return 100 * float((share[: len(edges) - 1] * np.diff(edges)).sum()) / threshold


def threshold_faults(entry: Metrics, nme: np.ndarray, share: np.ndarray) -> Iterator[str]:
    """Failure rates and AUC that differ from those of the CED (M,)."""
    for key, at in entry.at.items():
        threshold, failure_rate, interval, auc = 100 * float(key), at.fr, at.fr_ci95, at.auc
        tolerance = 100 * ROUNDING * (1 + 1 / threshold)  # of shares, in percent, and of edges up to the threshold
        if failure_rate is None or auc is None:
            yield f"fr_{key}, auc_{key}: null, yet there are {entry.n} faces"
            continue
        # rounding may have moved a face whose error equals the threshold across it
        highest, lowest = (
            100 * (1 - (share[nme <= threshold + offset] if len(share) else share)[-1:].sum())
            for offset in (-ROUNDING, ROUNDING)
        )
        if not lowest - tolerance <= failure_rate <= highest + tolerance:
            yield f"fr_{key}: is {failure_rate:.4f}, and by the CED {lowest:.4f}"
        if interval and not interval[0] - tolerance <= failure_rate <= interval[1] + tolerance:
            yield f"fr_{key}_ci95: [{interval[0]:.4f}, {interval[1]:.4f}] does not contain {failure_rate:.4f}"
        if abs(auc - area(nme, share, threshold)) > tolerance:
            yield f"auc_{key}: is {auc:.4f}, and the area under the CED {area(nme, share, threshold):.4f}"


def subset_faults(entry: Metrics, nme: np.ndarray, share: np.ndarray) -> Iterator[str]:
    """Contradictions in a subset's entry, or between it and the steps (M,) of its CED: `key: what is wrong`."""
    counts = share * entry.n
    if (np.diff(nme) < 0).any() or (np.diff(share) <= 0).any():  # errors may be equal to the last digit
        yield "ced: is not increasing"
        return
    if len(share) and (share[-1] > 1 + ROUNDING or np.abs(counts - counts.round()).max() > ROUNDING * (1 + entry.n)):
        yield f"ced: its shares are not those of {entry.n} faces"
        return
    if entry.n:
        yield from threshold_faults(entry, nme, share)
    predicted = int(counts[-1].round()) if len(counts) else 0
    if entry.nme is None:
        if entry.n and predicted == entry.n:
            yield "nme: null, yet every face has an error"
        return
    if predicted < entry.n or not entry.n:
        yield f"nme: is {entry.nme:.4f}, yet {entry.n - predicted} of {entry.n} faces have no error"
        return
    # whole faces, since the rounding of a share is multiplied by its error
    mean = float((nme * np.diff(counts.round(), prepend=0)).sum() / entry.n)
    if abs(entry.nme - mean) > slack(mean):
        yield f"nme: is {entry.nme:.4f}, and the CED's mean {mean:.4f}"
    if entry.nme_ci95:
        low, high = entry.nme_ci95
        if not nme[0] - slack(nme[0]) <= low <= high <= nme[-1] + slack(nme[-1]):
            yield f"nme_ci95: [{low:.4f}, {high:.4f}] is no interval within the errors {nme[0]:.4f} to {nme[-1]:.4f}"


def result_faults(result: Result) -> Iterator[str]:
    """All contradictions of one set of results: `subset: key: what is wrong`."""
    nothing = np.empty(0), np.empty(0)
    test = result.metrics["test"].n
    rows = result.faces.rows()
    for subset, entry in result.metrics.items():
        faults = list(subset_faults(entry, *result.ced.get(subset, nothing)))
        if entry.n > test:
            faults.append(f"n: is {entry.n}, and the whole test split has {test}")
        count = int(rows.get(subset, np.zeros(0)).sum())
        if count != entry.n:
            faults.append(f"n: is {entry.n}, and faces.csv has {count}")
        elif entry.nme is not None:
            mean = float(result.faces.nme[rows[subset]].mean())
            if not abs(entry.nme - mean) <= slack(mean):
                faults.append(f"nme: is {entry.nme:.4f}, and the mean of faces.csv {mean:.4f}")
        yield from (f"{subset}: {fault}" for fault in faults)
    for subset in sorted((result.ced.keys() | rows.keys()) - result.metrics.keys()):
        yield f"{subset}: not in metrics.json"
    predicted = {len(result.provenance.landmarks), len(result.details.landmarks), len(result.details.mean_face)}
    if len(predicted) > 1:
        yield "details.json: is of another number of landmarks than provenance.json"
