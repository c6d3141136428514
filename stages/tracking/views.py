"""Saved views of the MLflow page, one for each question that runs are compared for, and the links that open them.

MLflow keeps a view as a tag of its experiment: `viewStateShareKey=NAME` in the page's address opens the tag
`mlflow.sharedViewState.NAME`, which holds the page's state as JSON.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from stages.system.errors import InputError
from stages.tracking import process
from stages.tracking.store import EXPERIMENT, SETTINGS, explain, store_uri, typed

TAG = "mlflow.sharedViewState."
MEASURED = "metrics.`test/nme` > 0"  # only runs that have been evaluated


def _charts(columns: int, **charts: Mapping[str, object]) -> dict[str, object]:
    """The state of a page of charts by title, `columns` in a row; each chart has the page's own type and settings."""
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
                "metrics.`test/auc_0.08`", "metrics.`test/p90`", "metrics.`test/nme_perturbed_boxes`",
                "metrics.`val/nme`",
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
                    "selectedParams": ["train.loss", "train.lr", "train.epochs", "train.ema_decay", "input.size"],
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
                1, faces=_images("faces"), failure_cases=_images("failure cases"),
                by_landmark=_images("errors by landmark"),
            ),
        },
    ),
}  # fmt: skip


def save(address: str) -> list[str]:
    """Keep the views with our MLflow experiment; returns a line for each: the question and the link at `address`.

    Raises `InputError` where nothing has been tracked yet, and where the store fails.
    """
    os.environ.update(SETTINGS)  # before MLflow is imported
    from mlflow import MlflowClient

    try:
        client = MlflowClient(store_uri(Path(os.environ.get("DVC_ROOT") or process.CODE)))
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise InputError(f"MLflow has no experiment {EXPERIMENT} yet: dvc repro makes its first run.")
        if experiment.lifecycle_stage == "deleted":
            command = typed(f"mlflow experiments restore --experiment-id {experiment.experiment_id}")
            raise InputError(f"the MLflow experiment {EXPERIMENT} was deleted. To have it back: {command}")
        for name, (_, state) in VIEWS.items():
            client.set_experiment_tag(experiment.experiment_id, TAG + name, json.dumps(state))
    except InputError:
        raise
    except Exception as error:
        raise InputError(explain(error)) from error
    page = f"{address}/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey="
    modes = {name: "&compareRunsMode=CHART" * ("compareRunCharts" in state) for name, (_, state) in VIEWS.items()}
    return [f"{question}\n    {page}{name}{modes[name]}" for name, (question, _) in VIEWS.items()]
