"""The table of a section, one row per experiment, as a paper has it; Markdown here, LaTeX in latex.py."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from stages.reporting.comparisons import Tests
from stages.reporting.entries import Entry
from stages.reporting.published import Published, matching_subset
from stages.reporting.tables import (
    NOTHING,
    SPACE,
    at,
    at_threshold,
    difference,
    error,
    mean_error,
    milliseconds,
    normaliser_name,
    parameters,
    spread,
    thresholds,
)
from stages.reporting.times import DEVICES, Times

# A column: ("nme", subset), ("fr", threshold), ("auc", threshold), ("fact", name), ("time", device), ("detector", ""),
# ("difference", "") or ("parameters", "")
Column = tuple[str, str]
INTERVAL = f"{SPACE}[95{SPACE}%]"  # in the head of a column
FACTS = {
    "protocol": lambda result: result.provenance.protocol or NOTHING,
    "input px": lambda result: str(result.provenance.input_px or NOTHING),
    "test faces": lambda result: str(result.metrics["test"].n),
}


@dataclass(frozen=True)
class Leaderboard:
    """heads: by column. entries: the rows, by NME; cells: of each row, by column. bold: the best of a column by the
    name of its row, where it is significantly better than every other. published: method, source, what is known of it
    and cells, by method.
    """

    dataset: str
    normaliser: str
    entries: Sequence[Entry]
    heads: dict[Column, str]
    cells: Sequence[dict[Column, str]]
    bold: dict[Column, str]
    baseline: str
    published: Sequence[tuple[str, str, str, dict[Column, str]]] = field(default_factory=tuple)


def nme_cell(entry: Entry, subset: str) -> str:
    """`3.93 ± 0.04 [3.80, 4.07]`, what there is of it."""
    if not entry.n(subset):
        return NOTHING
    estimate = entry.nme(subset)
    whole = mean_error(estimate.value, estimate.interval)
    if estimate.deviation is None:
        return whole
    value, _, bounds = whole.partition(f"{SPACE}[")
    return spread(value, error(estimate.deviation)) + (f"{SPACE}[{bounds}" if bounds else "")


def nme_alone(entry: Entry, subset: str) -> str:
    """The NME without what is known of its uncertainty."""
    return mean_error(entry.mean_nme(subset)) if entry.n(subset) else NOTHING


def differing(entries: Sequence[Entry]) -> list[str]:
    """The FACTS that are not the same in all rows; of submissions only the number of faces is one."""
    own = [entry for entry in entries if not entry.first.provenance.submission]
    rows = {name: entries if name == "test faces" else own for name in FACTS}
    return [name for name, fact in FACTS.items() if len({fact(entry.first) for entry in rows[name]}) > 1]


def subsets_of(entries: Sequence[Entry]) -> list[str]:
    """All subsets but `test`, in their order."""
    return [name for name in dict.fromkeys(s for entry in entries for s in entry.first.metrics) if name != "test"]


def build(entries: Sequence[Entry], tests: Tests, figures: Sequence[Published], times: Times) -> Leaderboard:
    """figures: those published on the dataset; of these the ones on the same faces under the same normaliser count."""
    made = entries[0].first.provenance
    entries = sorted(entries, key=lambda entry: (_value(entry), entry.name))
    marks = thresholds(entry.first.metrics["test"] for entry in entries)
    heads: dict[Column, str] = {("fact", name): name for name in differing(entries)}
    heads["nme", "test"] = f"NME{INTERVAL}{SPACE}↓"
    if tests.to_baseline:
        heads["difference", ""] = f"Δ{SPACE}NME{INTERVAL}"
    heads |= {("nme", subset): subset for subset in subsets_of(entries)}
    heads |= {("fr", t): f"{at_threshold('fr', t)}{SPACE}↓" for t in marks}
    heads |= {("auc", t): f"{at_threshold('auc', t)}{SPACE}↑" for t in marks}
    if any(result.details.detector for entry in entries for result in entry.results):
        heads["detector", ""] = "NME, detector boxes"  # which may be broken: it is wider than its figures
    heads["parameters", ""] = "M params"
    timed = {device for entry in entries for device in DEVICES if _milliseconds(entry, device, times) is not None}
    heads |= {("time", device): f"ms ({device})" for device in DEVICES if device in timed}
    names = [entry.name for entry in entries]
    bold = {
        column: best
        for column in heads
        if column[0] == "nme" and (best := tests.best([name for name, entry in zip(names, entries, strict=True)
                                                       if entry.n(column[1])], column[1]))
    }  # fmt: skip
    cells = [{column: _cell(entry, column, tests, times) for column in heads} for entry in entries]
    rows = _published(entries, heads, [figure for figure in figures if figure.normaliser == made.normaliser])
    return Leaderboard(made.dataset, made.normaliser, entries, heads, cells, bold, tests.baseline, rows)


def _value(entry: Entry) -> float:
    value = entry.mean_nme("test")
    return float("inf") if value is None else value


def _milliseconds(entry: Entry, device: str, times: Times) -> float | None:
    """Of a face: of our networks as `make bench` measured it, of a submitted method as its own run did."""
    made = entry.first.provenance
    if made.submission:
        own = [result.provenance.submission.milliseconds for result in entry.results]
        return fmean(own) if device == "CPU" and None not in own else None
    return times.of(made.workload, device)


def _detected(entry: Entry) -> str:
    """`3.41`, and how many faces the detector found where not all: `3.41 (220/224)`."""
    detected = [result.details.detector for result in entry.results]
    if None in detected or any(each.nme is None for each in detected):
        return NOTHING
    found, n = detected[0].found, detected[0].n
    missing = f"{SPACE}({found}/{n})" if found < n else ""
    return error(fmean(each.nme for each in detected)) + missing


def _cell(entry: Entry, column: Column, tests: Tests, times: Times) -> str:
    kind, key = column
    made = entry.first.provenance
    match kind:
        case "fact":
            return FACTS[key](entry.first)
        case "nme":
            # ± and intervals of the others are below the fold, else the table would be twice as wide
            return nme_cell(entry, key) if key == "test" else nme_alone(entry, key)
        case "fr" | "auc":
            return at(kind, entry.at("test", kind, key).value)
        case "difference":
            if entry.name == tests.baseline:
                return "baseline"
            tested = tests.to_baseline.get(entry.name)
            return difference(tested.mean, tested.ci95) if tested else NOTHING
        case "detector":
            return _detected(entry)
        case "time":
            return milliseconds(_milliseconds(entry, key, times))
        case _:
            return parameters(made.cost.parameters) if made.cost else NOTHING


def _published(
    entries: Sequence[Entry], columns: Collection[Column], figures: Sequence[Published]
) -> list[tuple[str, str, str, dict[Column, str]]]:
    """The published figures on the faces of our columns, a row per method; best NME first, then those without one."""
    rows: dict[tuple[str, str, str, bool], dict[Column, float]] = {}
    counts = {name: entry.n for name, entry in entries[0].first.metrics.items()}
    for figure in figures:
        subset = matching_subset(counts, figure.subset, figure.n)
        kind, _, threshold = figure.metric.partition("_")
        column = ("nme", subset) if kind == "nme" else (kind, threshold)
        if subset is not None and column in columns and (kind == "nme" or subset == "test"):
            key = figure.method, figure.source, figure.judged_by, figure.secondary
            rows.setdefault(key, {})[column] = figure.value
    ordered = sorted(rows.items(), key=lambda row: row[1].get(("nme", "test"), float("inf")))
    return [
        (
            method + (" †" if secondary else ""),
            source,
            judged_by,
            {column: error(value) if column[0] == "nme" else at(column[0], value) for column, value in values.items()},
        )
        for (method, source, judged_by, secondary), values in ordered
    ]


def caption(board: Leaderboard) -> str:
    """What is the same for all rows, in one sentence."""
    entries = board.entries
    apart = differing(entries)
    own = [entry.first.provenance for entry in entries if not entry.first.provenance.submission]
    facts = []
    if "test faces" not in apart:
        counts = ", ".join(f"{subset} {entries[0].n(subset)}" for subset in subsets_of(entries))
        facts.append(f"{entries[0].n('test')} test faces" + (f" (of them {counts})" if counts else ""))
    if own and "protocol" not in apart:
        facts.append(f"protocol {own[0].protocol}")
    if own and "input px" not in apart:
        facts.append(f"input of {own[0].input_px} px")
    name = normaliser_name(board.normaliser)
    return f"NME in percent of the {name}{'' if name == 'box side' else ' distance'}; {', '.join(facts)}"
