"""The matrix of cross-dataset evaluation: models by the datasets whose test faces they are measured on."""

from collections.abc import Sequence
from statistics import fmean

from stages.metrics.remarks import remarks
from stages.metrics.results import Result
from stages.reporting.tables import NOTHING, error, markdown_table, nme, normaliser_name

LEGEND = """\
## Cross-dataset evaluation

NME [95 %] of each model on the test faces of other datasets, in percent of these datasets' normalisers, over the
landmarks that the model's scheme and the dataset's have in common. Only figures of the same column compare. In italics:
a model on the test faces of its own dataset, over the same landmarks. Differences come from the faces, and from
annotators who place the same landmark differently.
"""

Column = tuple[str, str, int, tuple[int, ...]]  # dataset, normaliser, number of its landmarks, landmarks measured


def _column(result: Result) -> Column:
    """Figures compare between results with the same one."""
    made = result.provenance
    return made.dataset, made.normaliser, made.landmark_count, tuple(made.landmarks)


def _title(column: Column) -> str:
    dataset, normaliser, count, landmarks = column
    number_of_landmarks = f"{count}" if len(landmarks) == count else f"{len(landmarks)} of {count}"
    return f"{dataset} ({number_of_landmarks} landmarks, {normaliser_name(normaliser)})"


def _own(experiment: Result | None, column: Column) -> str:
    """The figure of an experiment on its own dataset."""
    dataset, normaliser, count, landmarks = column
    if experiment is None or (experiment.provenance.dataset, experiment.provenance.normaliser) != (dataset, normaliser):
        return NOTHING
    test = experiment.metrics["test"]
    if len(landmarks) == count:
        return f"*{nme(test)}*"
    if experiment.details.annotation and experiment.details.annotation.not_annotated:
        return NOTHING  # where faces differ in their landmarks, it does not follow from what is kept of them
    # all faces have the same landmarks, so the mean over faces is the mean of the landmarks' own means
    errors = [experiment.details.landmarks[i] for i in landmarks]
    return NOTHING if None in errors else f"*{error(fmean(errors))}*"


def section(results: Sequence[Result]) -> str:
    """The matrix, with the mean-shape baseline below; empty where there is no cross-dataset evaluation."""
    experiments = {result.name: result for result in results if result.is_experiment}
    evaluations = {
        (result.provenance.experiment, _column(result)): result for result in results if result.is_cross_dataset
    }
    if not evaluations:
        return ""
    columns = sorted({column for _, column in evaluations})
    rows = []
    models = {(r.provenance.trained_on, r.provenance.experiment) for r in results if not r.provenance.submission}
    for trained_on, name in sorted(models):
        cells = [
            nme(evaluations[name, column].metrics["test"])
            if (name, column) in evaluations
            else _own(experiments.get(name), column)
            for column in columns
        ]
        if set(cells) != {NOTHING}:
            rows.append((name, trained_on, *cells))
    baseline = {column: result.metrics["test"].nme_mean_shape for (_, column), result in evaluations.items()}
    rows.append(("mean-shape baseline", "the same dataset", *(error(baseline[column]) for column in columns)))
    table = markdown_table(("model", "trained on", *map(_title, columns)), rows, left=2)
    notes = [f"- {result.name}: {remark}." for result in evaluations.values() for remark in remarks(result)]
    pages = ", ".join(f"[{result.name}](pages/{result.name}.md)" for result in evaluations.values())
    return "\n".join([LEGEND, table, *notes, *[""] * bool(notes), f"Pages of these evaluations: {pages}.\n"])
