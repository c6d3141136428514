"""List the annotated landmarks of a dataset that unlike methods agree to be elsewhere.

    python -m stages.label_suspects lfpw
    python -m stages.label_suspects lfpw --methods lfpw-modern-128 spiga
    python -m stages.label_suspects --cross-fit lfpw-quick --folds 5

Reads data/predictions/*.parquet of the dataset's test faces. Writes reports/label-suspects/<dataset>.csv and .md, and
pictures of the first suspects into data/label-suspects/<dataset> (into the reports too where they may be shared).

Methods have one vote a kind, that of the most precise one, since copies agree with each other whatever the label. All
experiments are one kind, HRNet, and submissions are one kind if their titles agree up to a comma. Submissions that have
seen the test faces do not vote. With --unlike every one of --methods is a kind of its own.

--cross-fit examines training labels, with one method: it trains an experiment on all folds of its training faces but
one, chosen by a hash of the image, and predicts the faces of that one, in turn. It takes as long as so many trainings;
one that was stopped continues. It writes <dataset>-train.csv and .md.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.config.experiment import Experiment, load_dataset, load_experiment, load_submission
from stages.config.pipeline import read_pipeline
from stages.config.reading import did_you_mean
from stages.data.crops import IMAGE_HASH, Crops, read_crops, read_index, write_index
from stages.data.faces import Faces, concatenate
from stages.data.nme import normalisers
from stages.data.scheme import read_scheme
from stages.data.splits import GROUP
from stages.metrics.label_suspects import score
from stages.metrics.moved_labels import simulate
from stages.metrics.suspect_table import instability, sensitivity, suspect_table
from stages.predictions.table import Predictions, read_made, read_predictions
from stages.reporting import label_suspects as reporting
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic, atomic_folder, require_space
from stages.tracking import provenance

PREDICTIONS, REPORTS, PICTURES = Path("data/predictions"), Path("reports/label-suspects"), Path("data/label-suspects")
NETWORK = "HRNet"  # the kind of all experiments
MOVED = (5, 10, 20)  # percent of the normaliser
FEWEST_MOVED = 20  # labels
SEED = 1


class Method(NamedTuple):
    """points: (N, K, 2) image px, NaN for a landmark that is not predicted. moves: (N, K) px, `instability`."""

    points: np.ndarray
    moves: np.ndarray


def predictions_of(dataset: str) -> list[str]:
    return [path.stem for path in sorted(PREDICTIONS.glob("*.parquet")) if read_made(path).dataset == dataset]


def kind(name: str) -> str | None:
    """What a method is one of; None for one that has seen the test faces."""
    if read_made(PREDICTIONS / f"{name}.parquet").submission is None:
        return NETWORK
    if name not in read_pipeline().submissions:
        return name
    about = load_submission(name).described.about
    return None if about.seen_test_faces else about.title.partition(",")[0]


def choose_methods(dataset: str, named: Sequence[str] | None, unlike: bool) -> dict[str, str]:
    """The kind of each method. Raises `InputError` for one that has no predictions of this dataset's test faces."""
    there = predictions_of(dataset)
    if missing := [name for name in named or () if name not in there]:
        raise InputError(
            f"{PREDICTIONS} has no predictions of {dataset} by {', '.join(missing)}.{did_you_mean(missing[0], there)} "
            f"There are those of: {', '.join(there) or 'none'}."
        )
    kinds = {name: name if unlike and named else kind(name) for name in named or there}
    return {name: of for name, of in kinds.items() if of is not None}


def method(predictions: Predictions) -> Method:
    faces = predictions.faces
    points, moves = np.full(faces.landmarks.shape, np.nan), np.full(faces.landmarks.shape[:2], np.nan)
    points[:, predictions.made.landmarks] = predictions.points
    moves[:, predictions.made.landmarks] = instability(predictions)
    return Method(points, moves)


def voters(kinds: Mapping[str, str], methods: Mapping[str, Method], truth: np.ndarray) -> dict[str, str]:
    """By kind its most precise method, the most precise kind first; what a method does not predict counts as wrong."""
    annotated = np.isfinite(truth).all(-1)

    def median_error(name: str) -> float:
        distance = np.hypot(*np.moveaxis(methods[name].points - truth, -1, 0))[annotated]
        return float(np.median(np.where(np.isnan(distance), np.inf, distance)))

    chosen: dict[str, str] = {}
    for name in sorted(kinds, key=median_error):
        chosen.setdefault(kinds[name], name)
    return chosen


def write(
    name: str, dataset: str, crops: Crops, methods: Mapping[str, Method], votes: Mapping[str, str], false_alarms: float
) -> None:
    """Score the labels of these faces by the methods `votes`, by kind; write list, page and pictures as `name`."""
    about, scheme, faces = load_dataset(dataset, "about").about, read_scheme(dataset), crops.faces
    truth = faces.landmarks
    normaliser = normalisers(truth, faces.side, scheme.normalisers())[scheme.normaliser]
    points = np.stack([methods[voter].points for voter in votes.values()])
    moves = np.fmax.reduce([methods[voter].moves for voter in votes.values()])
    try:
        scores = score(points, truth, normaliser, moves)
    except ValueError as error:
        raise InputError(f"{dataset}: {error}.") from None
    suspects = scores.suspects(false_alarms)
    labels = int(np.isfinite(scores.score).sum())
    table = suspect_table(scores, suspects, truth, normaliser, faces.face_id, scheme.groups)
    options = {"share": max(len(table), FEWEST_MOVED) / labels, "false_alarms": false_alarms, "seed": SEED}
    found = [simulate(scores, points, truth, normaliser, moves, by=by, **options) for by in MOVED]
    nmes = {each: sensitivity(methods[each].points, truth, normaliser, suspects) for each in methods}
    pictures = reporting.sheets(crops, table, {voter: methods[voter].points for voter in votes.values()}, truth)
    shared = [f"{name}/{file}" for file in pictures] if about.share_pictures else []
    text = reporting.page(
        name, about.title, scheme.normaliser, table, labels, false_alarms, votes, found, nmes, shared, PICTURES / name
    )
    for folder in [PICTURES / name, REPORTS / name] if shared else [PICTURES / name]:
        with atomic_folder(folder) as out:
            for file, picture in pictures.items():
                (out / file).write_bytes(picture)
    if not shared:
        shutil.rmtree(REPORTS / name, ignore_errors=True)
    with atomic(REPORTS / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    with atomic(REPORTS / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    expected = f", at most {100 * false_alarms:g} % of them expected false alarms" if len(votes) > 1 else ""
    print(
        f"{REPORTS / name}.csv: {len(table)} of {labels} labels are doubtful{expected}; by "
        f"{', '.join(f'{voter} ({of})' for of, voter in votes.items())}\n"
        f"{REPORTS / name}.md: the page; {PICTURES / name}: {len(pictures)} sheets of pictures"
    )


def main(dataset: str, named: Sequence[str] | None, unlike: bool, false_alarms: float) -> None:
    load_dataset(dataset, "about")  # a wrong name is an error before anything is read
    folder = Path("data/crops") / dataset
    kinds = choose_methods(dataset, named, unlike)
    faces, _ = read_index(folder, "test")
    methods = {name: method(read_predictions(PREDICTIONS / f"{name}.parquet", faces)) for name in kinds}
    votes = voters(kinds, methods, faces.landmarks)
    if len(votes) < 2:
        there = f"there are only those of {', '.join(kinds)} ({', '.join(votes)})" if kinds else "there are none"
        raise InputError(
            f"{dataset}: predictions of two unlike methods are needed, and {there}. Add somebody else's "
            "(docs/methods.md), say with --methods A B --unlike that two experiments are unlike, or examine the "
            "training labels with --cross-fit EXPERIMENT."
        )
    write(dataset, dataset, read_crops(folder, "test"), methods, votes, false_alarms)


def fold_of(faces: Faces, folds: int) -> np.ndarray:
    """(N,) the fold of each face, by the hash of its image, or of its group (a person, a video)."""
    groups = faces.extra.get(GROUP, [""] * len(faces))
    hashes = [
        hashlib.sha256(str(group).encode()).hexdigest() if group else image
        for group, image in zip(groups, faces.extra[IMAGE_HASH], strict=True)
    ]
    return np.array([int(value[16:24], 16) % folds for value in hashes])  # other digits than those that chose val


def write_split(crops: Crops, rows: np.ndarray, folder: Path, split: str) -> None:
    """Some faces as a split of crops, a few images in memory at a time."""
    with atomic(folder / f"{split}.npy") as temporary:
        images = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(rows), *crops.images.shape[1:]))
        for start in range(0, len(rows), 256):
            images[start : start + 256] = crops.images[rows[start : start + 256]]
        images.flush()
    write_index(folder / f"{split}.parquet", crops.faces.where(rows), crops.to_image[rows])


def make_fold(experiment: Experiment, crops: Crops, held_out: np.ndarray, folder: Path) -> None:
    """A project folder of links, but for its crops: `held_out` (N,) is test, the others stay train and val."""
    made = {
        ".": {"data", "models", "reports", ".training", ".git", ".dvc"},
        "data": {"crops", "training", "predictions"},
    }
    for parent, left_out in (made | {"models": {experiment.model_name}}).items():
        (folder / parent).mkdir(parents=True, exist_ok=True)
        for entry in Path(parent).glob("*"):
            if entry.name not in left_out and not (folder / entry).exists():
                (folder / entry).symlink_to(entry.absolute())
    splits = np.array(crops.faces.split)
    for split, rows in (
        ("test", held_out),
        ("train", ~held_out & (splits == "train")),
        ("val", ~held_out & (splits == "val")),
    ):
        write_split(crops, np.flatnonzero(rows), folder / experiment.crops, split)


def train_and_predict(name: str, folder: Path) -> None:
    """The stages of an experiment in a project folder, untracked. Raises `InputError` where one fails."""
    for stage in ("train", "predict"):
        command = [sys.executable, "-m", f"stages.{stage}", name]
        if subprocess.run(command, cwd=folder, env=os.environ | {"LANDMARKS_TRACKING": "off"}).returncode:
            raise InputError(f"python -m stages.{stage} {name} failed in {folder}, see above; then run this again.")


def cross_fit(name: str, folds: int, false_alarms: float) -> None:
    experiment = load_experiment(name)
    work = Path(".training/cross-fit") / f"{name}-{folds}-{provenance.identify(experiment).of_training()[:16]}"
    parts = [read_crops(experiment.crops, split) for split in ("train", "val")]
    faces, to_image = concatenate([part.faces for part in parts]), np.concatenate([part.to_image for part in parts])
    require_space(work, 2 * sum(part.images.nbytes for part in parts), "copies of the crops", cached=False)
    with atomic(work / "all.npy") as temporary:
        images = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(faces), *parts[0].images.shape[1:]))
        for part, start in zip(parts, (0, len(parts[0])), strict=True):
            images[start : start + len(part)] = part.images
        images.flush()
    crops = Crops(np.load(work / "all.npy", mmap_mode="r"), faces, to_image)
    fold = fold_of(faces, folds)
    if empty := sorted(set(range(folds)) - set(fold.tolist())):
        raise InputError(f"{experiment.crops}: no image is in fold {empty[0]} of {folds}. Take fewer folds.")
    found = Method(np.full(faces.landmarks.shape, np.nan), np.full(faces.landmarks.shape[:2], np.nan))
    for k in range(folds):
        folder, rows = work / f"fold-{k}", np.flatnonzero(fold == k)
        if not (folder / experiment.predictions).exists():
            print(f"{name}: fold {k + 1} of {folds}, {len(rows)} faces held out", flush=True)
            make_fold(experiment, crops, fold == k, folder)
            train_and_predict(name, folder)
            shutil.rmtree(folder / experiment.crops)
        predicted = method(read_predictions(folder / experiment.predictions, faces.where(rows)))
        found.points[rows], found.moves[rows] = predicted
    write(f"{experiment.dataset}-train", experiment.dataset, crops, {name: found}, {NETWORK: name}, false_alarms)
    shutil.rmtree(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", help="a name in params/datasets/, whose test labels are examined")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="experiments and submissions; else all there are")
    parser.add_argument("--unlike", action="store_true", help="each of --methods is a kind of its own")
    parser.add_argument(
        "--false-alarms", type=float, default=0.1, metavar="SHARE", help="expected in the list, at most (default: 0.1)"
    )
    parser.add_argument("--cross-fit", metavar="EXPERIMENT", help="examine the labels of its training faces instead")
    parser.add_argument("--folds", type=int, default=5, help="of --cross-fit (default: 5)")
    arguments = parser.parse_args()
    if (arguments.dataset is None) == (arguments.cross_fit is None) or not 0 < arguments.false_alarms < 1:
        parser.error("give a dataset or --cross-fit EXPERIMENT, and a share between 0 and 1")
    if arguments.folds < 2:
        parser.error("--folds is at least 2")
    errors.run(
        lambda: (
            cross_fit(arguments.cross_fit, arguments.folds, arguments.false_alarms)
            if arguments.cross_fit
            else main(arguments.dataset, arguments.methods, arguments.unlike, arguments.false_alarms)
        )
    )
