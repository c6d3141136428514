"""reports/results.csv: every figure of every experiment and subset in full precision, a row each."""

from collections.abc import Sequence

import pandas as pd

from stages.metrics.results import Result
from stages.reporting.tables import markdown_table, thresholds

COLUMNS = {
    "dataset": "whose test faces are measured",
    "trained_on": "the dataset of the training, another one in a cross-dataset evaluation",
    "name": "of the experiment, the cross-dataset evaluation or the submission; its page is pages/NAME.md",
    "entry": "its name in params/pipeline.yaml, which its other seeds share",
    "seed": "of the training, or of a submitted method",
    "recipe": "params/recipes/RECIPE.yaml; empty for a submission, as is all that is not known of it",
    "submission": "the method's title",
    "variant": "what is set differently from the recipe",
    "init": "the initial weights",
    "protocol": "exact, or paper for the published one",
    "normaliser": "of the NME",
    "input_px": "side of the model's input in px",
    "parameters": "of the model",
    "gflops": "of one face",
    "subset": "`test` is the whole test split",
    "n": "faces",
    "nme, nme_low, nme_high": "NME in percent and its 95 % interval; empty where a face has no prediction, the "
    "interval also with fewer than 130 faces",
    "nme_mean_shape": "the mean shape's NME on the same faces",
    "fr_0.08, fr_0.08_low, fr_0.08_high": "failure rate in percent at a threshold of 0.08, and its interval; so for "
    "every threshold of a dataset, empty for other datasets",
    "auc_0.08, auc_0.08_low, auc_0.08_high": "the same for the AUC",
}


def _interval(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return interval or (None, None)


def _rows(result: Result, marks: Sequence[str]) -> list[dict[str, object]]:
    made, rows = result.provenance, []
    for subset, entry in result.metrics.items():
        row = {
            "dataset": made.dataset, "trained_on": made.trained_on, "name": result.name, "entry": made.entry,
            "seed": result.seed, "recipe": made.recipe,
            "submission": made.submission.title if made.submission else "", "variant": made.variant,
            "init": made.init, "protocol": made.protocol, "normaliser": made.normaliser, "input_px": made.input_px,
            "parameters": made.cost and made.cost.parameters, "gflops": made.cost and made.cost.gflops,
            "subset": subset, "n": entry.n, "nme": entry.nme,
        }  # fmt: skip
        row["nme_low"], row["nme_high"] = _interval(entry.nme_ci95)
        row["nme_mean_shape"] = entry.nme_mean_shape
        for threshold in marks:
            at = entry.at.get(threshold)
            for kind in ("fr", "auc"):
                key = f"{kind}_{threshold}"
                row[key] = getattr(at, kind, None)
                row[f"{key}_low"], row[f"{key}_high"] = _interval(getattr(at, f"{kind}_ci95", None))
        rows.append(row)
    return rows


def table(results: Sequence[Result]) -> str:
    """The file's text."""
    marks = thresholds(entry for result in results for entry in result.metrics.values())
    rows = [row for result in results for row in _rows(result, marks)]
    names = [name for key in COLUMNS for name in key.split(", ")]
    content = pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)
    if rows:
        content["seed"] = content["seed"].astype("Int64")
    return content.to_csv(index=False, lineterminator="\n")


def documentation() -> str:
    """What the columns are."""
    return markdown_table(("column", "content"), [(f"`{name}`", text) for name, text in COLUMNS.items()], left=2)
