"""Saved views of the MLflow page, one for each question that runs are compared for, and the links that open them.

MLflow keeps a view as a tag of its experiment: `viewStateShareKey=NAME` in the page's address opens the tag
`mlflow.sharedViewState.NAME`, which holds the page's state as JSON. That form is MLflow's own business, so the views
are made for the versions with which they have been looked at; with another there is the plain table of runs.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

from stages.system.errors import InputError
from stages.tracking.faults import explain
from stages.tracking.store import EXPERIMENT, SETTINGS, project_root, store_uri, typed

TESTED = ("3.17",)  # MLflow's versions
TAG = "mlflow.sharedViewState."
NME = "metrics.`test/nme`"
MEASURED = f"{NME} > 0"  # only runs that have been evaluated
BY_NME = {"searchFilter": MEASURED, "orderByKey": NME, "orderByAsc": True}
COMMON = ("train.lr", "train.epochs", "input.size", "model.width")  # parameters to show where none varies
AXES = 8  # of the parallel coordinates, at most
PINNED = ("attributes.`Run Name`", "runDateAndNestInfo")  # columns that the page shows first
WIDTHS = {
    **dict(zip(PINNED, (210, 130), strict=True)),
    "metrics.`test/nme_ci95_low`": 120,
    "metrics.`test/nme_ci95_high`": 125,
    "tags.`variant`": 130,
    "tags.`seed`": 55,
}  # px; so that the first nine fit a page of 1280 px
WIDTH = 85  # px, of any other column


@dataclass(frozen=True)
class Links:
    """What opens the page: the link of the table of runs, and those of the views by their questions."""

    table: str
    views: dict[str, str] = field(default_factory=dict)
    remark: str = ""


def _charts(columns: int, height: int, **charts: Mapping[str, object]) -> dict[str, object]:
    """The state of a page of charts by title, `columns` in a row; each chart has the page's own type and settings.

    The list of runs beside the charts is folded, which leaves twice the width.
    """
    place = {"metricSectionId": "charts", "deleted": False, "isGenerated": False}
    listed = [{"uuid": title, "displayName": title.replace("_", " "), **place, **chart}
              for title, chart in charts.items()]  # fmt: skip
    section = {"uuid": "charts", "name": "charts", "display": True, "isReordered": False, "columns": columns,
               "cardHeight": height}  # fmt: skip
    return {"compareRunCharts": listed, "compareRunSections": [section], "runListHidden": True,
            "autoRefreshEnabled": False, "hideEmptyCharts": True}  # fmt: skip


def _table(columns: list[str], **more: object) -> dict[str, object]:
    """The state of the table of runs with these columns from left to right, the lowest NME first."""
    order = [*PINNED, *columns, "duration"]
    widths = {column: WIDTHS.get(column, WIDTH) for column in order}
    return {**BY_NME, "selectedColumns": columns, "columnOrder": order, "columnWidths": widths, **more}


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
    """The columns of the table: NME and interval, what tells the runs apart, and the other figures that they have."""
    logged = {key for run in runs for key in run.data.metrics}
    apart = {*varying([run.data.tags for run in runs]), "entry"}
    nme = ["test/nme", "test/nme_ci95_low", "test/nme_ci95_high"]
    tags = [tag for tag in ("entry", "variant", "seed", "dvc_experiment", "dataset", "recipe") if tag in apart]
    at_threshold = sorted(key for key in logged if key.startswith(("test/fr_", "test/auc_")))
    others = [*at_threshold, "test/p90", "test/nme_perturbed_boxes", "val/nme"]
    return [
        *(f"metrics.`{key}`" for key in nme if key in logged),
        *(f"tags.`{tag}`" for tag in tags),
        *(f"metrics.`{key}`" for key in others if key in logged),
    ]


def views(runs: Sequence) -> dict[str, tuple[str, dict[str, object]]]:
    """(the question, the page's state) by name, for the runs of the store that have been evaluated."""
    axes = [key for key in varying([run.data.params for run in runs]) if key != "train.seed"][:AXES]
    by_series = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "series"}]}
    coordinates = {
        "type": "PARALLEL", "selectedParams": axes or list(COMMON), "selectedMetrics": ["test/nme"],
        "showAllRuns": True, "runsCountToCompare": 1000,
    }  # fmt: skip
    losses = {"val_NME": _line("val/nme"), "training_loss": _line("train/loss"), "learning_rate": _line("lr")}
    pictures = {"faces": "faces", "failure_cases": "failure cases", "by_landmark": "errors by landmark"}
    grids = {title: _images(key) for title, key in pictures.items()}
    return {
        "runs": ("Which run is best?", _table(columns(runs))),
        "variants": (
            "Which variant is best over its seeds?",
            _table(columns(runs), groupBy=by_series),
        ),
        "training": (
            "How did the trainings go?",
            {"runsHiddenMode": "FIRST_20_RUNS", **_charts(2, 400, **losses)},
        ),
        "parameters": (
            "Which parameters make the difference?",
            {**BY_NME, "runsHiddenMode": "SHOW_ALL", **_charts(1, 480, parameters_and_NME=coordinates)},
        ),
        "faces": (
            "What do the faces look like, and where does each fail?",
            {**BY_NME, **_charts(1, 480, **grids)},
        ),
    }


def version(address: str | None) -> str:
    """MLflow's version: of the server at `address`, "" where it does not say; without one, of the package here."""
    if address is None:
        import mlflow

        return mlflow.__version__
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    with suppress(Exception):  # the page is shown without saved views
        answer = http_request(get_default_host_creds(address), "/version", "GET")  # by the user's name and certificate
        return answer.text[:50] if answer.ok else ""
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
