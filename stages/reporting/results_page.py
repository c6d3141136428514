"""The text of reports/results.md: one Markdown page. This module reads and writes no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from string import ascii_lowercase

from stages.metrics.remarks import remarks
from stages.metrics.results import Result
from stages.reporting import comparisons, cross_dataset, error_analysis, provenance, results_csv, submissions
from stages.reporting.entries import Entry, Listing, baseline, group
from stages.reporting.leaderboard import INTERVAL, Column, Leaderboard, build, caption, nme_cell, subsets_of
from stages.reporting.published import SECONDARY, Published, other_faces
from stages.reporting.tables import (
    NOTHING,
    SPACE,
    at,
    at_threshold,
    error,
    folded,
    markdown_table,
    normaliser_name,
    spread,
    thresholds,
)
from stages.reporting.times import Times

ONE_LINE = 30  # characters of a variant that are not broken, so that no row is higher than two lines
BESIDE = 3  # subsets that leave room for failure rates, AUC and cost in the same table
OPEN = 10  # rows of a second table that is not folded
NME, DIFFERENCE = ("nme", "test"), ("difference", "")
INTRODUCTION = """\
# Results

Facial landmark detection by HRNetV2 heat-map regression, measured on test faces that are used neither in training nor
to choose an epoch. `dvc repro` makes the experiments of `params/pipeline.yaml`, `python -m stages.report` this page; do
not edit it. The same figures in full precision: [results.csv](results.csv); as a table for a paper:
`python -m stages.report --latex DATASET`.
"""

LEGEND = """\
All figures are percentages, brackets are 95 % intervals over faces, ± is the standard deviation over seeds. Each name
links to the experiment's own page. Δ NME is the paired difference to the baseline, below zero where the row is better;
its interval holds for all rows of the table together. **Bold** is the best of a column where it is significantly better
than every other row (paired tests, corrected over all pairs, and over all subsets for their columns); failure rates and
AUC are not tested. More: [metrics and methods](#metrics-and-methods), [provenance of each row](#provenance).
"""

EMPTY = """\
There are no results yet. `dvc repro` makes the experiments that `params/pipeline.yaml` lists, and this page with them;
`dvc repro evaluate@demo-quick report` makes one.
"""

CED = '<img alt="Cumulative error distributions" src="figures/{file}" width="700">\n'  # Markdown has no width

DAMAGED = """\
## Results that are not shown

The files of these are damaged or contradict each other. Their figures are in no table and in no comparison.
"""

METHODS = """\
- **NME**, normalised mean error: per face the mean distance of its annotated landmarks from the annotation over the
  face's normaliser, then the mean over faces. Figures under different normalisers do not compare. *Inter-ocular* is the
  distance of the outer eye corners, *box side* the side of the square face box.
- **FR@8**, failure rate: the share of faces with an NME above 8 %. Every dataset has the thresholds of its papers.
- **CED**, cumulative error distribution: the share of faces up to each NME; shaded is the 95 % interval of that share,
  at each NME on its own, for the best row and the baseline. **AUC@8**: the area under it from 0 to 8 %, as a percentage
  of that range.
- **Intervals** are over faces: what another sample of test faces would have given, not what another seed of the
  training would have. NME and AUC: bootstrap-t, 10,000 resamples; FR and CED: Clopper and Pearson. The NME of fewer
  than 130 faces has none, since too few faces may show none of the gross failures that decide a mean; an AUC needs 10
  ([simulations](simulations.md)). *±*: the standard deviation over trainings that differ in their seed alone (n − 1).
- **Digits**: NME and FR have two decimals and AUC one, as in papers; the interval says how many of them count.
- **Mean-shape baseline**: the NME of predicting the mean shape of the training faces in the box of every face, which
  needs no image.
- **Protocol** *exact*: coordinates are never rounded. *paper*: the published HRNet code's own crops and roundings, for
  results that compare with its released models.
- **Landmarks outside the input** are outside the square that the model sees; no heat map can predict them.
- **GFLOPs**: 10⁹ operations for one face in one pass of the network, a multiplication and an addition counted as two.
  MB: the size of the weights, 10⁶ bytes. Milliseconds: from crops to 98 landmarks, in batches, with the flip test where
  the recipe has it; reading and cropping images is not included.
- **NME, detector boxes**: the same model and faces, with the face boxes that the detector YuNet gives, mapped to those
  of landmarks by shift and scale as fitted on the training faces. The mean is over the faces that it finds; the page of
  each experiment has the difference on the same faces, and the failure rate with those that it does not find.
- **Test** is the whole test split; a face may belong to several subsets.
"""

COLUMNS = """\
`results.csv` has a row for every experiment (each seed on its own), cross-dataset evaluation and subset:

"""


def section_key(result: Result) -> tuple[str, str]:
    """Results with the same dataset and normaliser share tables and figures."""
    return result.provenance.dataset, result.provenance.normaliser


def ced_name(dataset: str, normaliser: str) -> str:
    """The file of a section's CED, under reports/figures/."""
    return f"ced-{dataset}-{normaliser}.png"


@dataclass(frozen=True)
class Section:
    """One dataset under one normaliser: its rows, their table and tests, and why the baseline is the baseline."""

    key: tuple[str, str]
    entries: list[Entry]
    board: Leaderboard
    tests: comparisons.Tests
    reason: str


def sections(
    results: Sequence[Result], figures: Mapping[str, Sequence[Published]], listing: Listing, times: Times
) -> list[Section]:
    """Those of all experiments and submissions; figures: per dataset those that others have published."""
    experiments = sorted((result for result in results if not result.is_cross_dataset), key=section_key)
    made = []
    for key, members in groupby(experiments, section_key):
        entries = group(list(members))
        chosen, reason = baseline(entries, listing)
        tests = comparisons.test(entries, chosen)
        board = build(entries, tests, figures.get(key[0], ()), times)
        made.append(Section(key, entries, board, tests, reason))
    return made


def _notes(entry: Entry, listing: Listing) -> list[str]:
    """What a reader must know of a row."""
    notes = list(dict.fromkeys(remark for result in entry.results for remark in remarks(result)))
    foreign = [result for result in entry.results if result.name not in listing.experiments]
    if foreign:
        where = "; ".join(dict.fromkeys(provenance.made_on(result) for result in foreign))
        notes.append(f"not listed in `params/pipeline.yaml`, so not made by `make repro`: measured on {where}")
    return notes


def _method(entry: Entry) -> str:
    """The row's name with links to its pages, and what it sets differently from its recipe, or its title."""
    if len(entry.results) == 1:
        name = f"[{entry.name}](pages/{entry.first.name}.md)"
    else:
        pages = [f"[{result.seed}](pages/{result.name}.md)" for result in entry.results]
        name = f"{entry.name}, seeds {', '.join(pages)}"
    made = entry.first.provenance
    variant = made.variant
    if made.submission:
        variant = "" if made.submission.title == entry.name else made.submission.title
    if len(variant) <= ONE_LINE:
        variant = variant.replace(" ", SPACE)
    return f"{name}<br>{variant}" if variant else name


def main_table(board: Leaderboard, listing: Listing) -> str:
    """The table and what its footnotes say, within the 950 px that GitHub shows: the difference to the baseline stands
    below the NME, and with many subsets, what is not an NME is in a second table."""
    notes: dict[str, str] = {}
    methods = []
    for entry in board.entries:
        marks = [notes.setdefault(note, _letter(len(notes))) for note in _notes(entry, listing)]
        methods.append(_method(entry) + (f" <sup>{', '.join(marks)}</sup>" if marks else ""))
    columns = [column for column in board.heads if column != DIFFERENCE]
    subsets = subsets_of(board.entries)
    others = [column for column in columns if column[0] not in ("fact", "nme")] if len(subsets) > BESIDE else []
    text = _table(
        board, methods, [column for column in columns if column not in others], small=subsets if others else ()
    )
    for note, letter in notes.items():
        text += f"\n<sup>{letter}</sup> {note[0].upper()}{note[1:].removesuffix('.')}.<br>"
    text = text.removesuffix("<br>") + "\n" * bool(notes)
    if others:
        more = _table(board, [entry.name for entry in board.entries], others)
        title = "Failure rates, AUC and cost of the same rows"
        text += "\n" + (folded(title, more) if len(methods) > OPEN else f"{title}:\n\n{more}")
    return text


def _table(board: Leaderboard, methods: Sequence[str], columns: Sequence[Column], small: Sequence[str] = ()) -> str:
    """Its rows, the best of a column in bold; small: the heads in small print."""
    heads = [f"<sub>{head}</sub>" if head in small else head for head in map(board.heads.get, columns)]
    if NME in columns and DIFFERENCE in board.heads:
        heads[columns.index(NME)] += f"<br>{board.heads[DIFFERENCE]}"
    rows = []
    for method, entry, cells in zip(methods, board.entries, board.cells, strict=True):
        row = [f"**{cells[column]}**" if board.bold.get(column) == entry.name else cells[column] for column in columns]
        if NME in columns and DIFFERENCE in board.heads:
            row[columns.index(NME)] += f"<br>{cells[DIFFERENCE]}"
        rows.append([method, *row])
    return markdown_table(("method", *heads), rows)


def _letter(index: int) -> str:
    """a, b, … z, aa, ab, …"""
    above, letter = divmod(index, len(ascii_lowercase))
    return (_letter(above - 1) if above else "") + ascii_lowercase[letter]


def published_table(board: Leaderboard, figures: Sequence[Published]) -> str:
    """What others have published on the same faces; a sentence where nothing; empty without figures on the dataset."""
    if not figures:
        return ""
    comparable = [figure for figure in figures if figure.normaliser == board.normaliser]
    if not comparable:
        return f"No figure on {board.dataset} has been published under this normaliser.\n"
    if not board.published:
        return other_faces(comparable)
    columns: list[Column] = [column for column in board.heads if any(column in cells for *_, cells in board.published)]
    heads = ["NME ↓" if column == ("nme", "test") else board.heads[column] for column in columns]
    rows = [
        (method, source, judged_by or NOTHING, *(cells.get(column, NOTHING) for column in columns))
        for method, source, judged_by, cells in board.published
    ]
    table = markdown_table(("published method", "source", "known of it", *heads), rows, left=3)
    secondary = any("†" in method for method, *_ in board.published)
    return f"Published figures on the same faces:\n\n{table}" + (f"\n{SECONDARY}" if secondary else "")


def subset_tables(entries: Sequence[Entry]) -> str:
    """A table for every subset, of every row of a section."""
    columns = thresholds(entry for row in entries for entry in row.first.metrics.values())
    marks = [(kind, threshold) for kind in ("fr", "auc") for threshold in columns]
    header = ("method", *(f"{name}{INTERVAL}" for name in ("NME", *(at_threshold(*key) for key in marks))))
    parts = []
    for subset in ("test", *subsets_of(entries)):
        members = [entry for entry in entries if subset in entry.first.metrics]
        counts, mean_shapes = (
            " or ".join(dict.fromkeys(values))
            for values in zip(
                *((str(entry.n(subset)), error(entry.mean_shape(subset))) for entry in members), strict=True
            )
        )
        rows = []
        for entry in members:
            cells = []
            for kind, threshold in marks:
                figure = entry.at(subset, kind, threshold)
                cells.append(spread(at(kind, figure.value, figure.interval), at(kind, figure.deviation)))
            rows.append((entry.name, nme_cell(entry, subset), *cells))
        parts.append(f"#### {subset}: {counts} faces, mean shape {mean_shapes}\n\n{markdown_table(header, rows)}")
    return "\n".join(parts)


def section(content: Section, figures: Sequence[Published], listing: Listing) -> str:
    """The section's text; `figures` are those published on the dataset."""
    entries, board, tests, reason = content.entries, content.board, content.tests, content.reason
    experiments = [result for entry in board.entries for result in entry.results]
    facts = [f"{caption(board)}."]
    mean_shapes = dict.fromkeys(error(entry.mean_shape("test")) for entry in entries)
    if len(mean_shapes) == 1 and NOTHING not in mean_shapes:
        facts.append(f"The mean shape's NME is {next(iter(mean_shapes))}.")
    own = [result for result in experiments if result.is_experiment]
    if common := provenance.common(own) if own else "":
        rows = "All rows" if len(own) == len(experiments) else "All experiments"
        facts.append(f"{rows if len(own) > 1 else 'Made with'}: {common}.")
    if tests.to_baseline:
        facts.append(f"The baseline of Δ is **{tests.baseline}** ({reason}).")
    if any(len(entry.results) > 1 for entry in entries):
        facts.append("Rows with several seeds are means over them; their tests compare each face's mean over seeds.")
    parts = [
        f"## {board.dataset}, {normaliser_name(board.normaliser)}\n",
        " ".join(facts) + "\n",
        main_table(board, listing),
        submissions.section(board.entries),
        published_table(board, figures),
        CED.format(file=ced_name(board.dataset, board.normaliser)),
        folded("Failure rates and AUC of all subsets, with intervals", subset_tables(board.entries)),
        comparisons.section(tests, complete=len(tests.compared) == len(entries)),
        folded("Error analysis", error_analysis.table(experiments)),
    ]
    return "\n".join(filter(None, parts))


def render(
    results: Sequence[Result],
    shown: Sequence[Section],
    figures: Mapping[str, Sequence[Published]],
    times: Times,
    damaged: Mapping[str, Sequence[str]],
    listing: Listing,
) -> str:
    """The whole page; shown: the sections of the results; figures: per dataset those that others have published.
    damaged: the faults of those not shown."""
    if not results and not damaged:
        return f"{INTRODUCTION}\n{EMPTY}"
    parts = [INTRODUCTION, LEGEND]
    if damaged:
        rows = [(f"[{name}](pages/{name}.md)", faults[0] + (f"; {len(faults) - 1} more" if faults[1:] else ""))
                for name, faults in sorted(damaged.items())]  # fmt: skip
        parts += [DAMAGED, markdown_table(("name", "what is wrong"), rows, left=2)]
    parts += [section(each, figures.get(each.key[0], ()), listing) for each in shown]
    parts += filter(None, [cross_dataset.section(results)])
    methods = folded("What the figures are and how their intervals are made", METHODS)
    columns = folded("Columns of results.csv", COLUMNS + results_csv.documentation())
    return "\n".join([*parts, provenance.section(results, times), "## Metrics and methods\n", methods, columns])
