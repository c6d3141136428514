"""Write the results page from all that has been measured.

    python -m stages.report

Reads reports/experiments/*/ (every experiment with a metrics.json, on the pipeline's list or not) and writes
reports/results.md and reports/figures/.
"""

from itertools import groupby
from pathlib import Path

from stages import errors
from stages.data.files import atomic, atomic_folder
from stages.measure import page
from stages.measure.figures import ced_figure, encode, styles
from stages.measure.published import published
from stages.measure.results import Experiment, read_experiments

REPORTS = Path("reports")


def curves(experiments: list[Experiment]) -> dict[str, bytes]:
    """The CED figures by file name, one for every dataset and normaliser; a recipe has one colour in all of them."""
    style = styles(each.provenance.recipe for each in experiments)
    found = {}
    for section, group in groupby(sorted(experiments, key=page.section_of), page.section_of):
        members = list(group)
        figure = ced_figure(
            {each.name: each.ced["test"] for each in members},
            {each.name: style[each.provenance.recipe] for each in members},
            title=f"{section[0]}, test",
            normaliser=page.NORMALISERS.get(section[1], section[1]),
        )
        found[page.ced_name(*section)] = encode(figure, "png")
    return found


def main() -> None:
    experiments = read_experiments(REPORTS / "experiments")
    datasets = {each.provenance.dataset for each in experiments}
    text = page.render(experiments, {name: published(name) for name in datasets})
    with atomic_folder(REPORTS / "figures") as folder:
        for name, content in curves(experiments).items():
            (folder / name).write_bytes(content)
    with atomic(REPORTS / "results.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{REPORTS / 'results.md'}: {len(experiments)} experiment{'' if len(experiments) == 1 else 's'}")


if __name__ == "__main__":
    errors.run(main)
