"""Measure a table of predictions against the annotation of the test split.

    python -m stages.evaluate demo-quick
    python -m stages.evaluate --dataset wflw --weights HR18-WFLW.pth --protocol paper --out results/hr18-wflw

The first, which DVC runs, reads data/predictions/<name>.parquet, the faces and their crops, and writes
reports/experiments/<name>: metrics.json, ced.csv, faces.csv, details.json, provenance.json, of an experiment the
history of its training and, where the dataset's pictures may be shared, pictures/. The galleries of all datasets are in
data/galleries/<name>.
It knows landmarks and metrics and no network, so the second, which measures a file of weights, is a program of its own:
evaluate_weights.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np

from stages.config.experiment import Experiment, Submitted, load_measured
from stages.data.crops import IMAGE_HASH, Crops, read_crops, read_index
from stages.data.faces import Faces
from stages.data.scheme import read_scheme
from stages.metrics.details import details
from stages.metrics.evaluation import Evaluation, evaluate, mean_shape_predictions, measurable
from stages.metrics.remarks import CAUSES, baseline_remark, left_out_remark, seen_remark
from stages.metrics.results import require_training
from stages.predictions.table import Predictions, read_predictions
from stages.reporting.gallery import gallery
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic, atomic_folder, write_json
from stages.tracking import provenance
from stages.tracking.provenance import Identity
from stages.tracking.results import log_cross_dataset, log_evaluation, tracked


def write_galleries(
    crops: Crops, predictions: Predictions, evaluation: Evaluation, measured: np.ndarray, folder: Path,
    shared: Path, share: bool,
) -> None:  # fmt: skip
    """Pictures of random, best and worst faces and of each subset's failure cases; `shared` gets those for git.

    measured: (N,) bool, the faces of crops and predictions that are the evaluation's.
    """
    row = np.flatnonzero(measured)

    def picture(chosen: list[tuple[int, str]]) -> bytes:
        return gallery(crops, [(int(row[i]), caption) for i, caption in chosen], predictions.points, predictions.truth)

    with atomic_folder(folder) as out:
        (out / "faces.jpg").write_bytes(picture(evaluation.gallery_rows()))
        for subset, rows in evaluation.subsets().items():
            (out / f"failures-{subset}.jpg").write_bytes(picture(evaluation.failure_cases(rows)))
    with atomic_folder(shared) as out:
        if share:
            shutil.copy(folder / "faces.jpg", out / "faces.jpg")
            shutil.copy(folder / "failures-test.jpg", out / "failures.jpg")
        else:  # a file, since git has no empty folders: a clone would lack this out, and DVC would evaluate again
            (out / "README.md").write_text(f"These faces may not be passed on: `dvc pull` puts them into {folder}.\n")


def seen_in_training(faces: Faces, training: Path) -> int | None:
    """How many faces are of images whose checksum train recorded; None where either is not recorded."""
    recorded, checksums = training / "images.txt", faces.extra.get(IMAGE_HASH)
    if checksums is None or not recorded.exists():
        return None
    seen = set(recorded.read_bytes().decode("ascii", "replace").split())
    if not all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in seen):
        raise InputError(f"{recorded} is damaged: restore it with dvc checkout {training}, or train again: dvc repro.")
    return sum(checksum in seen for checksum in checksums)


def origin(
    measured: Experiment | Submitted, identity: Identity, evaluation: Evaluation, run: str, outside: dict | None
) -> dict:
    """provenance.json: what the figures were made of; outside: the analysis of landmarks outside the model's input."""
    made = evaluation.predictions.made
    content = {
        "name": measured.name, "kind": measured.kind, "dataset": measured.dataset, "entry": measured.entry,
        "normaliser": evaluation.scheme.normaliser, "landmarks": made.landmarks,
        "landmark_count": evaluation.scheme.count, "run": run, "fingerprint": identity.fingerprint,
        "series": provenance.series_key(measured, identity),
        "hashes": {**identity.hashes, "data": provenance.dvc_hash(measured.crops)},
        "environment": provenance.environment(),
    }  # fmt: skip
    if isinstance(measured, Submitted):
        return content | {"submission": submission_facts(measured) | made.submission.model_dump()}
    content["hashes"]["model"] = made.model
    return content | {
        "experiment": measured.model_name, "trained_on": measured.trained_on, "recipe": measured.recipe_name,
        "init": measured.init, "set": measured.changes, "parameters": measured.parameters["recipe"],
        "protocol": made.protocol, "input_px": made.input_px, "outside_input": outside and outside["landmarks"],
        "seen_in_training": seen_in_training(evaluation.faces, measured.training),
        "cost": made.cost, "workload": made.workload,
    }  # fmt: skip


def submission_facts(submitted: Submitted) -> dict:
    """What a reader must know of somebody else's predictions."""
    described = submitted.described
    source = described.file and described.file.path or described.method and described.method.function
    return {
        "described_in": submitted.described_in, **described.about.model_dump(), "seed": submitted.seed,
        "source": source or described.command.run,
    }  # fmt: skip


def main(name: str) -> None:
    experiment = load_measured(name, "about", "evaluation")
    scheme, identity = read_scheme(experiment.dataset), provenance.identify(experiment)
    test, (train, _) = read_crops(experiment.crops, "test"), read_index(experiment.crops, "train")
    predictions, report = read_predictions(experiment.predictions, test.faces), experiment.report
    measured = np.ones(len(test), bool)
    if experiment.kind == "experiment":
        require_training(experiment.training)
    if experiment.kind != "experiment":  # the landmarks in common may all lack annotation in some faces
        measured = measurable(predictions, scheme)
        if not measured.any():
            raise InputError(
                f"{name}: none of the {len(test)} test faces of {experiment.dataset} has its {scheme.normaliser} and "
                "one of the landmarks in common annotated. Take it off params/pipeline.yaml."
            )
    evaluation = evaluate(predictions.where(measured), scheme)
    baseline = None
    if len(train):
        baseline = evaluate(mean_shape_predictions(train, evaluation.predictions), scheme)
    metrics = evaluation.metrics(experiment.data.evaluation.thresholds, baseline)
    left_out = [face for face, kept in zip(test.faces.face_id, measured, strict=True) if not kept]
    thresholds = experiment.data.evaluation.thresholds
    analysis = details(evaluation, predictions.made.box, baseline, left_out, thresholds)
    with tracked(identity, "evaluate", "test", len(test)) as run:
        with atomic(report / "ced.csv") as temporary:
            evaluation.ced().to_csv(temporary, index=False, float_format="%.6f")
        with atomic(report / "faces.csv") as temporary:
            evaluation.face_table().to_csv(temporary, index=False, float_format="%.8g")
        write_json(report / "details.json", analysis)
        write_json(report / "metrics.json", metrics)
        made = origin(experiment, identity, evaluation, run.name, analysis["outside_input"])
        write_json(report / "provenance.json", made)
        if experiment.kind == "experiment":
            for file in ("history.csv", "training.json"):  # of its training, for the report
                with atomic(report / file) as temporary:
                    shutil.copyfile(experiment.training / file, temporary)
        write_galleries(
            test, predictions, evaluation, measured, experiment.galleries, report / "pictures",
            experiment.data.about.share_pictures,
        )  # fmt: skip
        (log_cross_dataset if experiment.kind == "cross_dataset" else log_evaluation)(run, experiment)
    whole = metrics["test"]
    mean_shape = whole.get("nme_mean_shape")
    baseline_nme = "" if mean_shape is None else f", the mean shape's {mean_shape:.2f} %"
    nme = "not finite" if whole["nme"] is None else f"{whole['nme']:.2f} %"
    print(
        f"{name}: test NME {nme} of {scheme.normaliser} on {whole['n']} faces by {len(predictions.made.landmarks)} of "
        f"{scheme.count} landmarks{baseline_nme}; MLflow run {run.name}"
    )
    poor = baseline_remark((analysis["mean_shape"] or {}).get("verdict"), whole["nme"], mean_shape)
    seen = seen_remark(made.get("seen_in_training"), whole["n"])
    for remark in filter(None, (poor and f"{poor}. {CAUSES}", seen, left_out_remark(len(left_out), whole["n"]))):
        print(f"warning: {name}: {remark}", file=sys.stderr)


if __name__ == "__main__":
    if any(argument.split("=")[0] in ("--weights", "--dataset") for argument in sys.argv[1:]):
        os.execv(sys.executable, [sys.executable, "-m", "stages.evaluate_weights", *sys.argv[1:]])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="an experiment, cross-dataset evaluation or submission of the pipeline")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.name))
