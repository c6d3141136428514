"""What the stages log of an experiment: its training, its evaluation, its cross-dataset evaluations and its pages.

Every stage enters its part in the experiment's one MLflow run and marks it; what DVC restored from its cache, so that
no stage ran, is entered afterwards (`python -m stages.log_restored`).
"""

import json
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from stages.config.experiment import Experiment, load_experiment
from stages.config.pipeline import read_pipeline
from stages.tracking.provenance import Identity, environment, identify
from stages.tracking.run import DataInput, Run, find, track
from stages.tracking.store import typed


def tracked(identity: Identity, stage: str, context: str, faces: int, tags: dict | None = None, **options):
    """The experiment's MLflow run, found or created. context: the split that the stage reads, `training` or `test`."""
    data = DataInput(identity.dataset, identity.hashes["data"], f"data/crops/{identity.dataset}", context, faces)
    tags = identity.tags() | (environment() if tags is None else tags)
    return track(
        identity.experiment, identity.fingerprint, stage, params=identity.parameters, tags=tags, data=data, **options
    )


def log_training(run: Run, experiment: Experiment) -> None:
    """The model, and the course of the training where it was not logged epoch by epoch."""
    if not run.has("history"):
        rows = pd.read_csv(experiment.training / "history.csv").set_index("epoch").iterrows()
        run.log_history((int(epoch), row.dropna().to_dict()) for epoch, row in rows)
        run.mark("history")
    for file in ("model.safetensors", "model.json"):
        run.artifact(experiment.model / file, "model")
    run.mark("train")


def log_evaluation(run: Run, experiment: Experiment) -> None:
    """The metrics, and what else evaluate wrote; the training too, where no train stage of this run has logged it."""
    at_hand = experiment.model / "model.safetensors", experiment.training / "history.csv"
    if not run.has("train") and all(file.exists() for file in at_hand):  # evaluate needs neither
        log_training(run, experiment)
    report, values = experiment.report, {}
    for subset, entry in json.loads((report / "metrics.json").read_text()).items():
        prefix = "test" if subset == "test" else f"test_{subset}"
        values |= {f"{prefix}/{key}": value for key, value in entry.items() if isinstance(value, int | float)}
    details = json.loads((report / "details.json").read_text())
    values |= {f"test/p{p}": value for p, value in details["percentiles"]["test"].items()}
    values["test/spearman_confidence_error"] = details["calibration"]["rank_correlation_faces"]
    values["test/nme_perturbed_boxes"] = details["robustness"] and details["robustness"]["mean"]["nme"]
    run.log({key: value for key, value in values.items() if value is not None})
    for file in ("metrics.json", "ced.csv", "faces.csv", "details.json", "provenance.json"):
        run.artifact(report / file, "results")
    for file in sorted(experiment.galleries.glob("*.jpg")):
        run.artifact(file, "galleries")
    run.picture(experiment.galleries / "faces.jpg", "faces")
    run.picture(experiment.galleries / "failures-test.jpg", "failure cases")
    run.mark("evaluate")


def log_cross_dataset(run: Run, experiment: Experiment) -> None:
    """Metrics on another dataset, under keys with that dataset's name, in the run of the experiment."""
    metrics = json.loads((experiment.report / "metrics.json").read_text())["test"]
    values = {f"test_on_{experiment.dataset}/{key}": value for key, value in metrics.items()}
    run.log({key: value for key, value in values.items() if isinstance(value, int | float)})
    run.artifact(experiment.report / "metrics.json", f"results/{experiment.name}")
    run.mark(f"cross_dataset.{experiment.name}")


def log_pages(run: Run, name: str) -> None:
    """The page of an experiment and its figures, as report renders them."""
    figures = Path("reports/figures") / name
    run.artifact(Path("reports/pages") / f"{name}.md", "results")
    for file in sorted(figures.glob("*.png")):
        run.artifact(file, "figures")
    run.picture(figures / "landmarks.png", "errors by landmark")
    run.mark("report")


def is_current(experiment: Experiment, identity: Identity) -> bool:
    """Whether the results under reports/ are of the experiment as it is now."""
    path = experiment.report / "provenance.json"
    return path.exists() and json.loads(path.read_text())["fingerprint"] == identity.fingerprint


def log_missing(damaged: Collection[str] = ()) -> list[str]:
    """Log what the runs of the pipeline's experiments lack of their current results; a line for each such run.

    damaged: experiments and cross-dataset evaluations whose results are not to be logged. A run that somebody has
    deleted is left alone.
    """
    pipeline, lines = read_pipeline(), []
    for name in (name for name in pipeline.experiments if name not in damaged):
        experiment = load_experiment(name)
        if (
            not (experiment.report / "provenance.json").exists()
            or not (experiment.model / "model.safetensors").exists()
        ):
            continue
        identity = identify(experiment)
        if not is_current(experiment, identity):
            continue
        known = find(identity.experiment, identity.fingerprint)
        if known is None:
            break
        if known.deleted:
            command = typed(f"mlflow runs restore --run-id {known.deleted}")
            lines.append(f"{name}: its MLflow run was deleted, so nothing is entered. To have it back: {command}")
            continue
        missing = [] if "logged.evaluate" in known.tags else [(log_evaluation, experiment)]
        for key, cross in pipeline.cross_dataset.items():
            if cross.experiment == name and key not in damaged and f"logged.cross_dataset.{key}" not in known.tags:
                evaluated = load_experiment(key)
                if is_current(evaluated, identity):
                    missing.append((log_cross_dataset, evaluated))
        if "logged.report" not in known.tags and (Path("reports/pages") / f"{name}.md").exists():
            missing.append((log_pages, name))
        if not missing:
            continue
        metrics = json.loads((experiment.report / "metrics.json").read_text())
        with tracked(identity, "evaluate", "test", metrics["test"]["n"], afterwards=True) as run:
            for log, what in missing:
                log(run, what)
        if run.tracked:
            lines.append(f"{name}: entered in MLflow as run {run.name}")
    return lines
