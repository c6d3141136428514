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
from stages.config.schemes import corresponding_landmarks, load_dataset_scheme, scheme_counts
from stages.data.crops import read_index
from stages.data.faces import Faces
from stages.data.scheme import DatasetScheme
from stages.metrics.evaluation import Evaluation, evaluate
from stages.metrics.paired_tests import compare
from stages.metrics.per_face import FaceErrors
from stages.metrics.results import read_results
from stages.predictions.table import Made, Predictions
from stages.reporting import comparisons
from stages.sources import readers
from stages.sources.test_faces import choose_dataset, read_annotation
from stages.submissions import conventions, figures, reading
from stages.submissions.conversion import convert
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


def tell_offset(points: np.ndarray, truth: np.ndarray) -> None:
    """How predictions (N, K, 2) lie from the annotation."""
    offset = conventions.measure_offset(points, truth)
    axes = []
    for axis, value, interval in (("x", offset.x, offset.x_ci95), ("y", offset.y, offset.y_ci95)):
        axes.append(f"{axis} {value:+z.2f}" + (f" [{interval[0]:+z.2f}, {interval[1]:+z.2f}]" if interval else ""))
    print(f"Predicted − annotated, median over landmarks and {offset.n} faces, px [95 %]: {', '.join(axes)}\n")


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
    submission = reading.read(path, form, coco_images)
    faces, where = read_test(dataset, scheme, annotations)
    converted = convert(
        submission, faces, name, scheme, given, corresponding_landmarks(given, scheme), origin=origin,
        source_origin=dataset.source.origin, known=scheme_counts(), what=str(path),
    )  # fmt: skip
    points, landmarks = converted.points, list(converted.landmarks)
    origin, counted = converted.origin, converted.annotation_origin
    made = Made(dataset=name, landmarks=landmarks)
    predictions = Predictions(faces, points, np.full(points.shape[:2], np.nan), made=made)
    evaluation = evaluate(predictions.where(converted.measurable), scheme)
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
    if by_name := converted.matching.by_name:
        print(f"{by_name} images were matched by their name, without the folders of the file\n")
    for warning in converted.warnings():
        warn(warning)
    print(figures.figures_table(metrics))
    tell_predicted(evaluation)
    tell_offset(*converted.measured()[:2])
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
