"""Measure a trained model on the test split.

    python -m stages.evaluate demo-quick
    python -m stages.evaluate --dataset wflw --weights HR18-WFLW.pth --protocol paper --out results/hr18-wflw

The first, which DVC runs, reads models/<experiment> and data/crops/<dataset>/test (under protocol paper the images
themselves), writes data/predictions/<experiment>.parquet (every later table and figure comes from it),
reports/experiments/<experiment>/ and the gallery in data/galleries. The second measures a file of weights as it is on
the dataset's test files: stages/released.py.
"""

import argparse
import importlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages import errors, params, provenance, record
from stages.data.crops import Crops, read_crops, read_index
from stages.data.files import atomic, atomic_folder
from stages.data.geometry import apply, flip_order, invert
from stages.measure import figures
from stages.measure.evaluation import Evaluation, evaluate, mean_shape, outside_input
from stages.model import checkpoint, fit
from stages.model.cost import cost, workload
from stages.protocol import predicted


def gallery(crops: Crops, result: Evaluation) -> bytes:
    """A JPEG of the telling faces, as cut by preprocess."""
    rows, captions = zip(*result.telling(), strict=True)
    chosen = np.array(rows)
    to_crop = invert(crops.to_image[chosen])
    predicted, truth = (apply(to_crop, points[chosen]) for points in (result.points, result.faces.landmarks))
    return figures.encode(figures.gallery(np.stack([crops.images[i] for i in rows]), predicted, truth, captions), "jpg")


def main(name: str) -> None:
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset, "about", "source", "landmarks", "normalisers")
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
    mirror = flip_order(dataset.landmarks.flip_pairs, dataset.landmarks.count)
    found = predicted(model.to(fit.device()), test, experiment.dataset, dataset.source, recipe, mirror)
    points, scores, displaced = found
    measure = dataset.normalisers.definitions(), dataset.normalisers.official
    result = evaluate(test.faces, points, scores, *measure, displaced=displaced)
    baseline = evaluate(test.faces, mean_shape(read_index(folder, "train")[0], test.faces), scores, *measure)
    metrics = result.metrics(baseline)

    identity = provenance.identify(name)
    history = pd.read_csv(trained / "history.csv")
    with record.tracked(identity, len(test)) as run:
        with atomic(Path("data/predictions") / f"{name}.parquet") as temporary:
            pq.write_table(result.predictions(), temporary)
        with atomic(report / "ced.csv") as temporary:
            result.ced().to_csv(temporary, index=False, float_format="%.6f")
        record.write_json(report / "metrics.json", metrics)
        record.write_json(report / "provenance.json", {
            "experiment": name, "dataset": experiment.dataset, "recipe": experiment.recipe,
            "protocol": recipe.evaluate.protocol, "normaliser": dataset.normalisers.official,
            "run": run.name, "fingerprint": identity.fingerprint,
            "hashes": {**identity.hashes, "model": provenance.dvc_hash(trained / "model.safetensors")},
            "environment": provenance.environment(),
            "training": description["training"] | {"input_px": recipe.input.size, "chosen": description["chosen"]},
            "outside_crop": outside_input(test.faces, recipe.input.box),
            "series": provenance.but_for_the_seed(name), "cost": cost(model, recipe.input.size),
            "workload": workload(model.config, recipe.input.size, recipe.evaluate.flip_test),
        })  # fmt: skip
        pictures = Path("data/galleries") / name
        with atomic_folder(pictures) as out:
            (out / "faces.jpg").write_bytes(gallery(test, result))
        with atomic_folder(report / "figures") as out:
            (out / "training.png").write_bytes(figures.encode(figures.training_curve(history), "png"))
            if dataset.about.share_pictures:  # else they stay out of git, in DVC's cache
                shutil.copy(pictures / "faces.jpg", out / "faces.jpg")
        record.log_results(run, name)
    whole = metrics["test"]
    print(
        f"{name}: test NME {whole['nme']:.3f} % of {dataset.normalisers.official} on {whole['n']} faces, "
        f"the mean shape's {whole['nme_mean_shape']:.3f} %; MLflow run {run.name}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", help="a name in params/pipeline.yaml")
    parser.add_argument("--log-restored", action="store_true", help="only enter in MLflow what DVC's cache gave back")
    released = parser.add_argument_group("a file of weights")
    released.add_argument("--dataset", help="a name in params/datasets/, whose test faces it is measured on")
    released.add_argument(
        "--weights", type=Path, help="a released .pth, a .safetensors, or a folder models/<experiment>"
    )
    released.add_argument("--protocol", choices=("exact", "paper"), default="exact", help="paper: the published one")
    released.add_argument("--out", type=Path, help="the folder for metrics.json and predictions.parquet")
    released.add_argument("--data", help="where the dataset's files lie, if not where its parameters say")
    given = parser.parse_args()
    if sum((bool(given.experiment), given.log_restored, bool(given.dataset))) != 1:
        parser.error("name an experiment, or give --dataset with --weights and --out, or --log-restored")
    if given.dataset and not (given.weights and given.out):
        parser.error("--dataset needs --weights and --out")
    work = record.log_restored if given.log_restored else lambda: main(given.experiment)
    if given.dataset:
        # by its name: what DVC runs does not read this module, so a change of it makes no experiment be measured again
        measure = importlib.import_module("stages.released").main
        work = lambda: measure(given.dataset, given.weights, given.protocol, given.out, given.data)  # noqa: E731
    errors.run(work)
