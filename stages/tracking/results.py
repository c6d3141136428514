"""What the stages log of an experiment: its training, its evaluation, its cross-dataset evaluations and its pages.

Every stage enters its part in the experiment's one MLflow run and marks it; what DVC restored from its cache, so that
no stage ran, is entered afterwards (`python -m stages.log_restored`).
"""

import json
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd

from stages.config.experiment import Experiment, Measured, Submitted, load_experiment, load_measured
from stages.config.pipeline import read_pipeline
from stages.system.errors import InputError
from stages.tracking.provenance import Identity, environment, identify
from stages.tracking.run import DataInput, Run, find, track
from stages.tracking.store import Known, typed


def tracked(identity: Identity, stage: str, context: str, faces: int, tags: dict | None = None, **options):
    """The experiment's MLflow run, found or created. context: the split that the stage reads, `training` or `test`.

    Only a training opens a finished run again, so that the times of a run are those of its training.
    """
    data = DataInput(identity.dataset, identity.hashes["data"], f"data/crops/{identity.dataset}", context, faces)
    tags = identity.tags() | (environment() if tags is None else tags)
    return track(
        identity.experiment, identity.fingerprint, stage, params=identity.parameters, tags=tags, data=data,
        afterwards=stage != "train", **options,
    )  # fmt: skip


def log_training(run: Run, experiment: Experiment) -> None:
    """The model, and the course of the training where it was not logged epoch by epoch."""
    if not run.has("history"):
        path = experiment.training / "history.csv"
        try:
            rows = pd.read_csv(path, dtype=float).set_index("epoch").iterrows()
        except (ValueError, KeyError) as error:  # what is damaged is no table of numbers
            raise InputError(f"{path} is damaged ({error}): restore it with dvc checkout {path.parent}.") from None
        run.log_history((int(epoch), row.dropna().to_dict()) for epoch, row in rows)
        run.mark("history")
    for file in ("model.safetensors", "model.json"):
        run.artifact(experiment.model / file, "model")
    run.mark("train")


def log_submission(run: Run, submitted: Submitted) -> None:
    """An external model with its declared facts."""
    if not run.has("model"):
        about = submitted.described.about.model_dump()
        run.external_model({name: str(value) for name, value in about.items() if value != ""})
        run.mark("model")


def log_evaluation(run: Run, experiment: Experiment | Submitted) -> None:
    """The metrics, and what else evaluate wrote; the training too, where no train stage of this run has logged it."""
    if isinstance(experiment, Submitted):
        log_submission(run, experiment)
    if isinstance(experiment, Experiment) and not run.has("train"):
        at_hand = experiment.model / "model.safetensors", experiment.training / "history.csv"
        if all(file.exists() for file in at_hand):  # evaluate needs neither
            log_training(run, experiment)
    report, values = experiment.report, {}
    for subset, entry in json.loads((report / "metrics.json").read_text()).items():
        prefix = "test" if subset == "test" else f"test_{subset}"
        values |= {f"{prefix}/{key}": value for key, value in entry.items() if isinstance(value, int | float)}
        low, high = entry["nme_ci95"] or (None, None)
        values |= {f"{prefix}/nme_ci95_low": low, f"{prefix}/nme_ci95_high": high}
    details = json.loads((report / "details.json").read_text())
    values |= {f"test/p{p}": value for p, value in details["percentiles"]["test"].items()}
    values["test/spearman_confidence_error"] = (details["calibration"] or {}).get("rank_correlation_faces")
    values["test/nme_perturbed_boxes"] = details["robustness"] and details["robustness"]["mean"]["nme"]
    values["test/covered_by_90_percent_bound"] = (details.get("expected") or {}).get("covered")
    values["test/nme_detector_boxes"] = (details.get("detector") or {}).get("nme")
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


def _fingerprint(experiment: Measured) -> str | None:
    """That of the experiment whose model the results under reports/ are of; None where there are none."""
    path = experiment.report / "provenance.json"
    return json.loads(path.read_text())["fingerprint"] if path.exists() else None


def log_missing(damaged: Collection[str] = ()) -> list[str]:
    """Log what the runs of the pipeline's experiments and submissions lack of their current results; a line for each.

    damaged: those whose results are not to be logged. A run that somebody has deleted is left alone.
    """
    pipeline, lines = read_pipeline(), []
    for name in (name for name in (*pipeline.experiments, *pipeline.submissions) if name not in damaged):
        experiment = load_measured(name)
        fingerprint = _fingerprint(experiment)
        made = experiment.predictions if isinstance(experiment, Submitted) else experiment.model / "model.safetensors"
        if fingerprint is None or not made.exists():
            continue
        known = find(name, fingerprint)
        if known is None:
            break
        crossed = [key for key, cross in pipeline.cross_dataset.items() if cross.experiment == name]
        missing = _missing(experiment, known, [key for key in crossed if key not in damaged])
        if not missing and not known.left:
            continue
        identity = identify(experiment)  # reads all crops
        if identity.fingerprint != fingerprint:
            continue
        if known.deleted:
            command = typed(f"mlflow runs restore --run-id {known.deleted}")
            lines.append(f"{name}: its MLflow run was deleted, so nothing is entered. To have it back: {command}")
            continue
        metrics = json.loads((experiment.report / "metrics.json").read_text())
        with tracked(identity, "evaluate", "test", metrics["test"]["n"]) as run:
            for log, what in missing:
                log(run, what)
        if run.tracked:
            lines.append(f"{name}: entered in MLflow as run {run.name}")
    return lines


def _missing(experiment: Measured, known: Known, crossed: Collection[str]) -> list[tuple[Callable, object]]:
    """What the run of an experiment's results lacks of them and of its cross-dataset evaluations: (log, of what)."""
    missing: list[tuple[Callable, object]] = []
    if "logged.evaluate" not in known.tags:
        missing.append((log_evaluation, experiment))
    for cross in (load_experiment(key) for key in crossed if f"logged.cross_dataset.{key}" not in known.tags):
        if _fingerprint(cross) == _fingerprint(experiment):
            missing.append((log_cross_dataset, cross))
    if "logged.report" not in known.tags and (Path("reports/pages") / f"{experiment.name}.md").exists():
        missing.append((log_pages, experiment.name))
    return missing
