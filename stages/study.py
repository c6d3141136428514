"""Compare trainings that differ in one thing each, face by face: an ablation, or a curve over a key of the recipe.

    python -m stages.study lfpw-ablation modern no-ema no-flip --title "What each ingredient is worth"
    python -m stages.study lfpw-faces few-* --by train.faces --title "How many faces are enough?"

Names are entries of params/pipeline.yaml that were trained, with all of their seeds that were; `*` stands for any text.
Without --by all are compared with the first one, on val: recipes are never chosen on test. With --by those of one value
of the key are compared with the one among them that has the initial weights of the first, on test, which chooses
nothing. Reads data/training/<experiment>/val.csv or reports/experiments/<experiment>/faces.csv; writes
reports/studies/<name>.json, which `python -m stages.report` shows.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from stages.config.experiment import Experiment, load_experiment
from stages.config.pipeline import read_pipeline
from stages.data.crops import read_index
from stages.data.scheme import read_scheme
from stages.metrics.per_face import FaceErrors, read_face_errors
from stages.metrics.provenance_schema import difference
from stages.metrics.study import Study, compared, variant
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import write_json

STUDIES = Path("reports/studies")
SEED = "train.seed"


def trained(patterns: Sequence[str]) -> dict[str, list[Experiment]]:
    """The experiments that were trained of the entries that the patterns name, by entry, in the order of the patterns.

    Raises `InputError` where a pattern names none, and where they are of several datasets or recipes.
    """
    experiments = read_pipeline().experiments
    chosen: dict[str, list[Experiment]] = {}
    for pattern in patterns:
        names = [name for name, planned in experiments.items() if fnmatchcase(planned.entry, pattern)]
        done = [name for name in names if (Path("data/training") / name / "training.json").exists()]
        if not done:
            what = "none of its experiments is trained" if names else "params/pipeline.yaml has no such entry"
            raise InputError(f"{pattern}: {what}.")
        for name in done:
            entry = chosen.setdefault(experiments[name].entry, [])
            if name not in [experiment.name for experiment in entry]:
                entry.append(load_experiment(name, "about"))
    kinds = {(of.dataset, of.recipe_name) for entry in chosen.values() for of in entry}
    if len(kinds) > 1:
        listed = ", ".join(f"{recipe} on {dataset}" for dataset, recipe in sorted(kinds))
        raise InputError(f"a study compares one recipe on one dataset, and these are {listed}.")
    return chosen


def face_errors(experiment: Experiment, split: str) -> FaceErrors:
    val = split == "val"
    path = experiment.training / "val.csv" if val else experiment.report / "faces.csv"
    try:
        return read_face_errors(path, subsets=not val)
    except FileNotFoundError:
        stage = "train" if val else "evaluate"
        raise InputError(f"{path} is missing: run dvc repro {stage}@{experiment.name}.") from None


def aligned(chosen: dict[str, list[Experiment]], split: str) -> dict[str, list[np.ndarray]]:
    """By entry the NMEs (N,) of each seed, of the same faces."""
    first: FaceErrors | None = None
    found: dict[str, list[np.ndarray]] = {}
    for entry, experiments in chosen.items():
        for experiment in experiments:
            faces = face_errors(experiment, split)
            first = first or faces
            found.setdefault(entry, []).append(faces.aligned_to(first, f"the faces of {experiment.name}").nme)
    return found


def changes(experiment: Experiment) -> dict[str, object]:
    return {key: value for key, value in experiment.changes.items() if key != SEED} | {
        "init": experiment.init_entry or experiment.init
    }


def differs(own: dict[str, object], first: dict[str, object]) -> str:
    """What a variant sets otherwise than the first one, in short; what it leaves as the recipe has it is `recipe's`."""
    values = {key: own.get(key, "recipe's") for key in own | first if own.get(key) != first.get(key)}
    return difference(values)


def value_of(experiment: Experiment, key: str) -> float:
    """The value of a recipe's key; of train.faces, where it is not set, the number of all training faces."""
    section, _, name = key.partition(".")
    value = experiment.parameters["recipe"].get(section, {}).get(name)
    if value is None and key == "train.faces":
        value = len(read_index(experiment.crops, "train")[0])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"--by {key}: {experiment.name} has {value!r} there, and an axis needs a number.")
    return float(value)


def main(name: str, patterns: Sequence[str], title: str, by: str | None = None, note: str = "") -> None:
    chosen, split = trained(patterns), "test" if by else "val"
    nmes = aligned(chosen, split)
    one = {entry: experiments[0] for entry, experiments in chosen.items()}
    first, *others = one
    x = {entry: value_of(experiment, by) if by else None for entry, experiment in one.items()}
    if by:
        reference = {x[entry]: entry for entry in one if one[entry].init_entry == one[first].init_entry}
        pairs = [(reference[x[e]], e) for e in one if x[e] in reference and reference[x[e]] != e]
    else:
        pairs = [(first, other) for other in others]
    own = {entry: {key: v for key, v in changes(experiment).items() if key != by} for entry, experiment in one.items()}
    shared = {key: v for key, v in own[first].items() if all(each.get(key) == v for each in own.values())}
    training = json.loads((one[first].training / "training.json").read_text(encoding="utf-8"))
    experiment = one[first]
    study = Study(
        title=title, dataset=experiment.dataset, split=split, normaliser=read_scheme(experiment.dataset).normaliser,
        faces=len(nmes[first][0]), recipe=experiment.recipe_name, shared=difference(shared), by=by,
        machine=training.get("gpu") or training["cpu"], date=f"{datetime.now(UTC):%Y-%m-%d}", note=note,
        variants=[
            variant(
                nmes[entry], name=entry, differs=differs(own[entry], own[first]), x=x[entry],
                init=str(own[entry]["init"]),
                seeds=[of.parameters["recipe"]["train"]["seed"] for of in experiments],
            )
            for entry, experiments in chosen.items()
        ],
        differences=compared(nmes, pairs) if pairs else [],
    )  # fmt: skip
    write_json(STUDIES / f"{name}.json", study.model_dump())
    print(f"{STUDIES / name}.json: {len(one)} variants on {study.faces} faces of {split}; python -m stages.report")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the study")
    parser.add_argument("entries", nargs="+", help="entries of params/pipeline.yaml, the one to compare with first")
    parser.add_argument("--title", required=True, help="what the study asks, as the report's heading")
    parser.add_argument("--by", metavar="KEY", help="a numeric key of the recipe, such as train.faces")
    parser.add_argument("--note", default="", help="what a reader must know besides, a sentence")
    given = parser.parse_args()
    errors.run(lambda: main(given.name, given.entries, given.title, given.by, given.note))
