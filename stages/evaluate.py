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


def log(run: tracking.Run, metrics: dict, history: pd.DataFrame, files: list[Path]) -> None:
    """Enter the results; and the training too, where DVC restored it from its cache and no train stage logged it."""
    if not run.has("train"):
        rows = history.set_index("epoch").iterrows()
        run.log_history((int(epoch), row.dropna().to_dict()) for epoch, row in rows)
        run.mark("train")
    values = {}
    for subset, entry in metrics.items():
        prefix = "test" if subset == "test" else f"test_{subset}"
        values |= {f"{prefix}/{key}": value for key, value in entry.items() if isinstance(value, float)}
    run.log(values)
    for file in files:
        run.artifact(file, "figures" if file.suffix in (".png", ".jpg") else "results")
    run.mark("evaluate")


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

    made_of = provenance.hashes(name, experiment.dataset, experiment.recipe)
    fingerprint = provenance.fingerprint(made_of)
    history = pd.read_csv(trained / "history.csv")
    with tracking.track(
        name, fingerprint, "evaluate",
        params=dataset.plain() | recipe.plain(),
        tags={"dataset": experiment.dataset, "recipe": experiment.recipe, **made_of},
        data=tracking.DataInput(experiment.dataset, made_of["data"], str(folder), "test", len(test)),
    ) as run:  # fmt: skip
        with atomic(Path("data/predictions") / f"{name}.parquet") as temporary:
            pq.write_table(result.predictions(), temporary)
        with atomic(report / "ced.csv") as temporary:
            result.ced().to_csv(temporary, index=False, float_format="%.6f")
        write_json(report / "metrics.json", metrics)
        write_json(report / "provenance.json", {
            "experiment": name, "dataset": experiment.dataset, "recipe": experiment.recipe,
            "protocol": recipe.evaluate.protocol, "normaliser": dataset.normalisers.official,
            "run": run.name, "fingerprint": fingerprint,
            "hashes": made_of | {"model": provenance.dvc_hash(trained / "model.safetensors")},
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
        files = [report / "metrics.json", report / "ced.csv", pictures / "faces.jpg", report / "figures/training.png"]
        log(run, metrics, history, files)
    whole = metrics["test"]
    print(
        f"{name}: test NME {whole['nme']:.3f} % of {dataset.normalisers.official} on {whole['n']} faces, "
        f"the mean shape's {whole['nme_mean_shape']:.3f} %; MLflow run {run.name}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="a name in params/pipeline.yaml")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.experiment))
