"""Render the results page, the experiments' pages and their figures, or compare two experiments.

    python -m stages.report
    python -m stages.report compare wflw-paper wflw-modern

The first, which DVC runs, reads reports/experiments/*/ (all that have results, listed in the pipeline or not) and
writes reports/results.md, reports/pages/ and reports/figures/; damaged results are marked there and on the terminal.
The second prints how two experiments differ on the same faces.
"""

import argparse
import sys
from itertools import groupby
from pathlib import Path

from stages.metrics import consistency
from stages.metrics.paired_tests import compare
from stages.metrics.results import REMEDY, Result, read_all, read_results
from stages.reporting import comparisons, experiment_page, results_page
from stages.reporting.experiment_figures import experiment_figures
from stages.reporting.figures import ced_figure, encode, experiment_styles
from stages.reporting.published import published
from stages.reporting.tables import normaliser_name, thresholds
from stages.reporting.times import read_times
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic, atomic_folder
from stages.tracking.results import log_missing

REPORTS = Path("reports")


def ced_figures(results: list[Result]) -> dict[str, bytes]:
    """The CED figures by file name, one for every dataset and normaliser."""
    experiments = [result for result in results if result.is_experiment]
    style = experiment_styles({experiment.name: experiment.provenance.training_recipe for experiment in experiments})
    figures = {}
    for (dataset, normaliser), members in groupby(
        sorted(experiments, key=results_page.section_key), results_page.section_key
    ):
        members = list(members)
        curves = {experiment.name: experiment.ced["test"] for experiment in members}
        figure = ced_figure(
            curves, style, title=f"{dataset}, test", normaliser=normaliser_name(normaliser),
            limit=100 * float(max(thresholds(experiment.metrics["test"] for experiment in members))),
        )  # fmt: skip
        figures[results_page.ced_name(dataset, normaliser)] = encode(figure)
    return figures


def compare_experiments(first: str, second: str) -> str:
    """How two experiments differ on the same faces. Raises `InputError` where the faces are not the same."""
    results = {result.name: result for result in read_results(REPORTS / "experiments")}
    unknown = [f"{name}: no such experiment" for name in (first, second) if name not in results]
    errors.refuse(unknown, str(REPORTS / "experiments"), f"There are results of: {', '.join(results) or 'none'}.")
    one, other = results[first], results[second]
    if results_page.section_key(one) != results_page.section_key(other):
        raise InputError(
            f"{first} is measured on {' by '.join(results_page.section_key(one))}, {second} on "
            f"{' by '.join(results_page.section_key(other))}: their figures do not compare."
        )
    if one.provenance.landmarks != other.provenance.landmarks:
        raise InputError(f"{first} and {second} are measured by different landmarks: their figures do not compare.")
    faces = other.faces.aligned_to(one.faces, f"the faces of {second} beside those of {first}")
    table = comparisons.pair_table(first, second, compare(one.faces.nme, faces.nme, one.faces.rows()))
    return f"A = {first}, B = {second}; NME in percent of {one.provenance.normaliser}\n\n{table}\n{comparisons.LEGEND}"


def main() -> list[str]:
    """Returns the names of damaged results, which are marked and keep no other from the page."""
    results, damaged = read_all(REPORTS / "experiments")
    damaged |= {result.name: faults for result in results if (faults := list(consistency.result_faults(result)))}
    results = [result for result in results if result.name not in damaged]
    others = {dataset: published(dataset) for dataset in {result.provenance.dataset for result in results}}
    text = results_page.render(results, others, read_times(REPORTS / "benchmarks.json"), damaged)
    figures = ced_figures(results)
    pages = {f"{name}.md": experiment_page.damaged(name, faults).encode() for name, faults in damaged.items()}
    for result in results:
        drawn = experiment_figures(result)
        figures |= {f"{result.name}/{name}.png": encode(figure) for name, figure in drawn.items()}
        pages[f"{result.name}.md"] = experiment_page.render(result, drawn).encode()
    for name, files in (("figures", figures), ("pages", pages)):
        with atomic_folder(REPORTS / name) as folder:
            for file, content in files.items():
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(content)
    with atomic(REPORTS / "results.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{REPORTS / 'results.md'}: {len(results)} page{'' if len(results) == 1 else 's'} in {REPORTS / 'pages'}")
    for name, faults in sorted(damaged.items()):
        listed = "\n".join(f"  - {fault}" for fault in faults)
        print(f"warning: {name} is damaged or contradicts itself, so it is not shown:\n{listed}", file=sys.stderr)
    if damaged:
        print(REMEDY, file=sys.stderr)
    return sorted(damaged)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    two = commands.add_parser("compare", help="print the paired comparison of two experiments")
    two.add_argument("first", metavar="EXP_A")
    two.add_argument("second", metavar="EXP_B")
    given = parser.parse_args()

    def run() -> None:
        if given.command == "compare":
            print(compare_experiments(given.first, given.second))
        else:
            damaged = main()
            log_missing(damaged)  # the pages, in the MLflow runs of the experiments

    errors.run(run)
