"""Write the results page from all that has been measured, or compare two experiments.

    python -m stages.report
    python -m stages.report compare wflw-paper wflw-modern

The first, which DVC runs, reads reports/experiments/*/ (every experiment with a metrics.json, on the pipeline's list or
not) and writes reports/results.md and reports/figures/. The second prints how two experiments differ on the same faces.
"""

import argparse
from itertools import groupby
from pathlib import Path

from stages import errors
from stages.data.files import atomic, atomic_folder
from stages.errors import InputError
from stages.measure import lint, page, pairs
from stages.measure.cells import spoken
from stages.measure.compare import compare
from stages.measure.figures import ced_figure, encode, experiment_styles
from stages.measure.per_face import FaceErrors
from stages.measure.predictions import read_predictions, read_test
from stages.measure.published import published
from stages.measure.results import Experiment, read_experiments
from stages.measure.times import read_times

REPORTS = Path("reports")


def curves(experiments: list[Experiment]) -> dict[str, bytes]:
    """The CED figures by file name, one for every dataset and normaliser."""
    style = experiment_styles({each.name: each.provenance.recipe for each in experiments})
    found = {}
    for section, group in groupby(sorted(experiments, key=page.section_of), page.section_of):
        members = list(group)
        figure = ced_figure(
            {each.name: each.ced["test"] for each in members},
            style,
            title=f"{section[0]}, test",
            normaliser=spoken(section[1]),
        )
        found[page.ced_name(*section)] = encode(figure, "png")
    return found


def face_errors(experiment: Experiment) -> FaceErrors:
    """The errors of an experiment's faces: from its predictions, or from faces.csv where DVC has not fetched them."""
    made = experiment.provenance
    predictions, crops = Path("data/predictions") / f"{experiment.name}.parquet", Path("data/crops") / made.dataset
    if predictions.exists() and (crops / "test.parquet").exists():
        faces = read_test(crops)
        found = read_predictions(predictions, faces)
        if made.normaliser not in found.nme:
            raise InputError(f"{predictions}: column nme_{made.normaliser} is missing. Run dvc repro.")
        return FaceErrors(faces.face_id, found.nme[made.normaliser], faces.subsets)
    if experiment.faces is None:
        raise InputError(f"{predictions} is missing: run dvc checkout (or dvc repro evaluate@{experiment.name}).")
    return experiment.faces


def compared(first: str, second: str) -> str:
    """How two experiments differ on the same faces. Raises `InputError` where these are not the same faces."""
    known = {each.name: each for each in read_experiments(REPORTS / "experiments")}
    unknown = [f"{name}: no such experiment" for name in (first, second) if name not in known]
    errors.refuse(unknown, str(REPORTS / "experiments"), f"Measured are: {', '.join(known) or 'none'}.")
    one, other = known[first], known[second]
    if page.section_of(one) != page.section_of(other):
        raise InputError(
            f"{first} is measured on {' by '.join(page.section_of(one))}, {second} on "
            f"{' by '.join(page.section_of(other))}: their figures do not compare."
        )
    its = face_errors(one)
    theirs = face_errors(other).like(its, f"the faces of {second} beside those of {first}")
    found = pairs.pair_table(first, second, compare(its.nme, theirs.nme, its.rows()))
    return f"A = {first}, B = {second}; NME in percent of {one.provenance.normaliser}\n\n{found}\n{pairs.ABOUT}"


def main() -> None:
    experiments = read_experiments(REPORTS / "experiments")
    lint.check(experiments)
    datasets = {each.provenance.dataset for each in experiments}
    figures = {name: published(name) for name in datasets}
    text = page.render(experiments, figures, read_times(REPORTS / "benchmarks.json"))
    with atomic_folder(REPORTS / "figures") as folder:
        for name, content in curves(experiments).items():
            (folder / name).write_bytes(content)
    with atomic(REPORTS / "results.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{REPORTS / 'results.md'}: {len(experiments)} experiment{'' if len(experiments) == 1 else 's'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    two = commands.add_parser("compare", help="print how two experiments differ on the same faces")
    two.add_argument("first", metavar="EXP_A")
    two.add_argument("second", metavar="EXP_B")
    given = parser.parse_args()
    errors.run(main if given.command is None else lambda: print(compared(given.first, given.second)))
