"""Predict the landmarks of a dataset's test faces with a trained model.

    python -m stages.predict demo-quick
    python -m stages.predict demo-quick-on-demo-68

Reads models/<experiment>, data/crops/<dataset>/test (under protocol paper the images themselves) and the face boxes of
data/detections, from which an experiment predicts a second time where a detector was run; writes
data/predictions/<name>.parquet and, for the model's use, data/calibration/<name>.json: what errors the shape of a heat
map means, fitted on val, and the map from a detector's boxes that `detect` has fitted. It knows networks and images and
no metric: `evaluate` measures what is in that table. A cross-dataset evaluation predicts the landmarks that the model's
scheme and the dataset's have in common, by the protocol of its experiment.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.config.experiment import load_experiment
from stages.config.schemes import corresponding_landmarks
from stages.data.crops import Crops, read_crops
from stages.data.scheme import read_scheme
from stages.inference import uncertainty
from stages.inference.calibration import Calibration
from stages.inference.cost import cost, workload
from stages.inference.protocol import predict_from_crops, predict_from_images
from stages.model import checkpoint
from stages.model.device import device
from stages.model.predict import FusedNetwork
from stages.predictions.detections import read_box_map, read_detections
from stages.predictions.table import Made, Predictions, read_made, write_predictions
from stages.sources.images.checksums import require_unchanged
from stages.sources.images.location import images_folder
from stages.sources.images.reading import read_image
from stages.system import errors
from stages.system.files import digest, write_json


def fit_uncertainty(model, val: Crops, model_input, shape: dict) -> uncertainty.Uncertainty | None:
    """What errors the shapes of heat maps mean, on val; None where it has too few faces. shape: as of `shapes`."""
    if not len(val):
        return None
    points, scores, spreads = uncertainty.shapes(model, val, model_input, **shape)
    errors = np.linalg.norm(points - val.faces.landmarks, axis=-1) / val.faces.side[:, None]
    return uncertainty.fit(errors, scores, spreads)


def main(name: str) -> None:
    experiment = load_experiment(name, "source", "evaluate")
    source, scheme = experiment.data.source, read_scheme(experiment.dataset)
    test = read_crops(experiment.crops, "test")
    if not len(test):
        raise errors.InputError(f"{experiment.crops}: the test split is empty, there is nothing to predict.")
    model, description = checkpoint.load(experiment.model)
    model_input, model_scheme = checkpoint.input_of(description), checkpoint.scheme_of(description)
    cross = experiment.kind == "cross_dataset"
    settings = experiment.recipe.evaluate
    if cross:  # dvc.yaml cannot name its recipe, so it depends on the experiment's own predictions
        settings = read_made(Path("data/predictions") / f"{experiment.model_name}.parquet")
    model_landmarks, landmarks = zip(*corresponding_landmarks(model_scheme, scheme), strict=True)

    detected = Path("data/detections") / f"{experiment.dataset}.parquet"
    detections = None if cross else read_detections(detected, test.faces)
    options = {"batch": settings.batch, "perturbed": not cross, "detections": detections}
    options["progress"] = lambda steps: tqdm(steps, f"predict {name}", mininterval=1, disable=None)
    model = model.to(device())
    if settings.protocol == "paper":
        images = images_folder(experiment.dataset, source.files, experiment.data.location)
        require_unchanged(test.faces, images, Path("data/raw") / experiment.dataset)
        points, scores, perturbed = predict_from_images(
            model, lambda image: read_image(images / image, source.orientation), test.faces,
            origin=source.origin, shrink_stretches=source.shrink_stretches, **options,
        )  # fmt: skip
    else:
        flip_order = model_scheme.flip_order() if settings.flip_test else None
        network = FusedNetwork(model)
        points, scores, perturbed = predict_from_crops(network, test, model_input, flip_order=flip_order, **options)

    def predicted(values: np.ndarray) -> np.ndarray:
        return values[:, model_landmarks]

    fitted, expected = None, None
    if not cross and settings.protocol == "exact":
        shape = {"batch": settings.batch, "flip_order": flip_order}
        fitted = fit_uncertainty(network, read_crops(experiment.crops, "val"), model_input, shape)
        if fitted:
            _, peaks, spreads = uncertainty.shapes(network, test, model_input, **shape)
            expected = fitted.expected(peaks, spreads) * test.faces.side[:, None]
    if not cross:
        calibration = Calibration(boxes=read_box_map(detected.with_suffix(".json")), errors=fitted)
        write_json(experiment.calibration, calibration.model_dump())

    made = Made(
        dataset=experiment.dataset, landmarks=list(landmarks), protocol=settings.protocol,
        flip_test=settings.flip_test, batch=settings.batch, input_px=model_input.size, box=model_input.box,
        model=digest(experiment.model / checkpoint.WEIGHTS, "md5"), cost=cost(model, model_input.size),
        workload=workload(model.config, model_input.size, settings.flip_test), bound=fitted and fitted.bound,
    )  # fmt: skip
    perturbed = {name: predicted(values) for name, values in perturbed.items()}
    predictions = Predictions(test.faces, predicted(points), predicted(scores), perturbed, made, expected)
    write_predictions(experiment.predictions, predictions)
    print(f"{experiment.predictions}: {len(test)} faces, {len(landmarks)} of {scheme.count} landmarks")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="an experiment or a cross-dataset evaluation of params/pipeline.yaml")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.name))
