"""What encoding and decoding alone lose, in the exact protocol and in the published one, on all published rows."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.config.schemes import load_scheme
from stages.data.geometry import apply, invert, window_to_image
from stages.model import heatmap, paper
from stages.sources import csv_files
from stages.sources.images.reading import read_image
from tests.bench.measure import Figure, Missing

SHARED = Path(__file__).parents[2] / "../shared"
ANNOTATIONS = {
    "300w": ["face_landmarks_300w_valid.csv", "face_landmarks_300w_test.csv"],
    "wflw": ["face_landmarks_wflw_test_attributes_union.csv"],
}
SIGMA = {"300w": 1.0, "wflw": 1.5}  # of the published training
MARGIN = 1.25  # side of the input in sides of the face box
BATCH = 16


def all_figures(shared: Path = SHARED) -> list[Figure | Missing]:
    if not shared.exists():
        return [Missing("exactness", "the annotations and reference figures are not beside the project")]
    return [figure for name in ANNOTATIONS for figure in round_trips(shared, name)] + [crops(shared)]


def round_trips(shared: Path, name: str) -> list[Figure]:
    """NME of landmarks that were encoded and decoded, in percent of the distance of the outer eye corners."""
    scheme = load_scheme(name)
    files = [csv_files.read_rows(shared / "data/annotations" / name / file, scheme.count) for file in ANNOTATIONS[name]]
    truth, center, side = (np.concatenate(parts) for parts in zip(*[(f.landmarks, *f.box) for f in files], strict=True))
    left, right = scheme.inter_ocular
    apart = np.linalg.norm(truth[:, left] - truth[:, right], axis=1)

    exact, outside = exact_round_trip(truth, center, side, SIGMA[name])
    nme = 100 * np.linalg.norm(exact - truth, axis=2).mean(1) / apart
    published, drawn = paper_round_trip(truth, center, side, SIGMA[name])
    errors = np.ma.array(np.linalg.norm(published - truth, axis=2), mask=~drawn)
    rounded = 100 * errors.mean(1) / apart

    n, of = len(truth), name.upper()
    how = f"all {n} rows, 64×64 maps of sigma {SIGMA[name]}"
    empty = f"; {(~drawn).sum()} landmarks with y ≤ 0, which have no target, left out" if not drawn.all() else ""
    return [
        Figure(f"{of} exact round trip, mean NME", nme.mean(), "%", how, at_most=0.02),
        Figure(f"{of} exact round trip, worst face's NME", nme.max(), "%", how, at_most=0.2),
        Figure(f"{of} landmarks outside the input square", outside, "landmarks", f"of {truth.shape[1] * n}"),
        Figure(f"{of} paper round trip, mean NME", rounded.mean(), "%", how + empty),
        Figure(f"{of} paper round trip, worst face's NME", rounded.max(), "%", how + empty),
    ]


def exact_round_trip(truth: np.ndarray, center: np.ndarray, side: np.ndarray, sigma: float) -> tuple[np.ndarray, int]:
    """`truth` (N, K, 2) in image px by way of heat maps, and how many landmarks lie outside the maps."""
    to_image = window_to_image(center, side * MARGIN, 256)
    cells = heatmap.to_cells(apply(invert(to_image), truth))
    found = [
        heatmap.decode(heatmap.encode(torch.from_numpy(cells[at : at + BATCH]).float(), 64, sigma))[0]
        for at in range(0, len(cells), BATCH)
    ]
    outside = ((cells < -0.5) | (cells > 63.5)).any(2).sum()
    return apply(to_image, heatmap.to_input(torch.cat(found).double().numpy())), int(outside)


def paper_round_trip(
    truth: np.ndarray, center: np.ndarray, side: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """`truth` (N, K, 2) in image px by way of the published targets and decoder, and which landmarks have a target."""
    scale = side / 200 * MARGIN
    found: list[Tensor] = []
    for at in range(0, len(truth), BATCH):
        landmarks, *box = (torch.from_numpy(a[at : at + BATCH]) for a in (truth, center, scale))
        found.append(paper.decode(paper.targets(landmarks, *box, sigma), *box)[0])
    return torch.cat(found).numpy(), truth[..., 1] > 0


def crops(shared: Path) -> Figure:
    """The published crops of the sample images against the reference."""
    worst, n = 0, 0
    for name in ANNOTATIONS:
        folder = shared / "data/samples" / name
        rows = csv_files.read_rows(folder / f"face_landmarks_{name}_test.csv", load_scheme(name).count)
        expected = np.load(shared / f"reference/paper_protocol/{name}.npz")["crop"]
        for image, center, side, reference in zip(rows.images, *rows.box, expected, strict=True):
            cut = paper.crop(read_image(folder / "images" / image), center, side / 200 * MARGIN, shrink_stretches=True)
            worst, n = max(worst, int(np.abs(cut.astype(int) - reference).max())), n + 1
    how = f"{n} sample faces, every pixel"
    return Figure("paper crop, largest difference from the reference", worst, "grey levels", how, at_most=1)
