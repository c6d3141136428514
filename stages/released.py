"""Measure a file of weights as people know it on a dataset's test faces, without a pipeline.

    python -m stages.evaluate --dataset wflw --weights HR18-WFLW.pth --protocol paper --out results/hr18-wflw

Reads the dataset's test files alone; writes OUT/metrics.json and OUT/predictions.parquet as the evaluate stage does,
and prints the figures with the published ones beside them. A released file is an HRNetV2-W18 and reads its input as it
was trained to: 256 px, 1.25 face boxes, contrast stretched. A folder models/<experiment> says itself what it is.
"""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from pydantic import ValidationError
from tqdm import tqdm

from stages import errors, params
from stages.data import checks, crops, places, sources
from stages.data.faces import Faces
from stages.data.files import atomic
from stages.data.geometry import apply
from stages.data.images import read_image
from stages.measure.cells import number, table
from stages.measure.evaluation import evaluate
from stages.measure.published import Published, published
from stages.model import checkpoint, fit
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, predict
from stages.model.predict_paper import predict_paper
from stages.record import write_json
from stages.sections import Input

RELEASED = Input(size=256, box=1.25, stretch=True)  # what the published training showed its networks
BATCH = 32  # faces
FIGURES = {"nme": "NME", "fr_0.08": "FR@8", "fr_0.10": "FR@10", "auc_0.08": "AUC@8", "auc_0.10": "AUC@10"}


def read_weights(path: Path, landmarks: int) -> tuple[HRNet, Input]:
    """The model of a released file or of a folder of ours, and what it reads.

    Raises `InputError` where it cannot be read, is another network, or has not this number of landmarks.
    """
    ours = path.name == checkpoint.WEIGHTS and path.with_name(checkpoint.DESCRIPTION).is_file()
    folder = path.parent if ours else path
    if not folder.is_dir():
        model = HRNet(landmarks)
        checkpoint.load_into(model, checkpoint.read_released(path), path=path, part="all")
        return model.eval(), RELEASED
    model, description = checkpoint.load(folder)
    if model.landmarks != landmarks:
        raise errors.InputError(f"{folder}: its model has {model.landmarks} landmarks, and the dataset {landmarks}.")
    try:
        return model, Input(**description["input"])
    except (KeyError, TypeError, ValidationError):
        what = folder / checkpoint.DESCRIPTION
        raise errors.InputError(f"{what} does not say what the model reads (input): train it again.") from None


def read_test(name: str, dataset, root: str | Path | None, made: Path) -> tuple[Faces, Path]:
    """The test faces and the folder of their images; `made` is where a source puts images that it makes.

    A number of faces that is not the published one is told, not refused: a sample may be measured too.
    """
    dataset.source = dataset.source.model_copy(update={"partial": True})
    faces, faults = sources.read(name, dataset, root, made, splits=("test",))
    images = made / "images" if (made / "images").is_dir() else places.images_folder(name, root, dataset.source)
    faults += checks.image_checksums(images, faces.image)[1] + checks.normaliser_faults(faces, dataset.normalisers)
    errors.refuse(faults, f"the test faces of {name}", "Mend these, then run the same command again.")
    for each in checks.count_faults(faces, dataset.source.counts, ("test",)):
        print(f"warning: {name}: {each}", file=sys.stderr)
    return faces, images


def choose(name: str, root: str | Path | None) -> str:
    """The dataset that is measured: `name`, or the one that its folder holds the test files of instead."""
    source = params.dataset(name, "source").source
    if source.instead is None or root is None:
        return name

    def complete(each: str) -> bool:
        folder, files = sources.annotations(each, params.dataset(each, "source").source, root, ("test",))
        return all((folder / file).is_file() for file in files)

    if complete(name) or not complete(source.instead):
        return name
    print(
        f"warning: {root} holds the test files of {source.instead}, not of {name}: these are measured", file=sys.stderr
    )
    return source.instead


def predict_exact(
    model: HRNet, images: Path, faces: Faces, cut, of: Input, origin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) in image px and scores (N, K) from the crops that preprocess would make; `cut` is its section.

    Some batches at a time, since all crops of a benchmark are gigabytes.
    """
    to_image = crops.windows(faces, cut.size, cut.context)
    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(row: int) -> np.ndarray:
            window = crops.in_pixels(to_image[row], origin)
            return crops.cut(read_image(images / faces.image[row]), window, cut.size)

        for start in tqdm(range(0, len(faces), 8 * BATCH), "evaluate", mininterval=1, disable=None):
            rows = np.arange(start, min(start + 8 * BATCH, len(faces)))
            part = crops.Crops(np.stack(list(pool.map(one, rows))), faces.where(rows), to_image[rows])
            points, scores = predict(model, Batches(part.images, part.context, of), batch=BATCH)
            found.append((apply(part.to_image, points), scores))
    points, scores = zip(*found, strict=True)
    return np.concatenate(points), np.concatenate(scores)


def beside(name: str, metrics: Mapping[str, dict], counts, figures: list[Published]) -> str:
    """Published figures, the released model's first, under ours on the same subsets; counts: sections.Counts."""
    expected = {"test": counts.test, **counts.subsets}

    def ours(figure: Published) -> str | None:
        """Our subset that has the figure's faces: papers call some test splits "full"."""
        if figure.subset in metrics and figure.n in (None, expected.get(figure.subset)):
            return figure.subset
        return "test" if figure.n is not None and figure.n == expected["test"] else None

    figures = [figure for figure in figures if ours(figure)]
    if not figures:
        return "No figure has been published on these faces under this normaliser.\n"
    columns = list(dict.fromkeys((figure.metric, figure.subset, ours(figure)) for figure in figures))
    columns.sort(key=lambda column: [*FIGURES].index(column[0]))
    rows = [(name, "here", *(number(metrics[own][metric], 2) for metric, _, own in columns))]
    for (method, source), group in groupby(figures, lambda figure: (figure.method, figure.source)):
        values = {(figure.metric, figure.subset): figure.value for figure in group}
        rows.append((method, source, *(number(values.get(column[:2]), 2) for column in columns)))
    header = ("method", "source", *(f"{FIGURES[metric]} {subset}" for metric, subset, _ in columns))
    differ = [
        f"{subset} has {metrics[own]['n']} faces here and {n} there"
        for subset, own, n in dict.fromkeys((figure.subset, ours(figure), figure.n) for figure in figures)
        if n is not None and n != metrics[own]["n"]
    ]
    note = f"\nThese do not compare, the faces differ: {'; '.join(differ)}.\n" if differ else ""
    return table(header, rows, left=2) + note


def main(name: str, weights: Path, protocol: str, out: Path, root: str | None) -> None:
    name = choose(name, root)
    dataset = params.dataset(name, "about", "source", "landmarks", "normalisers", "crops")
    model, of = read_weights(weights, dataset.landmarks.count)
    if protocol == "paper" and (of.size, of.box) != (RELEASED.size, RELEASED.box):
        raise errors.InputError(
            f"{weights}: its model reads {of.size} px of {of.box:g} face boxes, and protocol paper is for "
            f"{RELEASED.size} px of {RELEASED.box:g}. Measure it with --protocol exact."
        )
    model = model.to(fit.device())
    with TemporaryDirectory() as made:
        where = root or places.data_root(name, dataset.source)
        faces, images = read_test(name, dataset, where, Path(made))
        # the published training took the annotations as they stand for positions in the image, ours does not
        origin = 0.0 if of is RELEASED else dataset.source.origin
        if protocol == "paper":
            points, scores = predict_paper(
                model, images, faces, shrink_stretches=dataset.source.shrink_stretches, batch=BATCH,
                progress=lambda steps: tqdm(steps, "evaluate", mininterval=1, disable=None),
            )  # fmt: skip
            points = points + origin
        else:
            points, scores = predict_exact(model, images, faces, dataset.crops, of, origin)
    official = dataset.normalisers.official
    result = evaluate(faces, points, scores, dataset.normalisers.definitions(), official)
    metrics = result.metrics()
    with atomic(out / "predictions.parquet") as temporary:
        pq.write_table(result.predictions(), temporary)
    write_json(out / "metrics.json", metrics)

    print(f"{weights} on {dataset.about.title}, protocol {protocol}; percent, normaliser {official}\n")
    rows = [(each, entry["n"], *(number(entry[key], 2) for key in FIGURES)) for each, entry in metrics.items()]
    print(table(("subset", "n", *FIGURES.values()), rows))
    print(
        beside(weights.name, metrics, dataset.source.counts, [f for f in published(name) if f.normaliser == official])
    )
    print(f"{out}: metrics.json, predictions.parquet")
