"""Measure a file of predictions, by whatever method, on a dataset's test faces, without a pipeline.

    python -m stages.score --dataset 300w --predictions spiga.json --annotations data/300w
    python -m stages.score --dataset wflw --predictions mine.csv --against wflw-paper

Prints the figures with their intervals, how far the predictions lie from the annotation in the median, and the
published figures on the same faces; --against adds the paired comparison with an experiment of reports/experiments. It
writes nothing. Needed are the dataset's annotation files alone; no image is read.

Pixels. A file counts pixels from 0 or from 1 (--origin), and so does an annotation: 300W's .pts files, and the CSV
files made of them, call the first pixel 1, WFLW's 0. Predictions are moved by the difference of these two numbers, a
plain change of names, and by nothing else. The dataset's `source.origin` is a third thing: where the pixels are under
the annotation as it was drawn, measured with mirrored images (1.8 on 300W: its annotators clicked another 0.8 px to the
right). It is for cutting crops; to move predictions by it would give a method what its training has to learn.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stages.config.experiment import load_dataset
from stages.config.pipeline import PARAMS, RESULTS, read_pipeline
from stages.config.schemes import corresponding_landmarks, load_dataset_scheme, load_scheme
from stages.data.crops import read_index
from stages.data.faces import Faces
from stages.data.scheme import DatasetScheme
from stages.metrics.evaluation import Evaluation, evaluate, measurable
from stages.metrics.paired_tests import compare
from stages.metrics.per_face import FaceErrors
from stages.metrics.results import read_results
from stages.predictions.table import Made, Predictions
from stages.reporting import comparisons
from stages.sources import readers
from stages.submissions import conventions, figures, reading, refusals
from stages.submissions.matching import Matching, first, match
from stages.submissions.submission import Submission
from stages.submissions.test_faces import choose_dataset, read_annotation
from stages.system import errors
from stages.system.errors import InputError


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def read_test(dataset, scheme: DatasetScheme, root: Path | None) -> tuple[Faces, str]:
    """The test faces and where they were read: `root`, or what the pipeline has made of the dataset, or its files."""
    prepared = Path("data/crops") / dataset.name
    if root is None and (prepared / "test.parquet").is_file():
        return read_index(prepared, "test")[0], str(prepared / "test.parquet")
    if root is None:
        listed = dataset.name in read_pipeline().datasets
        own = Path("data") / dataset.name
        root = dataset.location if listed else own if own.exists() else Path("data")
    location = readers.locate(dataset.source, root)
    with TemporaryDirectory() as made:
        faces, differing = read_annotation(dataset.name, dataset.about, dataset.source, scheme, location, Path(made))
    for fault in differing:
        warn(f"{dataset.name}: {fault}")
    return faces, f"the annotation in {location}; no image is read, so none is checked"


def numbering(annotation_origin: float) -> int:
    """What an annotation calls the first pixel by its own account, 0 or 1, from where it was measured to lie
    (`source.origin`): clicks lie up to a pixel beyond it (a viewer's pixel i covers i to i + 1), never before it."""
    return int(annotation_origin >= 0.9)


def to_dataset(points: np.ndarray, given: DatasetScheme, scheme: DatasetScheme) -> tuple[np.ndarray, list[int]]:
    """The predicted landmarks that the dataset has too, and which of its landmarks they are."""
    pairs = corresponding_landmarks(given, scheme)
    return points[:, [one for one, _ in pairs]], [other for _, other in pairs]


def tell_matching(matching: Matching, submission: Submission, faces: Faces, what: str) -> None:
    """Which predictions are of no face, and which faces have none."""
    if matching.by_name:
        print(f"{matching.by_name} images were matched by their name, without the folders of the file\n")
    if matching.elsewhere:
        warn(f"{what}: predictions on images that are not in the test split, left out, {first(matching.elsewhere)}")
    if matching.beside:
        warn(f"{what}: predictions on other faces of the test images, left out, {first(matching.beside)}")
    absent = (matching.rows < 0) | np.isnan(submission.points[matching.rows]).all((1, 2))
    if missing := [faces.face_id[i] for i in np.flatnonzero(absent)]:
        warn(
            f"{what}: faces without a prediction, each a failure at every threshold and an infinite error in the NME, "
            f"{first(missing)}"
        )


def tell_offset(evaluation: Evaluation, origin: int) -> None:
    """How predictions lie from the annotation, and whether another numbering of pixels fits better."""
    points, truth = evaluation.predictions.points, evaluation.predictions.truth
    normaliser = evaluation.normalisers[evaluation.scheme.normaliser]
    offset = conventions.measure_offset(points, truth)
    axes = []
    for axis, value, interval in (("x", offset.x, offset.x_ci95), ("y", offset.y, offset.y_ci95)):
        axes.append(f"{axis} {value:+.2f}" + (f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else ""))
    print(f"Predicted − annotated, median over landmarks and {offset.n} faces, px [95 %]: {', '.join(axes)}\n")
    own = float(np.nanmean(conventions.nme(points, truth, normaliser)))
    if shift := conventions.likely_shift(points, truth, normaliser):
        other = origin - shift.by
        advice = f"If the file counts pixels from {other:g}, say so: --origin {other:g}." if other in (0, 1) else (
            "Positions from the edge of the first pixel instead of its centre are half a pixel off: correct the file."
            if abs(shift.by) == 0.5 else "Were the coordinates moved before they were written?"
        )  # fmt: skip
        kind = "half a pixel" if abs(shift.by) == 0.5 else "another numbering of pixels"
        warn(
            f"this looks like {kind}: moved by {shift.by:+g} px in x and y, the predictions would read NME "
            f"{shift.nme:.3f} instead of {own:.3f}. {advice}"
        )


def tell_predicted(evaluation: Evaluation) -> None:
    """The mean of the faces that have a prediction, where some have none."""
    nme = 100 * evaluation.official
    if 0 < (known := np.isfinite(nme)).sum() < len(nme):
        print(f"The {known.sum()} faces that have a prediction alone read NME {nme[known].mean():.3f}, which does not "
              "compare with methods that predict all faces.\n")  # fmt: skip


def against(name: str, ours: str, dataset: str, evaluation: Evaluation) -> str:
    """The paired comparison with an experiment. Raises `InputError` where it is not of these faces and landmarks."""
    results = {result.name: result for result in read_results(RESULTS, None if not name else [name])}
    if name not in results:
        known = sorted(path.parent.name for path in RESULTS.glob("*/metrics.json"))
        raise InputError(f"{RESULTS} has no results of {name!r}. There are: {', '.join(known) or 'none'}.")
    provenance = results[name].provenance
    measured = (dataset, evaluation.scheme.normaliser, evaluation.landmarks)
    if (provenance.dataset, provenance.normaliser, provenance.landmarks) != measured:
        raise InputError(
            f"{name} is measured on {provenance.dataset} by {provenance.normaliser} and {len(provenance.landmarks)} "
            f"landmarks, {ours} on {dataset} by {measured[1]} and {len(measured[2])}: their figures do not compare."
        )
    own = FaceErrors(evaluation.faces.face_id, 100 * evaluation.official, evaluation.faces.subsets)
    theirs = results[name].faces.aligned_to(own, f"the faces of {name} beside those of {ours}")
    table = comparisons.pair_table(name, ours, compare(theirs.nme, own.nme, own.rows()))
    return f"A = {name}, B = {ours}; NME in percent of {measured[1]}\n\n{table}\n{comparisons.LEGEND}"


def main(
    name: str, path: Path, *, form: str | None = None, origin: int | None = None, scheme_name: str | None = None,
    annotations: Path | None = None, coco_images: Path | None = None, experiment: str | None = None,
) -> None:  # fmt: skip
    name, warning = choose_dataset(name, annotations, lambda dataset: load_dataset(dataset, "source").source)
    if warning:
        warn(warning)
    dataset = load_dataset(name, "about", "source", "landmarks", "evaluation")
    scheme = load_dataset_scheme(dataset.landmarks.scheme, dataset.landmarks.normaliser, name)
    given = load_dataset_scheme(scheme_name, "box_side", name) if scheme_name else scheme
    submission, what = reading.read(path, form, coco_images), str(path)
    refusals.require_dataset(submission, name, what)
    partial = submission.landmarks is not None and submission.landmarks != list(range(scheme.count))
    known = {file.stem: load_scheme(file.stem).count for file in sorted((PARAMS / "schemes").glob("*.yaml"))}
    count = len(submission.landmarks) if partial else given.count
    refusals.require_landmarks(submission, count, f"scheme {given.scheme}" if scheme_name else name, known, what)

    faces, where = read_test(dataset, scheme, annotations)
    matching = match(submission, faces, what)
    counted = numbering(dataset.source.origin)
    if origin is None:
        origin = reading.NUMBERED_FROM[submission.form]
    origin = counted if origin is None else origin
    points, landmarks = matching.predicted(submission), submission.landmarks
    if not partial:
        points, landmarks = to_dataset(points, given, scheme)
    if np.isnan(points).all():
        raise InputError(f"{what} says of every test face that it has no prediction (NaN in all coordinates).")
    refusals.require_pixels(points, faces.landmarks, what)
    points = points + (counted - origin)
    made = Made(
        dataset=name, landmarks=landmarks, protocol="unknown", flip_test=False, batch=0, input_px=0, box=0, model="",
        cost={}, workload="",
    )  # fmt: skip
    predictions = Predictions(faces, points, np.full(points.shape[:2], np.nan), made=made)
    evaluation = evaluate(predictions.where(measurable(predictions, scheme)), scheme)
    truth, normaliser = evaluation.predictions.truth, evaluation.normalisers[scheme.normaliser]
    refusals.require_convention(evaluation.predictions.points, truth, normaliser, scheme, what)
    comparison = against(experiment, path.name, name, evaluation) if experiment else ""
    metrics = figures.typed(evaluation.metrics(dataset.evaluation.thresholds))

    print(
        f"{path} on {dataset.about.title}: percent of {scheme.normaliser}, "
        f"{len(evaluation.faces)} test faces from {where}"
    )
    print(f"form {submission.form}; pixels counted from {origin} in the file, from {counted} in the annotation", end="")
    print(f", so moved by {counted - origin:+d}" if counted != origin else "")
    if len(landmarks) < scheme.count or given.scheme != scheme.scheme:
        names = f"the {given.count} of scheme {given.scheme}" if given.scheme != scheme.scheme else "the file"
        print(f"measured by {len(landmarks)} of the dataset's {scheme.count} landmarks, taken from {names} "
              f"({PARAMS}/correspondence.yaml)")  # fmt: skip
    print()
    tell_matching(matching, submission, faces, what)
    print(figures.figures_table(metrics))
    tell_predicted(evaluation)
    tell_offset(evaluation, origin)
    if len(landmarks) == scheme.count:
        print(figures.beside_published(path.name, name, metrics, dataset.source.counts, scheme.normaliser))
    if comparison:
        print(comparison)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="a name in params/datasets/, whose test faces are measured")
    parser.add_argument("--predictions", required=True, type=Path, help="the file, or a folder of .pts files")
    parser.add_argument("--form", choices=reading.FORMS, help="recognised from the content unless given")
    parser.add_argument(
        "--origin", type=int, choices=(0, 1),
        help="what the file calls the first pixel: 0, or 1 for .pts; parquet is as the annotation",
    )  # fmt: skip
    parser.add_argument("--scheme", help="the landmarks predicted, a name in params/schemes/, if not the dataset's own")
    parser.add_argument("--annotations", type=Path, help="the dataset's files, if not where the pipeline has them")
    parser.add_argument("--coco-images", type=Path, help="the COCO annotation file that names the images of the ids")
    parser.add_argument("--against", metavar="NAME", help="an experiment in reports/experiments to compare with")
    arguments = parser.parse_args()
    errors.run(
        lambda: main(
            arguments.dataset, arguments.predictions, form=arguments.form, origin=arguments.origin,
            scheme_name=arguments.scheme, annotations=arguments.annotations, coco_images=arguments.coco_images,
            experiment=arguments.against,
        )
    )  # fmt: skip
