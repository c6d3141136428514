"""Measure a trained model on the test split.

    python -m stages.evaluate demo-quick

Reads models/<experiment> and data/crops/<dataset>/test, writes data/predictions/<experiment>.parquet (every later table
and figure comes from it), reports/experiments/<experiment>/ and the gallery in data/galleries.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from tqdm import tqdm

from stages import errors, params, provenance, tracking
from stages.data.crops import Crops, read_crops, read_index
from stages.data.files import atomic, atomic_folder
from stages.data.geometry import apply, flip_order, invert
from stages.measure import figures
from stages.measure.evaluation import Evaluation, evaluate, mean_shape, outside_input
from stages.model import checkpoint, fit
from stages.model.predict import Batches, predict


def gallery(crops: Crops, result: Evaluation) -> bytes:
    """A JPEG of the telling faces, as cut by preprocess."""
    rows, captions = zip(*result.telling(), strict=True)
    chosen = np.array(rows)
    to_crop = invert(crops.to_image[chosen])
    predicted, truth = (apply(to_crop, points[chosen]) for points in (result.points, result.faces.landmarks))
    return figures.encode(figures.gallery(np.stack([crops.images[i] for i in rows]), predicted, truth, captions), "jpg")


def write_json(path: Path, content: dict) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


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
    for file in (*sorted((report / "figures").glob("training.png")), Path("data/galleries") / name / "faces.jpg"):
        run.artifact(file, "figures")
    run.mark("evaluate")


def tracked(identity: provenance.Identity, faces: int):
    """The experiment's MLflow run, found or made."""
    source = f"data/crops/{identity.dataset}"
    return tracking.track(
        identity.experiment, identity.fingerprint, "evaluate",
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


def main(name: str) -> None:
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset, "about", "landmarks", "normalisers")
    recipe = params.recipe(experiment.recipe, experiment.dataset, "input", "evaluate")
    folder, trained, report = (
        Path("data/crops") / experiment.dataset,
        Path("models") / name,
        Path("reports/experiments") / name,
    )
    test = read_crops(folder, "test")
    if not len(test):
        raise errors.InputError(f"{folder}: the test split is empty, there is nothing to measure.")
    model, description = checkpoint.load(trained)
    order = flip_order(dataset.landmarks.flip_pairs, dataset.landmarks.count) if recipe.evaluate.flip_test else None
    found, scores = predict(
        model.to(fit.device()), Batches(test.images, test.context, recipe.input), batch=recipe.evaluate.batch,
        flip_order=order, progress=lambda steps: tqdm(steps, f"evaluate {name}", mininterval=1, disable=None),
    )  # fmt: skip
    measure = dataset.normalisers.definitions(), dataset.normalisers.official
    result = evaluate(test.faces, apply(test.to_image, found), scores, *measure)
    baseline = evaluate(test.faces, mean_shape(read_index(folder, "train")[0], test.faces), scores, *measure)
    metrics = result.metrics(baseline)

    identity = provenance.identify(name)
    history = pd.read_csv(trained / "history.csv")
    with tracked(identity, len(test)) as run:
        with atomic(Path("data/predictions") / f"{name}.parquet") as temporary:
            pq.write_table(result.predictions(), temporary)
        with atomic(report / "ced.csv") as temporary:
            result.ced().to_csv(temporary, index=False, float_format="%.6f")
        write_json(report / "metrics.json", metrics)
        write_json(report / "provenance.json", {
            "experiment": name, "dataset": experiment.dataset, "recipe": experiment.recipe,
            "protocol": recipe.evaluate.protocol, "normaliser": dataset.normalisers.official,
            "run": run.name, "fingerprint": identity.fingerprint,
            "hashes": {**identity.hashes, "model": provenance.dvc_hash(trained / "model.safetensors")},
            "environment": provenance.environment(),
            "training": description["training"] | {"input_px": recipe.input.size, "chosen": description["chosen"]},
            "outside_crop": outside_input(test.faces, recipe.input.box),
        })  # fmt: skip
        pictures = Path("data/galleries") / name
        with atomic_folder(pictures) as out:
            (out / "faces.jpg").write_bytes(gallery(test, result))
        with atomic_folder(report / "figures") as out:
            (out / "training.png").write_bytes(figures.encode(figures.training_curve(history), "png"))
            if dataset.about.share_pictures:  # else they stay out of git, in DVC's cache
                shutil.copy(pictures / "faces.jpg", out / "faces.jpg")
        log_results(run, name)
    whole = metrics["test"]
    print(
        f"{name}: test NME {whole['nme']:.3f} % of {dataset.normalisers.official} on {whole['n']} faces, "
        f"the mean shape's {whole['nme_mean_shape']:.3f} %; MLflow run {run.name}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", help="a name in params/pipeline.yaml")
    parser.add_argument("--log-restored", action="store_true", help="only enter in MLflow what DVC's cache gave back")
    arguments = parser.parse_args()
    if arguments.log_restored == bool(arguments.experiment):
        parser.error("name an experiment, or give --log-restored")
    errors.run(log_restored if arguments.log_restored else lambda: main(arguments.experiment))
