"""The matrix of models and datasets: what each finds on the test faces of another dataset than its own."""

from collections.abc import Sequence
from statistics import fmean

from stages.measure.cells import NOTHING, decimals, nme, number, spoken, table
from stages.measure.results import Crossing, Experiment

ABOUT = """\
## Across datasets

NME [95 %] of each experiment on the test faces of the datasets above the columns, in percent of their normaliser and by
those of their landmarks that the model has too. Figures compare within a column. In italics: a model on the test faces
of the dataset that it was trained on, by the same landmarks. What differs is the faces and also what the annotators of
two datasets take for the same point.
"""


def _of(crossing: Crossing) -> tuple:
    """What has a column to itself."""
    return crossing.dataset, crossing.normaliser, crossing.of, tuple(crossing.landmarks)


def _title(column: tuple) -> str:
    dataset, normaliser, of, landmarks = column
    count = f"{of}" if len(landmarks) == of else f"{len(landmarks)} of {of}"
    return f"{dataset} ({count} landmarks, {spoken(normaliser)})"


def _cell(each: Experiment, column: tuple) -> str:
    crossed = [crossing for crossing in each.crossings if _of(crossing) == column]
    if crossed:
        return nme(crossed[0].metrics["test"])
    dataset, normaliser, of, landmarks = column
    if (each.provenance.dataset, each.provenance.normaliser) != (dataset, normaliser):
        return NOTHING
    if len(landmarks) == of:
        return f"*{nme(each.metrics['test'])}*"
    # of a part of the landmarks: every face has them all, so the mean over faces is that of the landmarks' own means
    errors = [each.details.landmarks[i] for i in landmarks] if each.details else [None]
    if None in errors:
        return NOTHING
    return f"*{number(fmean(errors), decimals(each.metrics['test'].nme_ci95))}*"


def section(experiments: Sequence[Experiment]) -> str:
    """The matrix of all experiments that are in it, with the mean shape's NME below; nothing where none was crossed."""
    crossings = [crossing for each in experiments for crossing in each.crossings]
    columns = sorted({_of(crossing) for crossing in crossings})
    shown = {each.name: [_cell(each, column) for column in columns] for each in experiments}
    rows = [
        (each.name, each.provenance.dataset, *shown[each.name])
        for each in experiments
        if any(cell != NOTHING for cell in shown[each.name])
    ]
    if not columns:
        return ""
    least = {_of(crossing): crossing.metrics["test"].nme_mean_shape for crossing in crossings}
    rows.append(("mean shape", "the same dataset", *(number(least[column], 1) for column in columns)))
    return f"{ABOUT}\n{table(('experiment', 'trained on', *map(_title, columns)), rows, left=2)}"
