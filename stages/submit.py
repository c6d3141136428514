"""Make the table of predictions of a submission: somebody else's landmarks of a dataset's test faces.

    python -m stages.submit spiga

Reads params/submissions/<submission>.yaml, the test faces and what that file names: a file of predictions, a Python
function, or a program, which is run over the faces. Writes data/predictions/<name>.parquet, from which `evaluate` and
`report` treat it as an experiment. docs/methods.md says how a method is entered; `python -m stages.score` measures a
file without entering it.
"""

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from stages.config.experiment import Submitted, load_submission
from stages.config.schemes import corresponding_landmarks, load_dataset_scheme, scheme_counts
from stages.data.crops import read_index
from stages.data.faces import SPLITS, concatenate
from stages.data.scheme import read_scheme
from stages.predictions import table
from stages.sources.images.checksums import require_unchanged
from stages.sources.images.location import images_folder
from stages.submissions import methods, reading
from stages.submissions.conversion import convert, numbering
from stages.submissions.methods import ImageFaces
from stages.submissions.submission import Submission
from stages.system import errors
from stages.system.errors import InputError
from stages.tracking.provenance import environment


def load_function(name: str):
    """`package.module:function`. Raises `InputError` where it, or a package that it needs, is not there."""
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise InputError(f"{name}: there is no module {error.name}.") from None
        missing = f"{name} needs the package {error.name}, which is not installed"
        raise InputError(f"{missing}: see docs/methods.md.") from None
    except AttributeError:
        raise InputError(f"{name}: module {module} has no {function}.") from None


def faces_of(submitted: Submitted, *splits: str) -> ImageFaces:
    """The faces of these splits with their images. Raises `InputError` where images are not those that were fetched."""
    source = submitted.data.source
    faces = concatenate([read_index(submitted.crops, split)[0] for split in splits])
    images = images_folder(submitted.dataset, source.files, submitted.data.location)
    require_unchanged(faces, images, Path("data/raw") / submitted.dataset)
    return ImageFaces(faces, images, source.orientation, numbering(source.origin))


def run(submitted: Submitted) -> tuple[Submission, int | None, float | None]:
    """The method's predictions, what it calls the first pixel's centre, and its milliseconds a face."""
    described, training = submitted.described, [split for split in SPLITS if split != "test"]
    train, test = faces_of(submitted, *training), faces_of(submitted, "test")
    seed = {} if submitted.seed is None else {"seed": submitted.seed}
    if described.method:
        name = described.method.function
        predict = load_function(name)(train, **described.method.options, **seed)
        progress = lambda steps: tqdm(steps, submitted.name, unit="image", mininterval=1, disable=None)  # noqa: E731
        return *methods.run_function(predict, test, name, progress), 0
    command = described.command
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, name) for name in ("faces", "train", "out", "time")}
        methods.write_table(files["faces"], test, Path(folder, "images"), landmarks=False)
        methods.write_table(files["train"], train, Path(folder, "images"), landmarks=True)
        values = {**files, "seed": submitted.seed or 0}
        return *methods.run_program(command.run, values, files["out"], command.form, submitted.name), command.origin


def main(name: str) -> None:
    submitted = load_submission(name, "source")
    described, scheme = submitted.described, read_scheme(submitted.dataset)
    given = load_dataset_scheme(described.scheme, scheme.normaliser, name) if described.scheme else scheme
    test, _ = read_index(submitted.crops, "test")
    if described.file:
        beside = described.file.coco_images
        submission = reading.read(Path(described.file.path), described.file.form, beside and Path(beside))
        origin, milliseconds, what = described.file.origin, None, described.file.path
    else:
        submission, milliseconds, origin = run(submitted)
        what = name
    converted = convert(
        submission, test, submitted.dataset, scheme, given, corresponding_landmarks(given, scheme), origin=origin,
        source_origin=submitted.data.source.origin, known=scheme_counts(), what=what,
    )  # fmt: skip
    warnings = converted.warnings()
    made = table.Made(
        dataset=submitted.dataset, landmarks=list(converted.landmarks),
        submission=table.Submitted(
            form=submission.form, scheme=given.scheme, count=given.count, origin=converted.origin,
            annotation_origin=converted.annotation_origin, milliseconds=milliseconds,
            cpu=environment()["cpu"] if milliseconds else "", warnings=warnings,
        ),
    )  # fmt: skip
    predictions = table.Predictions(test, converted.points, converted.scores, made=made)
    table.write_predictions(submitted.predictions, predictions)
    print(f"{submitted.predictions}: {len(test)} faces, {len(converted.landmarks)} of {scheme.count} landmarks")
    for warning in warnings:
        print(f"warning: {name}: {warning}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a submission of params/pipeline.yaml")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.name))
