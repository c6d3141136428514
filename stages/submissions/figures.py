"""What is printed of one method's figures on a dataset: its own table, and the published figures beside it."""

from collections.abc import Mapping

from pydantic import TypeAdapter

from stages.metrics.schema import Metrics
from stages.reporting.published import Measured, comparison_table, published
from stages.reporting.tables import INFINITE, NOTHING, at_threshold, markdown_table


def nme_with_interval(entry: Metrics) -> str:
    """`2.994 [2.891, 3.113]`: three decimals, as some papers print."""
    if entry.nme is None:
        return INFINITE if entry.n else NOTHING
    return f"{entry.nme:.3f}" + (f" [{entry.nme_ci95[0]:.3f}, {entry.nme_ci95[1]:.3f}]" if entry.nme_ci95 else "")


def figures_table(metrics: Mapping[str, Metrics]) -> str:
    """A row per subset: NME with its interval, FR and AUC at the dataset's thresholds."""
    thresholds = list(metrics["test"].at)
    header = [at_threshold(kind, threshold) for kind in ("fr", "auc") for threshold in thresholds]
    rows = []
    for subset, entry in metrics.items():
        values = [getattr(entry.at[threshold], kind) for kind in ("fr", "auc") for threshold in thresholds]
        figures = [NOTHING if value is None else f"{value:.2f}" for value in values]
        rows.append((subset, str(entry.n), nme_with_interval(entry), *figures))
    return markdown_table(("subset", "n", "NME [95 %]", *header), rows)


def typed(metrics: Mapping[str, Mapping]) -> dict[str, Metrics]:
    """metrics.json's content, validated."""
    return TypeAdapter(dict[str, Metrics]).validate_python(metrics)


def beside_published(name: str, dataset: str, metrics: Mapping[str, Metrics], counts, normaliser: str) -> str:
    """The published figures of a dataset under this one; counts: config.dataset.Counts. Empty where there are none."""
    measured = Measured(name, "here", metrics, {"test": counts.test, **counts.subsets})
    return comparison_table([measured], published(dataset), normaliser)
