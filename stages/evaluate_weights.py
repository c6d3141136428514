"""Measure a file of weights on a dataset's test faces, without a pipeline.

    python -m stages.evaluate --dataset wflw --weights HR18-WFLW.pth --protocol paper --out results/hr18-wflw

Reads the dataset's test files alone; writes OUT/metrics.json and OUT/predictions.parquet as the pipeline does, and
prints the figures with the published ones beside them. A released file is an HRNetV2-W18 whose input is that of its
training: 256 px, 1.25 face boxes, contrast stretched. A folder models/<experiment> describes its own input.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from stages.config.experiment import load_dataset
from stages.config.pipeline import read_pipeline
from stages.config.schemes import load_dataset_scheme
from stages.data import crops
from stages.data.faces import Faces
from stages.data.scheme import DatasetScheme
from stages.inference.cost import cost, workload
from stages.inference.protocol import predict_from_crops, predict_from_images
from stages.metrics.evaluation import evaluate
from stages.model import checkpoint
from stages.model.checkpoint import ModelInput
from stages.model.device import device
from stages.model.hrnet import HRNet
from stages.predictions.table import Made, Predictions, write_predictions
from stages.sources import checks, readers
from stages.sources.images.checksums import image_checksums
from stages.sources.images.reading import read_image
from stages.sources.test_faces import choose_dataset
from stages.submissions import figures
from stages.system import errors
from stages.system.files import digest, write_json
from stages.system.processes import cores

RELEASED = ModelInput(size=256, box=1.25, stretch=True)  # of the published training
BATCH = 32  # faces


def read_weights(path: Path, landmarks: int) -> tuple[HRNet, ModelInput]:
    """The model of a released file or of a folder of ours, and its input.

    Raises `InputError` where it cannot be read, is another network, or has another number of landmarks.
    """
    ours = path.name == checkpoint.WEIGHTS and path.with_name(checkpoint.DESCRIPTION).is_file()
    folder = path.parent if ours else path
    if not folder.is_dir():
        model = HRNet(landmarks)
        checkpoint.load_into(model, checkpoint.read_state_dict(path), path=path, part="all")
        return model.eval(), RELEASED
    model, description = checkpoint.load(folder)
    if model.landmarks != landmarks:
        raise errors.InputError(f"{folder}: its model has {model.landmarks} landmarks, and the dataset {landmarks}.")
    return model, checkpoint.input_of(description)


def read_test(dataset, scheme: DatasetScheme, location: Path, out: Path) -> tuple[Faces, Path]:
    """The test faces and the folder of their images; `out` is where a source that makes its images puts them.

    A number of faces that differs from the published one is reported, not refused: a sample may be measured too.
    """
    name, source = dataset.name, dataset.source.model_copy(update={"partial": True})
    with readers.opened(source, location, out) as folder:
        readers.require_files(name, dataset.about, source, folder, ("test",))
        faces, faults = readers.read(name, source, scheme.count, folder, out, ("test",))
    images = out / "images" if (out / "images").is_dir() else folder / source.files.images
    _, image_faults, remarks = image_checksums(images, faces.image)
    faults += image_faults + checks.face_faults(faces, scheme)
    errors.refuse(faults, f"the test faces of {name}", "Fix these, then run the same command again.")
    for fault in checks.count_faults(faces, source.counts, ("test",)):
        print(f"warning: {name}: {fault}", file=sys.stderr)
    for sentence in remarks.sentences(source.orientation):
        print(f"note: {name}: {sentence}", file=sys.stderr)
    return faces, images


def predict_in_blocks(
    model: HRNet, read: Callable[[str], np.ndarray], faces: Faces, cut, model_input: ModelInput, origin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) in image px and scores (N, K) from the crops that preprocess would make; `cut`: its section.

    read: gives the pixels (H, W, 3) uint8 RGB of an image by its name.
    Some batches at a time, since all crops of a benchmark are gigabytes.
    """
    to_image, parts = crops.windows(faces, cut.size, cut.context), []
    with ThreadPoolExecutor(cores()) as pool:

        def crop(row: int) -> np.ndarray:
            window, pixels = crops.in_pixels(to_image[row], origin), read(faces.image[row])
            landmarks = faces.landmarks[row] - origin
            if fault := crops.window_fault(window, landmarks, cut.size, cut.context, pixels.shape[:2]):
                raise errors.InputError(f"face {faces.face_id[row]}: {fault}. Correct or leave out the face.")
            return crops.cut(pixels, window, cut.size)

        for start in tqdm(range(0, len(faces), 8 * BATCH), "predict", mininterval=1, disable=None):
            rows = np.arange(start, min(start + 8 * BATCH, len(faces)))
            block = crops.Crops(np.stack(list(pool.map(crop, rows))), faces.where(rows), to_image[rows])
            options = {"batch": BATCH, "flip_order": None, "perturbed": False}
            parts.append(predict_from_crops(model, block, model_input, **options)[:2])
    points, scores = zip(*parts, strict=True)
    return np.concatenate(points), np.concatenate(scores)


def main(name: str, weights: Path, protocol: str, out: Path, root: str | None) -> None:
    folder = Path(root).expanduser() if root else None
    name, instead = choose_dataset(name, folder, lambda dataset: load_dataset(dataset, "source").source)
    if instead:
        print(f"warning: {instead}", file=sys.stderr)
    dataset = load_dataset(name, "about", "source", "landmarks", "crops", "evaluation")
    scheme = load_dataset_scheme(dataset.landmarks.scheme, dataset.landmarks.normaliser, name)
    model, model_input = read_weights(weights, scheme.count)
    if protocol == "paper" and (model_input.size, model_input.box) != (RELEASED.size, RELEASED.box):
        raise errors.InputError(
            f"{weights}: its model reads {model_input.size} px of {model_input.box:g} face boxes, and protocol paper "
            f"reads {RELEASED.size} px of {RELEASED.box:g}. Measure it with --protocol exact."
        )
    model = model.to(device())
    if folder is None:
        folder = dataset.location if name in read_pipeline().datasets else Path("data")
    location = readers.locate(dataset.source, folder)
    with TemporaryDirectory() as made:
        faces, images = read_test(dataset, scheme, location, Path(made))
        # the published training used the annotations as positions in the image as they are, ours does not
        origin = 0.0 if model_input is RELEASED else dataset.source.origin

        def read(image: str) -> np.ndarray:
            return read_image(images / image, dataset.source.orientation)

        if protocol == "paper":
            points, scores, _ = predict_from_images(
                model, read, faces, origin=origin,
                shrink_stretches=dataset.source.shrink_stretches, batch=BATCH, perturbed=False,
                progress=lambda steps: tqdm(steps, "predict", mininterval=1, disable=None),
            )  # fmt: skip
        else:
            points, scores = predict_in_blocks(model, read, faces, dataset.crops, model_input, origin)
    file = weights / checkpoint.WEIGHTS if weights.is_dir() else weights
    predictions = Predictions(faces, points, scores, made=Made(
        dataset=name, landmarks=list(range(scheme.count)), protocol=protocol, flip_test=False, batch=BATCH,
        input_px=model_input.size, box=model_input.box, model=digest(file, "md5"), cost=cost(model, model_input.size),
        workload=workload(model.config, model_input.size, False),
    ))  # fmt: skip
    evaluation, thresholds = evaluate(predictions, scheme), dataset.evaluation.thresholds
    metrics = evaluation.metrics(thresholds)
    write_predictions(out / "predictions.parquet", predictions, evaluation.nme_columns())
    write_json(out / "metrics.json", metrics)

    print(f"{weights} on {dataset.about.title}, protocol {protocol}; percent, normaliser {scheme.normaliser}\n")
    measured = figures.typed(metrics)
    print(figures.figures_table(measured))
    print(figures.beside_published(weights.name, name, measured, dataset.source.counts, scheme.normaliser))
    print(f"{out}: metrics.json, predictions.parquet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="a name in params/datasets/, whose test faces are measured")
    parser.add_argument(
        "--weights", required=True, type=Path, help="a released .pth, a .safetensors, or a folder models/<experiment>"
    )
    parser.add_argument("--protocol", choices=("exact", "paper"), default="exact", help="paper: the published one")
    parser.add_argument("--out", required=True, type=Path, help="the folder for metrics.json and predictions.parquet")
    parser.add_argument("--data", help="the folder or archive of the dataset's files, if not where the pipeline says")
    given = parser.parse_args()
    errors.run(lambda: main(given.dataset, given.weights, given.protocol, given.out, given.data))
