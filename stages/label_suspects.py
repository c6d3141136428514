"""List the annotated landmarks of a dataset that unlike methods agree to be elsewhere.

    python -m stages.label_suspects lfpw
    python -m stages.label_suspects lfpw --methods lfpw-modern-128 spiga
    python -m stages.label_suspects lfpw --cross-fit lfpw-quick --folds 5

Reads data/predictions/*.parquet of the dataset's test faces and writes reports/label-suspects/<dataset>.csv and .md, and
pictures of the first suspects into data/label-suspects/<dataset> (into the reports too where they may be shared).

Methods have one vote a kind, that of the most precise one, since copies agree with each other whatever the label. All
experiments are one kind, HRNet, and submissions are one kind if their titles agree up to a comma. Submissions that have
seen the test faces do not vote. With --unlike every one of --methods is a kind of its own.

--cross-fit examines training labels with one method: it trains the experiment on all folds of its training faces but
one, by a hash of the image, and predicts the faces of that one, in turn.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.config.experiment import load_dataset, load_submission
from stages.config.pipeline import read_pipeline
from stages.config.reading import did_you_mean
from stages.data.crops import Crops, read_crops, read_index
from stages.data.faces import Faces
from stages.data.nme import normalisers
from stages.data.scheme import read_scheme
from stages.metrics.label_suspects import score
from stages.metrics.moved_labels import simulate
from stages.metrics.suspect_table import sensitivity, suspect_table
from stages.predictions.table import read_made, read_predictions
from stages.reporting import label_suspects as reporting
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic, atomic_folder

PREDICTIONS, REPORTS, PICTURES = Path("data/predictions"), Path("reports/label-suspects"), Path("data/label-suspects")
NETWORK = "HRNet"
MOVED = (5, 10, 20)  # percent of the normaliser
SEED = 1


def kind(name: str, path: Path) -> str | None:
    """What a method is one of; None for one that has seen the test faces."""
    if read_made(path).submission is None:
        return NETWORK
    if name not in read_pipeline().submissions:
        return name
    about = load_submission(name).described.about
    return None if about.seen_test_faces else about.title.partition(",")[0]


def chosen_methods(dataset: str, named: Sequence[str] | None, unlike: bool) -> dict[str, str]:
    """The kind of each method. Raises `InputError` for a method without predictions of this dataset's test faces."""
    made = {}
    for path in sorted(PREDICTIONS.glob("*.parquet")):
        if named is None or path.stem in named:
            made[path.stem] = read_made(path).dataset
    there = [name for name, of in made.items() if of == dataset]
    if missing := [name for name in named or () if name not in there]:
        there = [path.stem for path in sorted(PREDICTIONS.glob("*.parquet")) if read_made(path).dataset == dataset]
        hint = f"{did_you_mean(missing[0], there)} There are those of: {', '.join(there) or 'none'}."
        raise InputError(f"{PREDICTIONS} has no predictions of {dataset} by {', '.join(missing)}.{hint}")
    kinds = {name: name if unlike else kind(name, PREDICTIONS / f"{name}.parquet") for name in named or there}
    return {name: of for name, of in kinds.items() if of is not None}


def read_points(names: Sequence[str], faces: Faces) -> dict[str, np.ndarray]:
    """By method (N, K, 2) image px; NaN for a landmark of the dataset that it does not predict."""
    points = {}
    for name in names:
        predictions = read_predictions(PREDICTIONS / f"{name}.parquet", faces)
        points[name] = np.full(faces.landmarks.shape, np.nan)
        points[name][:, predictions.made.landmarks] = predictions.points
    return points


def voters(kinds: Mapping[str, str], points: Mapping[str, np.ndarray], truth: np.ndarray) -> dict[str, str]:
    """The most precise method of each kind, by kind; all labels that it does not predict count as infinitely wrong."""

    def median_error(name: str) -> float:
        distance = np.hypot(*np.moveaxis(points[name] - truth, -1, 0))[np.isfinite(truth).all(-1)]
        return float(np.median(np.where(np.isnan(distance), np.inf, distance)))

    ranked = sorted(kinds, key=median_error)
    return {
        of: next(name for name in ranked if kinds[name] == of) for of in dict.fromkeys(kinds[name] for name in ranked)
    }


def write(
    dataset: str,
    crops: Crops,
    points: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    false_alarms: float,
    what: str,
) -> None:
    """Score the labels of these faces by the methods `kinds`, and write the list, the page and the pictures as `what`."""
    data, scheme, faces = load_dataset(dataset, "about"), read_scheme(dataset), crops.faces
    lengths = normalisers(faces.landmarks, faces.side, scheme.normalisers())[scheme.normaliser]
    votes = np.stack([points[name] for name in kinds.values()])
    try:
        scores = score(votes, faces.landmarks, lengths)
    except ValueError as error:
        raise InputError(f"{dataset}: {error}. It needs more faces.") from None
    suspects = scores.suspects(false_alarms)
    table = suspect_table(scores, suspects, faces.landmarks, lengths, faces.face_id, scheme.groups)
    labels = int(np.isfinite(scores.score).sum())
    share = max(len(table), 20) / labels
    options = {"share": share, "false_alarms": false_alarms, "seed": SEED}
    found = [simulate(scores, votes, faces.landmarks, lengths, by=by, **options) for by in MOVED]
    nmes = {name: sensitivity(p, faces.landmarks, lengths, suspects) for name, p in points.items()}
    sheets = reporting.sheets(crops, table, {name: points[name] for name in kinds.values()}, faces.landmarks)

    with atomic_folder(PICTURES / what) as out:
        for name, picture in sheets.items():
            (out / name).write_bytes(picture)
    shared = {}
    if data.about.share_pictures:
        with atomic_folder(REPORTS / what) as out:
            for name in sheets:
                shutil.copy(PICTURES / what / name, out / name)
                shared[name] = f"{what}/{name}"
    with atomic(REPORTS / f"{what}.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    text = reporting.page(
        what, data.about.title, scheme.normaliser, table, labels, false_alarms, kinds, found, nmes,
        list(shared.values()), PICTURES / what,
    )  # fmt: skip
    with atomic(REPORTS / f"{what}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(
        f"{REPORTS / what}.csv: {len(table)} of {labels} labels are doubtful, at most {100 * false_alarms:g} % of them "
        f"expected false alarms; by {', '.join(f'{method} ({of})' for of, method in kinds.items())}\n"
        f"{REPORTS / what}.md: the page; {PICTURES / what}: {len(sheets)} sheets of pictures"
    )


def main(dataset: str, named: Sequence[str] | None, unlike: bool, false_alarms: float) -> None:
    load_dataset(dataset, "about")  # before anything else: is it one?
    crops = Path("data/crops") / dataset
    kinds = chosen_methods(dataset, named, unlike)
    faces, _ = read_index(crops, "test")
    points = read_points(list(kinds), faces)
    chosen = voters(kinds, points, faces.landmarks)
    if len(chosen) < 2:
        raise InputError(
            f"{dataset}: two unlike methods are needed, and there {'is' if chosen else 'are'} "
            f"{', '.join(chosen) or 'no predictions'}. Add somebody else's predictions (docs/methods.md), say with "
            "--methods A B --unlike that two experiments are unlike, or examine the training labels with --cross-fit."
        )
    write(dataset, read_crops(crops, "test"), points, chosen, false_alarms, dataset)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/datasets/")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="experiments and submissions; else all there are")
    parser.add_argument("--unlike", action="store_true", help="each of --methods is a kind of its own")
    parser.add_argument(
        "--false-alarms", type=float, default=0.2, metavar="SHARE",
        help="the expected share of false alarms in the list (default: 0.2)",
    )  # fmt: skip
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.dataset, arguments.methods, arguments.unlike, arguments.false_alarms))
