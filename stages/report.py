"""Render the results page, the experiments' pages and their figures; print a table for a paper; compare experiments.

    python -m stages.report
    python -m stages.report --latex wflw
    python -m stages.report compare wflw-paper wflw-modern

The first, which DVC runs, reads reports/experiments/*/ (all that have results, listed in the pipeline or not) and
reports/studies, and writes reports/results.md, results.csv, pages/ and figures/; damaged results are marked there and
on the terminal. The second prints the table of a dataset, or of all, in LaTeX. The third prints how two experiments, or
two entries of params/pipeline.yaml with several seeds, differ on the same faces.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from stages.config.pipeline import read_pipeline
from stages.metrics import consistency
from stages.metrics.paired_tests import compare
from stages.metrics.results import REMEDY, Result, read_all, read_results
from stages.metrics.study import Study, read_studies
from stages.reporting import comparisons, experiment_page, latex, results_csv, results_page, studies
from stages.reporting.ced_figures import ced_figures
from stages.reporting.entries import Entry, Listing, group
from stages.reporting.experiment_figures import experiment_figures
from stages.reporting.exports import read_exports, section
from stages.reporting.figures import encode
from stages.reporting.published import Published, published
from stages.reporting.results_page import Section, ced_name, section_key
from stages.reporting.times import Times, read_times
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic, atomic_folder
from stages.tracking.results import log_missing

REPORTS = Path("reports")


@dataclass(frozen=True)
class Content:
    """What is reported. damaged: by name the faults of results that are not shown; sections: one for every dataset and
    normaliser."""

    results: list[Result]
    damaged: dict[str, list[str]]
    sections: list[Section]
    listing: Listing
    published: dict[str, list[Published]]
    times: Times
    studies: dict[str, Study]


def read() -> Content:
    """All results, with the comparisons of their experiments. Raises `InputError` for wrong parameters."""
    results, damaged = read_all(REPORTS / "experiments")
    damaged |= {result.name: faults for result in results if (faults := list(consistency.result_faults(result)))}
    results = [result for result in results if result.name not in damaged]
    others = {dataset: published(dataset) for dataset in {result.provenance.dataset for result in results}}
    pipeline, times = read_pipeline(), read_times(REPORTS / "benchmarks.json")
    listing = Listing([*pipeline.experiments, *pipeline.submissions], pipeline.entries, pipeline.baselines)
    sections = results_page.sections(results, others, listing, times)
    made = read_studies(REPORTS / "studies")
    return Content(results, damaged, sections, listing, others, times, made)


def texts(content: Content) -> dict[str, str]:
    """The files of text by name, under reports/."""
    page = results_page.render(
        content.results, content.sections, content.published, content.times, content.damaged, content.listing
    )
    if exported := section(content.results, read_exports(REPORTS / "experiments")):
        page += f"\n{exported}"
    for measured in content.times.sections():
        page += f"\n{measured}"
    if made := studies.section(content.studies):
        page += f"\n{made}"
    files = {"results.md": page, "results.csv": results_csv.table(content.results)}
    for name, faults in content.damaged.items():
        files[f"pages/{name}.md"] = experiment_page.damaged(name, faults)
    for result in content.results:
        files[f"pages/{result.name}.md"] = experiment_page.render(result, experiment_figures(result))
    return files


def figures(content: Content) -> dict[str, Callable[[], Figure]]:
    """What draws the figures, by file name, under reports/figures/."""
    boards = {ced_name(*section.key): section.board for section in content.sections}
    files = ced_figures(boards)
    for result in content.results:
        files |= {f"{result.name}/{name}.png": draw for name, draw in experiment_figures(result).items()}
    return files | {
        studies.figure_name(name): partial(studies.curve, study) for name, study in content.studies.items() if study.by
    }


def _entry(name: str, results: list[Result]) -> Entry:
    """The experiment, or the entry of the pipeline with all of its seeds."""
    alone = [result for result in results if result.name == name]
    if alone:
        return Entry(name, tuple(alone))
    rows = group([result for result in results if not result.is_cross_dataset and result.provenance.entry == name])
    if len(rows) > 1:
        raise InputError(
            f"{name}: {', '.join(row.first.name for row in rows)} differ in more than their seed, such as in the code "
            f"that made them. Make them again with `dvc repro`, or compare one of them."
        )
    return rows[0]


def compare_experiments(first: str, second: str) -> str:
    """How two experiments differ on the same faces. Raises `InputError` where the faces are not the same."""
    results = read_results(REPORTS / "experiments")
    known = dict.fromkeys([result.name for result in results])
    known |= dict.fromkeys([result.provenance.entry for result in results if result.provenance.entry])
    unknown = [f"{name}: no such experiment" for name in (first, second) if name not in known]
    errors.refuse(unknown, str(REPORTS / "experiments"), f"There are results of: {', '.join(known) or 'none'}.")
    rows = [_entry(name, results) for name in (first, second)]
    one, other = (row.first for row in rows)
    if section_key(one) != section_key(other):
        raise InputError(
            f"{first} is measured on {' by '.join(section_key(one))}, {second} on "
            f"{' by '.join(section_key(other))}: their figures do not compare."
        )
    if one.provenance.landmarks != other.provenance.landmarks:
        raise InputError(f"{first} and {second} are measured by different landmarks: their figures do not compare.")
    faces = rows[1].faces.aligned_to(rows[0].faces, f"the faces of {second} beside those of {first}")
    table = comparisons.pair_table(first, second, compare(rows[0].faces.nme, faces.nme, faces.rows()))
    names = [
        f"{letter} = {row.name}" + (f" (mean over seeds {', '.join(map(str, row.seeds))})" if row.results[1:] else "")
        for letter, row in zip("AB", rows, strict=True)
    ]
    return f"{', '.join(names)}; NME in percent of {one.provenance.normaliser}\n\n{table}\n{comparisons.LEGEND}"


def latex_tables(dataset: str | None) -> str:
    """The table of every section of the dataset, or of all. Raises `InputError` where it has no results."""
    content = read()
    chosen = [section for section in content.sections if dataset in (None, section.key[0])]
    known = ", ".join(dict.fromkeys(section.key[0] for section in content.sections))
    unknown = [] if chosen else [f"{dataset or 'any dataset'}: no results"]
    errors.refuse(unknown, str(REPORTS / "experiments"), f"There are results on: {known or 'none'}.")
    return "\n".join(latex.table(section.board) for section in chosen)


def main() -> list[str]:
    """Returns the names of damaged results, which are marked and keep no other from the page."""
    content = read()
    files = texts(content)
    drawn = {f"figures/{name}": encode(draw()) for name, draw in figures(content).items()}
    for name in ("figures", "pages"):
        with atomic_folder(REPORTS / name) as folder:
            for file, written in (drawn | {file: text.encode() for file, text in files.items()}).items():
                if file.startswith(f"{name}/"):
                    path = folder / file.partition("/")[2]
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(written)
    for file in ("results.csv", "results.md"):
        with atomic(REPORTS / file) as temporary:
            temporary.write_bytes(files[file].encode())
    number = len(content.results)
    print(f"{REPORTS / 'results.md'}: {number} page{'' if number == 1 else 's'} in {REPORTS / 'pages'}")
    for name, faults in sorted(content.damaged.items()):
        listed = "\n".join(f"  - {fault}" for fault in faults)
        print(f"warning: {name} is damaged or contradicts itself, so it is not shown:\n{listed}", file=sys.stderr)
    if content.damaged:
        print(REMEDY, file=sys.stderr)
    return sorted(content.damaged)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--latex", metavar="DATASET", nargs="?", const="", help="print the table of a dataset, or of all, in LaTeX"
    )
    commands = parser.add_subparsers(dest="command")
    two = commands.add_parser("compare", help="print the paired comparison of two experiments or submissions")
    two.add_argument("first", metavar="EXP_A")
    two.add_argument("second", metavar="EXP_B")
    given = parser.parse_args()

    def run() -> None:
        if given.command == "compare":
            print(compare_experiments(given.first, given.second))
        elif given.latex is not None:
            print(latex_tables(given.latex or None))
        else:
            damaged = main()
            log_missing(damaged)  # the pages, in the MLflow runs of the experiments

    errors.run(run)
