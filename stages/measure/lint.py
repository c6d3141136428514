"""Results that cannot be: what the files of an experiment say of the same faces is computed again and compared.

metrics.json, ced.csv and faces.csv come from one array of errors, so each figure follows from the others.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from stages.errors import refuse
from stages.measure.results import Experiment, Metrics

ROUNDING = 1e-6  # of the numbers in ced.csv, percent or share
SLACK = 1e-3  # percent; what that rounding may do to a figure
THRESHOLDS = {"0.08": 8.0, "0.10": 10.0}


def area(nme: np.ndarray, share: np.ndarray, threshold: float) -> float:
    """The area under the steps (M,) of a CED up to `threshold`, in percent of the largest possible."""
    edges = np.append(nme[nme < threshold], threshold)
    return 100 * float((share[: len(edges) - 1] * np.diff(edges)).sum()) / threshold


def subset_faults(entry: Metrics, nme: np.ndarray, share: np.ndarray) -> Iterator[str]:
    """What of a subset's entry contradicts itself or the steps (M,) of its CED: `key: what is wrong`."""
    counts = share * entry.n
    if (np.diff(nme) < 0).any() or (np.diff(share) <= 0).any():  # of many faces, some errors agree to the last digit
        yield "ced: does not rise"
        return
    if len(share) and (share[-1] > 1 + ROUNDING or np.abs(counts - counts.round()).max() > ROUNDING * entry.n + SLACK):
        yield f"ced: its shares are not those of {entry.n} faces"
        return
    answered = int(counts[-1].round()) if len(counts) else 0
    for key, t in THRESHOLDS.items():
        failed, covered = (getattr(entry, f"{name}_{key.replace('.', '')}") for name in ("fr", "auc"))
        if entry.n == 0:
            continue
        if failed is None or covered is None:
            yield f"fr_{key}, auc_{key}: nothing, yet there are {entry.n} faces"
            continue
        # a face whose error is the threshold to the last digit may have been rounded over it
        most, least = (100 * (1 - (share[nme <= t + off] if len(share) else share)[-1:].sum()) for off in
                       (-ROUNDING, ROUNDING))  # fmt: skip
        if not least - SLACK <= failed <= most + SLACK:
            yield f"fr_{key}: is {failed:.4f}, and the CED leaves {least:.4f}"
        if abs(covered - area(nme, share, t)) > SLACK:
            yield f"auc_{key}: is {covered:.4f}, and the area under the CED {area(nme, share, t):.4f}"
    if entry.nme is None:
        if entry.n and answered == entry.n:
            yield "nme: nothing, yet every face has an error"
        return
    if answered < entry.n or not entry.n:
        yield f"nme: is {entry.nme:.4f}, yet {entry.n - answered} of {entry.n} faces have no error"
        return
    mean = float((nme * np.diff(counts, prepend=0)).sum() / entry.n)
    if abs(entry.nme - mean) > SLACK + ROUNDING * mean:
        yield f"nme: is {entry.nme:.4f}, and the CED's mean {mean:.4f}"
    if entry.nme_ci95:
        low, high = entry.nme_ci95
        if not nme[0] - SLACK <= low <= high <= nme[-1] + SLACK:
            yield f"nme_ci95: [{low:.4f}, {high:.4f}] is no interval within the errors {nme[0]:.4f} to {nme[-1]:.4f}"


def faults(experiment: Experiment) -> Iterator[str]:
    """All that cannot be: `experiment: subset: key: what is wrong`."""
    nothing = np.empty(0), np.empty(0)
    whole = experiment.metrics["test"].n
    rows = experiment.faces.rows() if experiment.faces else {}
    for subset, entry in experiment.metrics.items():
        found = list(subset_faults(entry, *experiment.ced.get(subset, nothing)))
        if entry.n > whole:
            found.append(f"n: is {entry.n}, and the whole test split has {whole}")
        if rows:
            count = int(rows.get(subset, np.zeros(0)).sum())
            if count != entry.n:
                found.append(f"n: is {entry.n}, and faces.csv has {count}")
            elif entry.nme is not None:
                mean = float(experiment.faces.nme[rows[subset]].mean())
                if not abs(entry.nme - mean) <= SLACK + ROUNDING * mean:
                    found.append(f"nme: is {entry.nme:.4f}, and the mean of faces.csv {mean:.4f}")
        yield from (f"{experiment.name}: {subset}: {fault}" for fault in found)
    for subset in (experiment.ced.keys() | rows.keys()) - experiment.metrics.keys():
        yield f"{experiment.name}: {subset}: not in metrics.json"


def check(experiments: Sequence[Experiment]) -> None:
    """Raise `InputError` naming the experiment, subset and key of every result that cannot be."""
    found = [fault for each in experiments for fault in faults(each)]
    refuse(found, "results that cannot be", "A file was changed by hand or is of another run: make these results again "
           "with `dvc repro --force evaluate@<experiment>`, or get them back with `git checkout`.")  # fmt: skip
