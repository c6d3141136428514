"""Enter trained models in MLflow's registry, to be served, and to be found by an alias.

    python -m stages.register demo-quick --alias champion
    python -m stages.register --best demo --alias champion
    MLFLOW_TRACKING_URI=sqlite:///mlflow.db mlflow models serve -m models:/landmarks-demo@champion --env-manager local
    python -m stages.landmarks models:/landmarks-demo@champion photographs --out found

The first logs the model into the MLflow run of its results, from code and without a pickle, and makes it a version of
landmarks-<dataset>; one that is there already is not logged again. It holds the weights, the calibration, the detector
and the code, 10 to 80 MB, so it is made on request and not by every training.

--best applies one rule: of the experiments on a dataset whose models are here, the alias goes to the one with the
lowest NME on val among those that are significantly better there than its present holder, by the paired test of the
report over all of them (p < 0.05); who comes first needs no test. The test split is not read.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from stages.config.experiment import Experiment, load_dataset, load_experiment
from stages.config.pipeline import read_pipeline
from stages.config.reading import did_you_mean
from stages.data.crops import Crops, read_crops
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme, read_scheme
from stages.inference import calibration, uncertainty
from stages.landmarking.detector import FILE, SHA256, URL
from stages.metrics.intervals import MINIMUM_FACES
from stages.metrics.paired_tests import SIGNIFICANCE, Difference, family
from stages.model import checkpoint
from stages.sources.download import download
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import digest
from stages.tracking import registry
from stages.tracking.provenance import content_hash, short_hash
from stages.tracking.results import log_missing
from stages.tracking.run import find
from stages.tracking.store import typed

BATCH = 8  # faces


@dataclass(frozen=True)
class Result:
    """What an experiment's committed results say of it. weights: the md5 of its model's."""

    fingerprint: str
    weights: str


def result_of(experiment: Experiment) -> Result:
    """Raises `InputError` where there are no results, or they are of other weights than those here."""
    path, weights = experiment.report / "provenance.json", experiment.model / checkpoint.WEIGHTS
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        result = Result(made["fingerprint"], made["hashes"]["model"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: there are no results of {experiment.name}: run dvc repro.") from None
    if not weights.is_file():
        raise InputError(f"{weights} is missing: run dvc repro (or dvc pull).")
    if digest(weights, "md5") != result.weights:
        raise InputError(f"{path} is of other weights than {weights}: run dvc repro.")
    return result


def run_of(experiment: Experiment, fingerprint: str) -> str:
    """The id of the MLflow run of its results, which are entered where they are not yet."""
    known = find(experiment.name, fingerprint)
    if known is not None and not known.id and not known.deleted:
        log_missing()
        known = find(experiment.name, fingerprint)
    if known is None:
        raise InputError("nothing is tracked (LANDMARKS_TRACKING=off, or no MLflow store), so nothing is registered.")
    if known.deleted:
        command = typed(f"mlflow runs restore --run-id {known.deleted}")
        raise InputError(f"the MLflow run of {experiment.name} was deleted. To have it back: {command}")
    if not known.id:
        raise InputError(f"MLflow has no run of these results of {experiment.name}: run dvc repro, which enters one.")
    return known.id


def register(experiment: Experiment) -> str:
    """The version of landmarks-<dataset> that is this model; logged and registered where there is none."""
    result, name = result_of(experiment), registry.registered_name(experiment.dataset)
    run_id, fitted = run_of(experiment, result.fingerprint), experiment.calibration
    files = {file: experiment.model / file for file in (checkpoint.WEIGHTS, checkpoint.DESCRIPTION)}
    if fitted.is_file():
        files[calibration.FILE] = fitted
    content = short_hash([content_hash(registry.CODE), *(digest(path) for path in files.values())])
    tags = {"experiment": experiment.name, "weights": result.weights, "content": content}
    known = [version for version in registry.versions(name) if version.tags.get("content") == content]
    if known and known[0].run_id == run_id:
        version, what = str(known[0].version), "is there already"
    else:
        from stages.serving.faces import EXAMPLE, SIGNATURE  # it imports MLflow, whose settings are made by now

        detector = download(URL, SHA256, FILE)
        described = {"signature": SIGNATURE, "input_example": EXAMPLE}
        uri = registry.log_model(experiment.name, files, detector, run_id, **described)
        version, what = registry.register(uri, name, tags), "registered"
    print(f"models:/{name}/{version}: {experiment.name}, {what}")
    return version


def give(name: str, alias: str, version: str) -> None:
    registry.give_alias(name, alias, version)
    print(f"models:/{name}@{alias} is version {version} now. To serve it:")
    print(typed(f"mlflow models serve -m models:/{name}@{alias} --env-manager local"))


def val_errors(folder: Path, val: Crops, scheme: DatasetScheme, what: str) -> np.ndarray:
    """(N,) NME in percent of the faces of val, without the flip test, as models are served."""
    model, description = checkpoint.load(folder)
    if model.landmarks != scheme.count:
        raise InputError(f"{what} has {model.landmarks} landmarks, and the dataset {scheme.count}.")
    options = {"batch": BATCH, "flip_order": None}
    progress = lambda steps: tqdm(steps, what, mininterval=1, disable=None)  # noqa: E731
    points, _, _ = uncertainty.shapes(model, val, checkpoint.input_of(description), **options, progress=progress)
    side = normalisers(val.faces.landmarks, val.faces.side, scheme.normalisers())[scheme.normaliser]
    return 100 * face_errors(points, val.faces.landmarks, side)


def candidates(dataset: str) -> list[str]:
    """The experiments on a dataset whose models are here; says which are not."""
    pipeline = read_pipeline()
    if dataset not in pipeline.datasets:
        raise InputError(
            f"there is no dataset {dataset!r} in params/pipeline.yaml.{did_you_mean(dataset, pipeline.datasets)}"
        )
    listed = [name for name, experiment in pipeline.experiments.items() if experiment.dataset == dataset]
    here = [name for name in listed if (Path("models") / name / checkpoint.WEIGHTS).is_file()]
    if left_out := sorted(set(listed) - set(here)):
        print(f"not here, and left out: {', '.join(left_out)}")
    if not here:
        raise InputError(f"no model of an experiment on {dataset} is here: run dvc repro (or dvc pull).")
    return here


def choose(nmes: dict[str, np.ndarray], held: np.ndarray | None) -> tuple[str | None, dict[str, Difference]]:
    """Who gets the alias, None for nobody, and each candidate's difference to the holder's errors, one family.

    nmes: (N,) in percent by candidate. held: those of the holder, None where there is none.
    """
    by_mean = sorted(nmes, key=lambda name: nmes[name].mean())
    if held is None:
        return by_mean[0], {}
    differences = family({name: (held, nmes[name], np.ones(len(held), bool)) for name in by_mean})
    better = [name for name in by_mean if differences[name].significant and differences[name].mean < 0]
    return next(iter(better), None), differences


def best(dataset: str, alias: str) -> None:
    name, val = registry.registered_name(dataset), read_crops(Path("data/crops") / dataset, "val")
    if not len(val):
        raise InputError(f"{dataset} has no val faces to compare models on (crops.val_share).")
    scheme = read_scheme(dataset)
    names = candidates(dataset)
    holder = registry.holder(name, alias)
    nmes = {each: val_errors(Path("models") / each, val, scheme, each) for each in names}
    held = None
    if holder:
        with registry.local_model(f"models:/{name}/{holder.version}") as folder:
            held = val_errors(folder, val, scheme, f"{name}@{alias}")
    chosen, differences = choose(nmes, held)
    rows = [
        [each, f"{nmes[each].mean():.3f}", *shown(differences.get(each))]
        for each in sorted(nmes, key=lambda each: nmes[each].mean())
    ]
    print(f"NME (%) on the {len(val)} val faces of {dataset}")
    print(tabulate(rows, ["experiment", "NME", "against the holder", "p"], disable_numparse=True))
    if holder:
        print(f"holder: {holder.tags.get('experiment')} (version {holder.version}), NME {held.mean():.3f}")
    if chosen is None:
        few = f", as nothing is with fewer than {MINIMUM_FACES} faces" if len(val) < MINIMUM_FACES else ""
        print(f"none is significantly better (p < {SIGNIFICANCE}){few}: version {holder.version} stays {name}@{alias}")
    else:
        give(name, alias, register(load_experiment(chosen)))


def shown(difference: Difference | None) -> tuple[str, str]:
    if difference is None or difference.mean is None:
        return "", ""
    interval = "" if difference.ci95 is None else " [{:+z.3f}, {:+z.3f}]".format(*difference.ci95)
    return f"{difference.mean:+z.3f}{interval}", "" if difference.p is None else f"{difference.p:.2g}"


def main(experiment: str | None, dataset: str | None, alias: str | None) -> None:
    if dataset:
        load_dataset(dataset)
        best(dataset, alias or "champion")
        return
    loaded = load_experiment(experiment)
    if loaded.kind != "experiment":
        raise InputError(f"{experiment} is a cross-dataset evaluation: register {loaded.model_name} instead.")
    version = register(loaded)
    if alias:
        give(registry.registered_name(loaded.dataset), alias, version)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("experiment", nargs="?", help="an experiment of params/pipeline.yaml")
    what.add_argument("--best", metavar="DATASET", help="the experiment on it that the rule chooses")
    parser.add_argument("--alias", help="a name for the version, which any other one loses (with --best: champion)")
    given = parser.parse_args()
    errors.run(lambda: main(given.experiment, given.best, given.alias))
