"""Measure what a dataset's annotations call the centre of the first pixel (`source.origin`).

    python -m tests.bench.origin lfpw-quick

A mirrored image turns an offset of the annotation into its opposite, while the network sees a face like any other. So
the mean of the landmarks predicted from a face and from its mirror image has no offset along the face's horizontal
axis, whatever the network has learned, and the annotation's distance from it is the offset. Faces of the val split are
measured: from the training faces the network knows the annotation by heart. For a face that is rolled by an angle r the
distance is dx·cos r + dy·sin r, which gives both components by least squares; an upright face says nothing about dy,
and what differs between rolled faces for other reasons (occlusion, perspective) is taken for it, so dy is no more than
a check of the order of magnitude.
"""

import argparse

import numpy as np
import torch

from stages.config.experiment import load_experiment
from stages.data.crops import Crops, read_crops
from stages.data.scheme import read_scheme
from stages.model import augment, checkpoint, heatmap
from stages.model.hrnet import fuse_for_inference
from stages.model.predict import Batches

OUTLIER = 5  # scaled median absolute deviations
RESAMPLES = 5000


def offset(lateral: np.ndarray, roll: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dy) and their standard errors (bootstrap over faces), px.

    lateral: (N,) the annotation's mean distance from the prediction along each face's horizontal axis, px. roll: (N,)
    radians. Outliers, of faces that the network has failed on, are left out.
    """
    deviation = np.abs(lateral - np.median(lateral))
    kept = np.flatnonzero(deviation <= OUTLIER * 1.4826 * np.median(deviation))
    columns = np.stack([np.cos(roll), np.sin(roll)], 1)

    def fit(rows: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(columns[rows], lateral[rows], rcond=None)[0]

    rng = np.random.default_rng(1)
    resampled = [fit(rng.choice(kept, len(kept))) for _ in range(RESAMPLES)]
    return fit(kept), np.std(resampled, axis=0)


@torch.inference_mode()
def lateral_distance(network, batches: Batches, crops: Crops, scheme) -> tuple[np.ndarray, np.ndarray]:
    """(N,) `lateral` in image px and (N,) `roll`, as of `offset`; each face is turned upright before it is shown."""
    truth, order = crops.landmarks(), scheme.flip_order()
    across = truth[:, scheme.inter_ocular[1]] - truth[:, scheme.inter_ocular[0]]
    roll = np.arctan2(across[:, 1], across[:, 0])
    cos, sin = torch.from_numpy(np.cos(roll)), torch.from_numpy(np.sin(roll))
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    middle = torch.full((2,), (batches.size - 1) / 2, dtype=torch.float64)
    windows = augment.chain(batches.windows(len(crops)), torch.cat([turn, (middle - turn @ middle)[..., None]], 2))
    points = []
    for part in torch.arange(len(crops)).split(32):
        pixels = batches.pixels(part.numpy(), torch.device("cpu"))
        images = batches.normalise(augment.warp(pixels, windows[part], batches.size))
        seen, mirrored = (
            heatmap.to_input(heatmap.decode(network(shown).float())[0].double()) for shown in (images, images.flip(-1))
        )
        mirrored = mirrored[:, order]
        mirrored[..., 0] = batches.size - 1 - mirrored[..., 0]
        points.append(batches.from_pooled(augment.from_input(windows[part], (seen + mirrored) / 2).numpy()))
    distance = (truth - np.concatenate(points)) * crops.to_image[:, 0, 0, None, None]
    across = distance[..., 0] * np.cos(roll)[:, None] + distance[..., 1] * np.sin(roll)[:, None]
    return np.nanmean(across, 1), roll


def main(name: str) -> None:
    experiment = load_experiment(name, "source")
    model, description = checkpoint.load(experiment.model)
    crops = read_crops(experiment.crops, "val")
    batches = Batches(crops.images, crops.context, checkpoint.input_of(description))
    lateral = lateral_distance(fuse_for_inference(model), batches, crops, read_scheme(experiment.dataset))
    (dx, dy), (error_x, error_y) = offset(*lateral)
    origin = experiment.data.source.origin
    print(f"{name}, {len(crops)} faces of val, source.origin {origin:g}: the first pixel is at")
    print(f"x = {origin + dx:.2f} ± {error_x:.2f}, y = {origin + dy:.2f} ± {error_y:.2f} (standard errors)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="a trained experiment of params/pipeline.yaml")
    main(parser.parse_args().experiment)
