"""Saved views of the MLflow page, one for each question that runs are compared for, and the links that open them.

    python -m stages.views http://127.0.0.1:5000

MLflow keeps a view as a tag of its experiment: `viewStateShareKey=NAME` in the page's address opens the tag
`mlflow.sharedViewState.NAME`, in which the page's own state stands as JSON.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from stages import errors, origin, tracking

TAG = "mlflow.sharedViewState."
MEASURED = "metrics.`test/nme` > 0"  # of the runs that have got so far


def _charts(columns: int, **charts: Mapping[str, object]) -> dict[str, object]:
    """The state of a page of charts by title, so many in a row; each of the page's own type with its settings."""
    place = {"metricSectionId": "charts", "deleted": False, "isGenerated": False}
    listed = [{"uuid": title, "displayName": title.replace("_", " "), **place, **chart}
              for title, chart in charts.items()]  # fmt: skip
    section = {"uuid": "charts", "name": "charts", "display": True, "isReordered": False, "columns": columns,
               "cardHeight": 480}  # fmt: skip
    return {"compareRunCharts": listed, "compareRunSections": [section],
            "autoRefreshEnabled": False, "hideEmptyCharts": True}  # fmt: skip


def _line(metric: str, scale: str = "log") -> dict[str, object]:
    of = {"metricKey": metric, "selectedMetricKeys": [metric], "scaleType": scale, "runsCountToCompare": 20}
    axis = {"xAxisKey": "step", "xAxisScaleType": "linear", "yAxisKey": "metric", "lineSmoothness": 0, "range": {}}
    return {"type": "LINE", **of, **axis, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}


def _images(key: str) -> dict[str, object]:
    return {"type": "IMAGE", "imageKeys": [key], "step": 0, "showRunParams": False, "runsCountToCompare": 10}


VIEWS = {
    "best": (
        "Which run is best, and is it so by every figure?",
        {
            "searchFilter": MEASURED,
            "orderByKey": "metrics.`test/nme`",
            "orderByAsc": True,
            "selectedColumns": [
                "tags.`dataset`", "tags.`recipe`", "metrics.`test/nme`", "metrics.`test/fr_0.08`",
                "metrics.`test/auc_0.08`", "metrics.`test/p90`", "metrics.`test/nme_box_off`", "metrics.`val/nme`",
            ],
        },
    ),
    "training": (
        "How did the trainings go?",
        _charts(3, val_NME=_line("val/nme"), training_loss=_line("train/loss"), learning_rate=_line("lr")),
    ),
    "parameters": (
        "Which parameters make the difference?",
        {
            "searchFilter": MEASURED,
            **_charts(
                1,
                parameters_and_NME={
                    "type": "PARALLEL",
                    "selectedParams": ["train.loss", "train.lr", "train.epochs", "train.average", "input.size"],
                    "selectedMetrics": ["test/nme"],
                    "showAllRuns": False,
                    "runsCountToCompare": 100,
                }
            ),
        },
    ),
    "faces": (
        "What do the faces look like, and where does each fail?",
        {
            "searchFilter": MEASURED,
            **_charts(
                1, faces=_images("faces"), worst_and_median=_images("worst and median faces"),
                by_landmark=_images("errors by landmark"),
            ),
        },
    ),
}  # fmt: skip


def save(address: str) -> list[str]:
    """Keep the views with our MLflow experiment; a line for each: the link at the page's `address`, and the question.

    Raises `InputError` where nothing has been tracked yet.
    """
    os.environ.update(tracking.SETTINGS)  # before MLflow is imported
    from mlflow import MlflowClient

    client = MlflowClient(tracking.store(Path(os.environ.get("DVC_ROOT") or origin.CODE)))
    found = client.get_experiment_by_name(tracking.EXPERIMENT)
    if found is None:
        raise errors.InputError(f"MLflow has no experiment {tracking.EXPERIMENT} yet: dvc repro makes its first run.")
    for name, (_, state) in VIEWS.items():
        client.set_experiment_tag(found.experiment_id, TAG + name, json.dumps(state))
    page = f"{address}/#/experiments/{found.experiment_id}/runs?viewStateShareKey="
    modes = {name: "&compareRunsMode=CHART" * ("compareRunCharts" in state) for name, (_, state) in VIEWS.items()}
    return [f"{question}\n    {page}{name}{modes[name]}" for name, (question, _) in VIEWS.items()]


if __name__ == "__main__":
    errors.run(lambda: print("\n".join(save(sys.argv[1]))))
