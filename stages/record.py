"""What evaluate and analyse leave: their files, and the experiment's run in MLflow, which they are entered in once."""

import json
from pathlib import Path

import pandas as pd

from stages import params, provenance, tracking
from stages.data.files import atomic


def write_json(path: Path, content: dict) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def log_results(run: tracking.Run, name: str) -> None:
    """Enter what the experiment's files hold; the training too, where no train stage of this run has."""
    trained, report = Path("models") / name, Path("reports/experiments") / name
    if not run.has("train"):  # DVC restored it from its cache
        rows = pd.read_csv(trained / "history.csv").set_index("epoch").iterrows()
        run.log_history((int(epoch), row.dropna().to_dict()) for epoch, row in rows)
        run.artifact(trained / "model.safetensors", "model")
        run.artifact(trained / "model.json", "model")
        run.mark("train")
    values = {}
    for subset, entry in json.loads((report / "metrics.json").read_text()).items():
        prefix = "test" if subset == "test" else f"test_{subset}"
        values |= {f"{prefix}/{key}": value for key, value in entry.items() if isinstance(value, int | float)}
    run.log(values)
    for file in (report / "metrics.json", report / "ced.csv", report / "provenance.json"):
        run.artifact(file, "results")
    gallery = Path("data/galleries") / name / "faces.jpg"
    for file in (*sorted((report / "figures").glob("training.png")), gallery):
        run.artifact(file, "figures")
    run.picture(gallery, "faces")
    run.mark("evaluate")


def log_analysis(run: tracking.Run, name: str) -> None:
    """Enter what analyse left: its figures, and those of its numbers by which runs are compared."""
    report = Path("reports/experiments") / name
    told = json.loads((report / "details.json").read_text())
    values = {f"test/p{p}": value for p, value in told["percentiles"]["test"].items()}
    values["test/rank_correlation"] = told["calibration"]["rank_correlation_faces"]
    values["test/nme_box_off"] = told["robustness"] and told["robustness"]["mean"]["nme"]
    run.log({key: value for key, value in values.items() if value is not None})
    for file in (report / "README.md", report / "details.json", report / "faces.csv"):
        run.artifact(file, "results")
    failures = Path("data/failures") / name
    for folder, files in (("figures", (report / "details").glob("*.png")), ("failures", failures.glob("*.jpg"))):
        for file in sorted(files):
            run.artifact(file, folder)
    run.picture(failures / "test.jpg", "worst and median faces")
    run.picture(report / "details" / "landmarks.png", "errors by landmark")
    run.mark("analyse")


def crossing_file(experiment: str, name: str) -> Path:
    return Path("reports/experiments") / experiment / "crossings" / f"{name}.json"


def log_crossing(run: tracking.Run, experiment: str, name: str) -> None:
    """Enter in the run of an experiment what it finds on another dataset, under keys of that dataset's name."""
    file = crossing_file(experiment, name)
    told = json.loads(file.read_text())
    values = {f"test_on_{told['dataset']}/{key}": value for key, value in told["metrics"]["test"].items()}
    run.log({key: value for key, value in values.items() if isinstance(value, int | float)})
    run.artifact(file, "results")
    run.mark(f"cross.{name}")


def tracked(identity: provenance.Identity, faces: int, stage: str = "evaluate"):
    """The experiment's MLflow run, found or made."""
    source = f"data/crops/{identity.dataset}"
    return tracking.track(
        identity.experiment, identity.fingerprint, stage,
        params=identity.parameters, tags=identity.tags() | provenance.environment(),
        data=tracking.DataInput(identity.dataset, identity.hashes["data"], source, "test", faces),
    )  # fmt: skip


def log_restored() -> None:
    """Enter the experiments of the pipeline whose results DVC restored from its cache, so that no stage logged them."""
    for name in params.pipeline().experiments:
        told = Path("reports/experiments") / name / "provenance.json"
        if not told.exists() or not (Path("models") / name / "history.csv").exists():
            continue
        identity = provenance.identify(name)
        metrics = json.loads(told.with_name("metrics.json").read_text())
        if json.loads(told.read_text())["fingerprint"] == identity.fingerprint:
            with tracked(identity, metrics["test"]["n"]) as run:
                if not run.has("evaluate"):
                    log_results(run, name)
                    print(f"{name}: restored from DVC's cache, entered as MLflow run {run.name}")
                if told.with_name("details.json").exists() and not run.has("analyse"):
                    log_analysis(run, name)
                for crossing, each in params.pipeline().crossings.items():
                    made = each.experiment == name and crossing_file(name, crossing).exists()
                    if made and not run.has(f"cross.{crossing}"):
                        log_crossing(run, name, crossing)
