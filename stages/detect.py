"""Detect the test faces of a dataset, so that models are also measured from boxes such as they get in use.

    python -m stages.detect lfpw --detector yunet
    python -m stages.detect demo

Reads the images of train and test; writes data/detections/<dataset>.parquet, the face boxes of the test faces as the
detector finds them, and <dataset>.json, the map from its boxes to face boxes, which is fitted on the training faces
(val included), and how well it fits. Without a detector (params/pipeline.yaml: `detector: null`) the table is empty.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import local

import numpy as np
from tqdm import tqdm

from stages.config.experiment import load_dataset
from stages.data.crops import read_index
from stages.data.faces import Faces, concatenate
from stages.data.geometry import corners, iou
from stages.landmarking.detector import USUAL, Detector, fit
from stages.predictions.detections import Detections, write_detections
from stages.sources.images.checksums import require_unchanged
from stages.sources.images.location import images_folder
from stages.sources.images.reading import read_image
from stages.system import errors
from stages.system.files import write_json
from stages.system.processes import cores

SAME_FACE = 0.4  # intersection over union of a mapped box with the annotated one, from which the face counts as found
FITTED = 30  # training faces at least, or the map is the usual one


def detect(faces: Faces, images: Path, source, what: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The boxes (n, 4), in the annotation's numbering of pixels, and scores (n,) found in the image of each face."""
    names, own = list(dict.fromkeys(faces.image)), local()

    def of_image(name: str) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(own, "detector"):
            own.detector = Detector()  # it cannot be used by two threads at once
        boxes, scores = own.detector.detect(read_image(images / name, source.orientation))
        return boxes + source.origin, scores

    Detector()  # downloaded once, before the threads start
    with ThreadPoolExecutor(cores()) as pool:
        results = tqdm(pool.map(of_image, names), f"detect {what}", len(names), unit="image", disable=None)
        by_name = dict(zip(names, results, strict=True))
    return [by_name[name] for name in faces.image]


def matched(faces: Faces, found: list[tuple[np.ndarray, np.ndarray]], box_map) -> tuple[np.ndarray, np.ndarray]:
    """The detector's box (N, 4) and score (N,) of each face, NaN where none is on it; each box is of one face."""
    boxes, scores, taken = np.full((len(faces), 4), np.nan), np.full(len(faces), np.nan), set()
    pairs, annotated = [], corners(faces.center, faces.side)
    for row, (candidates, _) in enumerate(found):
        overlaps = iou(corners(*box_map.apply(candidates)), annotated[row : row + 1])[:, 0]
        pairs += [(-value, row, i) for i, value in enumerate(overlaps) if value >= SAME_FACE]
    for _, row, i in sorted(pairs):
        if np.isnan(scores[row]) and (faces.image[row], i) not in taken:
            taken.add((faces.image[row], i))
            boxes[row], scores[row] = found[row][0][i], found[row][1][i]
    return boxes, scores


def main(name: str, detector: str | None = None) -> None:
    dataset, out = load_dataset(name, "source"), Path("data/detections")
    crops, source = Path("data/crops") / name, dataset.source
    test = read_index(crops, "test")[0]
    if detector is None:
        nothing = Detections(np.empty((0, 2)), np.empty(0))
        write_detections(out / f"{name}.parquet", "", test.where(np.empty(0, int)), nothing, np.empty(0))
        write_json(out / f"{name}.json", {"detector": None})
        print(f"{out / name}.parquet: no detector is asked for")
        return
    train = concatenate([read_index(crops, split)[0] for split in ("train", "val")])
    images = images_folder(name, source.files, dataset.location)
    require_unchanged(concatenate([train, test]), images, Path("data/raw") / name)
    box_map = USUAL
    boxes, _ = matched(train, detect(train, images, source, "train"), USUAL)
    train_found = int(np.isfinite(boxes[:, 0]).sum())
    if train_found >= FITTED:
        box_map = fit(boxes, train.center, train.side)
    boxes, scores = matched(test, detect(test, images, source, "test"), box_map)
    center, side = box_map.apply(boxes)
    away = np.linalg.norm(center - test.center, axis=1) / test.side
    found = np.isfinite(away)
    quantiles = np.percentile(100 * away[found], [50, 95]).tolist() if found.any() else [None, None]
    write_detections(out / f"{name}.parquet", detector, test, Detections(center, side), scores)
    write_json(out / f"{name}.json", {
        "detector": detector, "map": asdict(box_map), "fitted": train_found >= FITTED,
        "train": len(train), "train_found": train_found,
        "test": len(test), "test_found": int(found.sum()),
        "centre_off_percent": {"p50": quantiles[0], "p95": quantiles[1]},
    })  # fmt: skip
    print(f"{out / name}.parquet: {found.sum()} of {len(test)} test faces found; of their centres half are within "
          f"{quantiles[0]:.1f} % of a side, 95 % within {quantiles[1]:.1f} %" if found.any()
          else f"{out / name}.parquet: none of {len(test)} test faces was found")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/pipeline.yaml")
    parser.add_argument("--detector", choices=("yunet",), help="without it, the table is empty")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.dataset, arguments.detector))
