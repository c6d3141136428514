"""Measure a table of predictions against the annotation of the test split.

    python -m stages.evaluate demo-quick
    python -m stages.evaluate --dataset wflw --weights HR18-WFLW.pth --protocol paper --out results/hr18-wflw

The first, which DVC runs, reads data/predictions/<name>.parquet, the faces and their crops, and writes
reports/experiments/<name>: metrics.json, ced.csv, faces.csv, details.json, provenance.json, the history of the training
and, where the dataset's pictures may be shared, pictures/. The galleries of all datasets are in data/galleries/<name>.
It knows landmarks and metrics and no network, so the second, which measures a file of weights, is a program of its own:
evaluate_weights.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from stages.config.experiment import Experiment, load_experiment
from stages.data.crops import Crops, read_crops, read_index
from stages.data.geometry import outside_window
from stages.data.scheme import read_scheme
from stages.metrics.details import details
from stages.metrics.evaluation import Evaluation, evaluate, mean_shape_predictions
from stages.predictions.table import read_predictions
from stages.reporting.gallery import gallery
from stages.system import errors
from stages.system.files import atomic, atomic_folder, write_json
from stages.tracking import provenance
from stages.tracking.provenance import Identity
from stages.tracking.results import log_cross_dataset, log_evaluation, tracked


def write_galleries(crops: Crops, evaluation: Evaluation, folder: Path, shared: Path, share: bool) -> None:
    """Pictures of random, best and worst faces and of each subset's failure cases; `shared` gets those for git."""
    points = evaluation.predictions.points, evaluation.predictions.truth
    with atomic_folder(folder) as out:
        (out / "faces.jpg").write_bytes(gallery(crops, evaluation.gallery_rows(), *points))
        for subset, rows in evaluation.subsets().items():
            (out / f"failures-{subset}.jpg").write_bytes(gallery(crops, evaluation.failure_cases(rows), *points))
    with atomic_folder(shared) as out:
        if share:  # else they stay out of git, in DVC's cache
            shutil.copy(folder / "faces.jpg", out / "faces.jpg")
            shutil.copy(folder / "failures-test.jpg", out / "failures.jpg")


def origin(experiment: Experiment, identity: Identity, evaluation: Evaluation, run: str, fingerprint: str) -> dict:
    """provenance.json: what the figures were made of."""
    made, faces = evaluation.predictions.made, evaluation.faces
    outside = outside_window(evaluation.predictions.truth, faces.center, faces.side, made.box)
    return {
        "name": experiment.name, "kind": experiment.kind, "experiment": experiment.model_name,
        "dataset": experiment.dataset, "trained_on": experiment.trained_on, "recipe": experiment.recipe_name,
        "init": experiment.init, "protocol": made.protocol, "normaliser": evaluation.scheme.normaliser,
        "landmarks": made.landmarks, "landmark_count": evaluation.scheme.count,
        "run": run, "fingerprint": fingerprint, "series": provenance.series_key(experiment, identity),
        "hashes": {**identity.hashes, "data": provenance.dvc_hash(experiment.crops), "model": made.model},
        "environment": provenance.environment(), "input_px": made.input_px, "outside_input": float(outside.mean()),
        "cost": made.cost, "workload": made.workload,
    }  # fmt: skip


def main(name: str) -> None:
    experiment = load_experiment(name, "about")
    scheme, identity = read_scheme(experiment.dataset), provenance.identify(experiment)
    test, (train, _) = read_crops(experiment.crops, "test"), read_index(experiment.crops, "train")
    predictions = read_predictions(experiment.predictions, test.faces)
    evaluation = evaluate(predictions, scheme)
    baseline = evaluate(mean_shape_predictions(train, predictions), scheme) if len(train) else None
    metrics, report = evaluation.metrics(baseline), experiment.report

    fingerprint = identity.fingerprint
    if experiment.kind == "cross_dataset":  # it is logged in the run of its experiment
        trained = Path("reports/experiments") / experiment.model_name / "provenance.json"
        fingerprint = json.loads(trained.read_text(encoding="utf-8"))["fingerprint"]
    with tracked(identity, "evaluate", "test", len(test)) as run:
        with atomic(report / "ced.csv") as temporary:
            evaluation.ced().to_csv(temporary, index=False, float_format="%.6f")
        with atomic(report / "faces.csv") as temporary:
            evaluation.face_table().to_csv(temporary, index=False, float_format="%.8g")
        write_json(report / "details.json", details(evaluation, predictions.made.box))
        write_json(report / "metrics.json", metrics)
        write_json(report / "provenance.json", origin(experiment, identity, evaluation, run.name, fingerprint))
        if experiment.kind == "experiment":
            for file in ("history.csv", "training.json"):  # of its training, for the report
                with atomic(report / file) as temporary:
                    shutil.copyfile(experiment.training / file, temporary)
        write_galleries(
            test, evaluation, experiment.galleries, report / "pictures", experiment.data.about.share_pictures
        )
        (log_evaluation if experiment.kind == "experiment" else log_cross_dataset)(run, experiment)
    whole = metrics["test"]
    baseline_nme = f", the mean shape's {whole['nme_mean_shape']:.3f} %" if baseline else ""
    nme = "not finite" if whole["nme"] is None else f"{whole['nme']:.3f} %"
    print(
        f"{name}: test NME {nme} of {scheme.normaliser} on {whole['n']} faces by {len(predictions.made.landmarks)} of "
        f"{scheme.count} landmarks{baseline_nme}; MLflow run {run.name}"
    )


if __name__ == "__main__":
    if any(argument.split("=")[0] in ("--weights", "--dataset") for argument in sys.argv[1:]):
        os.execv(sys.executable, [sys.executable, "-m", "stages.evaluate_weights", *sys.argv[1:]])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="an experiment or a cross-dataset evaluation of params/pipeline.yaml")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.name))
