"""Measure a trained model on the test faces of a dataset that it was not trained on, by the landmarks that both have.

    python -m stages.cross demo-quick-on-demo-68

Reads models/<experiment> and data/crops/<dataset>/test, and writes data/predictions/<crossing>.parquet (of the common
landmarks alone) and reports/experiments/<experiment>/crossings/<crossing>.json. Protocol, input and flip test are the
experiment's own; the normaliser is that of the dataset.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stages import errors, params, provenance, record
from stages.data.crops import read_crops, read_index
from stages.data.files import atomic
from stages.data.geometry import flip_order
from stages.measure.evaluation import evaluate, mean_shape
from stages.model import checkpoint, fit
from stages.protocol import predicted


def as_measured(experiment) -> tuple[Any, np.ndarray]:
    """The recipe that the experiment itself is measured with, and the flip order of its landmarks.

    dvc.yaml cannot name their files, which a crossing does not tell: it follows the experiment's provenance.json, which
    changes with them.
    """
    marks = params.dataset(experiment.dataset, "landmarks").landmarks
    recipe = params.recipe(experiment.recipe, experiment.dataset, "input", "evaluate")
    return recipe, flip_order(marks.flip_pairs, marks.count)


def main(name: str) -> None:
    crossing = params.crossing(name)
    experiment = params.experiment(crossing.experiment)
    dataset = params.dataset(crossing.dataset, "source", "landmarks", "normalisers")
    recipe, mirror = as_measured(experiment)
    asked, answered = zip(*params.partners(experiment.dataset, crossing.dataset), strict=True)

    folder = Path("data/crops") / crossing.dataset
    test = read_crops(folder, "test")
    if not len(test):
        raise errors.InputError(f"{folder}: the test split is empty, there is nothing to measure.")
    trained = Path("models") / crossing.experiment
    model = checkpoint.load(trained)[0].to(fit.device())
    found = predicted(model, test, crossing.dataset, dataset.source, recipe, mirror, displaced=False)
    points, scores = (each[:, asked] for each in found[:2])
    measure = dataset.normalisers.definitions(), dataset.normalisers.official
    result = evaluate(test.faces, points, scores, *measure, of=answered)
    shape = mean_shape(read_index(folder, "train")[0], test.faces)[:, answered]
    metrics = result.metrics(evaluate(test.faces, shape, scores, *measure, of=answered))

    identity = provenance.identify(crossing.experiment)
    with record.tracked(identity, len(test), "cross") as run:
        with atomic(Path("data/predictions") / f"{name}.parquet") as temporary:
            pq.write_table(result.predictions(), temporary)
        record.write_json(record.crossing_file(crossing.experiment, name), {
            "experiment": crossing.experiment, "trained_on": experiment.dataset, "dataset": crossing.dataset,
            "protocol": recipe.evaluate.protocol, "normaliser": dataset.normalisers.official,
            "landmarks": answered, "of": dataset.landmarks.count, "metrics": metrics,
            "run": run.name, "fingerprint": identity.fingerprint,
            "hashes": {"data": provenance.dvc_hash(folder),
                       "model": provenance.dvc_hash(trained / checkpoint.WEIGHTS)},
            "environment": provenance.environment(),
        })  # fmt: skip
        record.log_crossing(run, crossing.experiment, name)
    whole = metrics["test"]
    print(
        f"{name}: test NME {whole['nme']:.3f} % of {dataset.normalisers.official} on {whole['n']} faces by "
        f"{len(answered)} of {dataset.landmarks.count} landmarks, the mean shape's {whole['nme_mean_shape']:.3f} %; "
        f"MLflow run {run.name}"
    )


if __name__ == "__main__":
    errors.run(lambda: main(sys.argv[1]))
