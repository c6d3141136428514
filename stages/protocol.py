"""Landmarks on a dataset's test faces by a recipe's protocol: `exact` from the crops, `paper` from the images."""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from stages import errors
from stages.data import places
from stages.data.checks import image_checksums
from stages.data.crops import Crops
from stages.data.faces import Faces
from stages.data.geometry import apply
from stages.model.displaced import predict_displaced, predict_paper_displaced
from stages.model.predict import Batches, predict
from stages.model.predict_paper import predict_paper


def require_fetched(faces: Faces, images: Path, raw: Path) -> None:
    """Raise `InputError` listing the images of `faces` that are missing or not those that fetch recorded in `raw`."""
    recorded = pd.read_csv(raw / "checksums.csv").set_index("image")["sha256"]
    found, faults = image_checksums(images, faces.image)
    faults += [f"{images / name}: changed since it was fetched" for name, _, sha in found if recorded.get(name) != sha]
    remedy = "Bring them back, or run dvc repro --force on the fetch stage."
    errors.refuse(faults, f"the test images in {images}", remedy)


def predicted(
    model: nn.Module, test: Crops, name: str, source, recipe, flip_order: np.ndarray | None, displaced: bool = True
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Points (N, K, 2) in image px and scores (N, K); then, if asked for, the points from displaced boxes by name.

    test: the test split of the dataset `name`, of which `source` is that section. recipe: with input and evaluate.
    flip_order: of the model's landmarks, used where the recipe has the flip test.
    """
    run = {"batch": recipe.evaluate.batch}
    run["progress"] = lambda steps: tqdm(steps, f"evaluate {name}", mininterval=1, disable=None)
    if recipe.evaluate.protocol == "paper":
        images = places.images_folder(name, places.data_root(name, source), source)
        require_fetched(test.faces, images, Path("data/raw") / name)
        asked = model, images, test.faces
        run["shrink_stretches"] = source.shrink_stretches
        points, scores = predict_paper(*asked, **run)
        off = predict_paper_displaced(*asked, **run) if displaced else {}
        # the protocol counts pixels from 0, as a model trained on our crops does; the annotations from the origin
        return points + source.origin, scores, {name: each + source.origin for name, each in off.items()}
    run["flip_order"] = flip_order if recipe.evaluate.flip_test else None
    faces = Batches(test.images, test.context, recipe.input)
    points, scores = predict(model, faces, **run)
    off = predict_displaced(model, faces, **run) if displaced else {}
    return apply(test.to_image, points), scores, {name: apply(test.to_image, each) for name, each in off.items()}
