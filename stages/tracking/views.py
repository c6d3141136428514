"""Saved views of the MLflow page, one for each question that runs are compared for, and the links that open them.

MLflow keeps a view as a tag of its experiment: `viewStateShareKey=NAME` in the page's address opens the tag
`mlflow.sharedViewState.NAME`, which holds the page's state as JSON. That form is MLflow's own business, so the views
are made for the versions with which they have been looked at; with another there is the plain table of runs.
"""

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

from stages.system.errors import InputError
from stages.tracking.store import EXPERIMENT, SETTINGS, explain, project_root, store_uri, typed

TESTED = ("3.17",)  # MLflow's versions
TAG = "mlflow.sharedViewState."
NME = "metrics.`test/nme`"
MEASURED = f"{NME} > 0"  # only runs that have been evaluated
COMMON = ("train.lr", "train.epochs", "input.size", "model.width")  # parameters to show where none varies
AXES = 8  # of the parallel coordinates, at most


@dataclass(frozen=True)
class Links:
    """What opens the page: the link of the table of runs, and those of the views by their questions."""

    table: str
    views: dict[str, str] = field(default_factory=dict)
    remark: str = ""


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


def varying(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that have more than one value in the rows, those of fewest values first."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.items():
            values.setdefault(key, set()).add(value)
    return sorted((key for key in values if len(values[key]) > 1), key=lambda key: (len(values[key]), key))


def columns(runs: Sequence) -> list[str]:
    """The columns of the table: what tells the runs apart, then the figures that they have, NME and interval first."""
    apart = {*varying([run.data.tags for run in runs]), "entry"}
    tags = [tag for tag in ("dataset", "recipe", "entry", "variant", "seed", "dvc_experiment") if tag in apart]
    logged = {key for run in runs for key in run.data.metrics}
    at_threshold = sorted(key for key in logged if key.startswith(("test/fr_", "test/auc_")))
    figures = ["test/nme", "test/nme_ci95_low", "test/nme_ci95_high", *at_threshold, "test/p90",
               "test/nme_perturbed_boxes", "val/nme"]  # fmt: skip
    return [f"tags.`{tag}`" for tag in tags] + [f"metrics.`{key}`" for key in figures if key in logged]


def views(runs: Sequence) -> dict[str, tuple[str, dict[str, object]]]:
    """(the question, the page's state) by name, for the runs of the store that have been evaluated."""
    axes = [key for key in varying([run.data.params for run in runs]) if key != "train.seed"][:AXES]
    table = {"searchFilter": MEASURED, "orderByKey": NME, "orderByAsc": True, "selectedColumns": columns(runs)}
    by_entry = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "entry"}]}
    return {
        "runs": ("Which run is best?", table),
        "variants": ("Which variant, over its seeds?", {**table, "groupBy": by_entry}),
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
                        "type": "PARALLEL", "selectedParams": axes or list(COMMON), "selectedMetrics": ["test/nme"],
                        "showAllRuns": False, "runsCountToCompare": 100,
                    },
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


def version(address: str | None) -> str:
    """MLflow's version: of the server at `address`, "" where it does not say; without one, of the package here."""
    if address is None:
        import mlflow

        return mlflow.__version__
    with suppress(OSError, ValueError), urllib.request.urlopen(f"{address}/version", timeout=5) as answer:
        return answer.read(50).decode("ascii")
    return ""


def save(address: str) -> Links:
    """Keep the views with our MLflow experiment; returns the links that open them at `address`.

    Raises `InputError` where nothing has been tracked yet, and where the store fails.
    """
    os.environ.update(SETTINGS)  # before MLflow is imported
    from mlflow import MlflowClient

    uri = store_uri(project_root())
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise InputError(f"MLflow has no experiment {EXPERIMENT} yet: dvc repro makes its first run.")
        if experiment.lifecycle_stage == "deleted":
            command = typed(f"mlflow experiments restore --experiment-id {experiment.experiment_id}")
            raise InputError(f"the MLflow experiment {EXPERIMENT} was deleted. To have it back: {command}")
        # MLflow opens its page for language models unless told otherwise
        page = f"{address}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        found = version(uri if uri.startswith("http") else None)
        if not found.startswith(tuple(f"{tested}." for tested in TESTED)):
            order = f"&searchFilter={quote(MEASURED)}&orderByKey={quote(NME)}&orderByAsc=true"
            return Links(page + order, remark=f"No saved views: they are made for MLflow {', '.join(TESTED)}, "
                         f"and this is {found or 'another version'}.")  # fmt: skip
        made = views(_evaluated(client, experiment.experiment_id))
        for name, (_, state) in made.items():
            client.set_experiment_tag(experiment.experiment_id, TAG + name, json.dumps(state))
    except InputError:
        raise
    except Exception as error:
        raise InputError(explain(error)) from error
    links = {
        question: f"{page}{'&compareRunsMode=CHART' * ('compareRunCharts' in state)}&viewStateShareKey={name}"
        for name, (question, state) in made.items()
    }
    question, _ = made["runs"]
    return Links(links.pop(question), links)


def _evaluated(client, experiment: str) -> list:
    """All runs of the MLflow experiment that have been evaluated."""
    runs, token = [], None
    while token != "":
        page = client.search_runs([experiment], MEASURED, max_results=1000, page_token=token)
        runs, token = [*runs, *page], page.token or ""
    return runs
