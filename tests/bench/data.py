"""From files to the network's input, on one core."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from stages.config.experiment import load_recipe
from stages.config.schemes import load_scheme
from stages.data import crops
from stages.data.geometry import apply, invert, landmark_box, window_to_image
from stages.model import augment, heatmap, paper
from stages.model.device import keep_memory
from stages.model.examples import Examples, epoch_batches, step_generator
from stages.model.predict import Batches
from stages.sources import csv_files
from stages.sources.demo.render import render
from stages.sources.images.reading import read_image
from tests.bench.exactness import SHARED
from tests.bench.measure import Figure, Missing, seconds, timed

CPU = torch.device("cpu")
RECIPES = {"paper": 1.5, "modern": 3.0}  # name: goal in ms a face


# ---- reading


def reading(rows: int = 20_000, images: int = 24, repeats: int = 5) -> list[Figure | Missing]:
    with tempfile.TemporaryDirectory() as folder:
        found: list[Figure | Missing] = [parsing(Path(folder) / "faces.csv", rows, min(repeats, 3))]
        photos = photographs(Path(folder), images)
        found.append(cutting("drawn faces, 1024 px JPEG", photos.files, photos.center, photos.side, repeats))
    lfpw = SHARED / "data/lfpw"
    if not lfpw.exists():
        return [*found, Missing("reading and cropping LFPW", "its images are not beside the project")]
    listed = csv_files.read_rows(lfpw / "face_landmarks_lfpw_test.csv", 68)
    files = [lfpw / "images" / name for name in listed.images[:images]]
    return [*found, cutting("LFPW", files, *listed.box, repeats)]


def parsing(path: Path, rows: int, repeats: int, count: int = 68) -> Figure:
    """HRNet's CSV form, written with as many digits as the published files have."""
    numbers = np.random.default_rng(0).uniform(0, 1000, (rows, 3 + 2 * count)).round(3).astype(str)
    points = [f"original_{i}_{axis}" for i in range(count) for axis in "xy"]
    lines = [",".join(["image_name", "scale", "center_w", "center_h", *points])]
    lines += [f"images/{i:05d}.jpg," + ",".join(row) for i, row in enumerate(numbers)]
    path.write_text("\n".join(lines) + "\n")
    taken = seconds(lambda: csv_files.read_rows(path, count), repeats, warmup=0)
    how = f"one file of {path.stat().st_size / 2**20:.0f} MiB, one core"
    return timed(f"parse {rows} CSV rows of {count} points", taken, 1, how, unit="s", at_most=2)


def cutting(
    what: str, files: list[Path], center: np.ndarray, side: np.ndarray, repeats: int, size: int = 448
) -> Figure:
    """What preprocess does for each image, beside cv2.imread of the same files in turn."""
    to_image = window_to_image(center, side * 2.1875, size)

    def read_and_cut() -> None:
        for file, window in zip(files, to_image, strict=False):
            crops.cut(read_image(file), window, size)

    ours, plain = [], []
    for _ in range(repeats):  # by turns, so that what else the machine does falls on both
        plain.append(seconds(lambda: [cv2.imread(str(file)) for file in files], 1, warmup=not plain))
        ours.append(seconds(read_and_cut, 1, warmup=not ours))
    took, least = np.median(ours) / len(files) * 1000, np.median(plain) / len(files) * 1000
    how = f"{len(files)} files, cut to {size} px: {took:.2f} ms a face, cv2.imread alone {least:.2f} ms; one core"
    return Figure(f"read and crop by cv2.imread: {what}", took / least, "times", how, repeats=repeats, at_most=1.5)


# ---- the codec


def codec(batch: int = 32, repeats: int = 20) -> list[Figure]:
    """Encoding and decoding 98 maps of 64×64."""
    keep_memory()
    random = torch.Generator().manual_seed(0)
    points = 63 * torch.rand(batch, 98, 2, generator=random)
    maps = heatmap.encode(points, 64, 1.5) + 0.05 * torch.randn(batch, 98, 64, 64, generator=random)
    center, scale = torch.full((batch, 2), 100.0), torch.ones(batch)
    how = f"98 noisy maps of 64×64, batch {batch}, one core"
    work = {
        "exact decode": (lambda: heatmap.decode(maps), 0.1),
        "paper decode": (lambda: paper.decode(maps, center, scale), 0.1),
        "exact encode": (lambda: heatmap.encode(points, 64, 1.5), None),
        "paper encode": (lambda: paper.targets_at(points, 1.5), None),
    }
    figures = [timed(name, seconds(of, repeats, 3), batch, how, at_most=goal) for name, (of, goal) in work.items()]
    points = -0.499 + 63.998 * torch.rand(16, 98, 2, generator=random)
    wrong = (heatmap.decode(heatmap.encode(points, 64, 1.5))[0] - points).abs().max()
    how = f"{points.shape[0] * 98} perfect maps, points anywhere up to the border cells' outer edges"
    return [*figures, Figure("exact decode, largest error", wrong, "cells", how, at_most=1e-3)]


# ---- the training data path


@dataclass
class Photographs:
    """JPEG files of a drawn face each, with its landmarks (N, 98, 2), and its box as the CSV files have it."""

    files: list[Path]
    landmarks: np.ndarray
    center: np.ndarray
    side: np.ndarray


def photographs(folder: Path, n: int, size: int = 1024) -> Photographs:
    files, landmarks = [], []
    for i in range(n):
        face = render(1, "train", i, size)
        files.append(folder / f"{i}.jpg")
        cv2.imwrite(str(files[-1]), face.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        landmarks.append(face.landmarks)
    return Photographs(files, np.array(landmarks), *landmark_box(np.array(landmarks)))


def cut_examples(photos: Photographs, recipe, path: Path, faces: int, size: int = 448) -> Examples:
    """What preprocess and train make of the photographs: `faces` crops in the file `path`, each photo in turn."""
    to_image = window_to_image(photos.center, photos.side * 2.1875, size)
    cut = [crops.cut(read_image(file), window, size) for file, window in zip(photos.files, to_image, strict=True)]
    which = np.arange(faces) % len(cut)
    stored = np.lib.format.open_memmap(path, "w+", np.uint8, (faces, size, size, 3))
    for row, photo in enumerate(which):
        stored[row] = cut[photo]
    stored.flush()
    batches = Batches(np.load(path, mmap_mode="r"), 2.1875, recipe.input)
    landmarks = batches.to_pooled(apply(invert(to_image), photos.landmarks))[which]
    order = torch.from_numpy(load_scheme("wflw").flip_order())
    return Examples(batches, torch.from_numpy(landmarks), [str(row) for row in range(faces)], order)


def obvious_example(
    file: Path, center: np.ndarray, side: float, landmarks: np.ndarray, change: np.ndarray, mirror: np.ndarray, recipe
) -> tuple[np.ndarray, np.ndarray]:
    """One training example (3, s, s), (K, s/4, s/4) straight from the photograph, a landmark at a time; geometry only.

    change: (2, 3) input px → input px. mirror: (K,) the landmark that takes each one's place.
    """
    size = recipe.input.size
    step = side * recipe.input.box / size
    image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    plain = np.array([[step, 0, center[0] - step * (size - 1) / 2], [0, step, center[1] - step * (size - 1) / 2]])
    to_photo = plain @ np.vstack([change, [0, 0, 1]])
    seen = cv2.warpAffine(image, to_photo, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    seen = (seen.astype(np.float32) / 255 - np.float32(augment.MEAN)) / np.float32(augment.STD)

    to_input = cv2.invertAffineTransform(to_photo)
    cells, sigma = size // 4, recipe.target.sigma
    y, x = np.mgrid[:cells, :cells]
    maps = np.zeros((len(landmarks), cells, cells), np.float32)
    for k in range(len(landmarks)):
        at = to_input @ [*landmarks[mirror[k]], 1]
        at = (at - 1.5) / 4
        maps[k] = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))
    return seen.transpose(2, 0, 1), maps


def obvious_batch(photos: Photographs, index: np.ndarray, recipe, random: torch.Generator, order: np.ndarray) -> tuple:
    """The batch of the faces `index`, augmented by the same draws as the fast path's."""
    changes, mirrored = augment.draw_changes(len(index), recipe.augment, recipe.input.size, random)
    examples = []
    for row, change, mirror in zip(index % len(photos.files), changes.numpy(), mirrored, strict=True):
        turned = order if mirror else np.arange(len(order))
        of = photos.files[row], photos.center[row], photos.side[row], photos.landmarks[row]
        examples.append(obvious_example(*of, change, turned, recipe))
    images, maps = zip(*examples, strict=True)
    return np.stack(images), np.stack(maps)


def training_path(faces: int = 128, photos: int = 16, repeats: int = 20, batch: int = 16) -> list[Figure]:
    """From the memory-mapped crops to the batch that the network reads, and the same obviously done from the files."""
    keep_memory()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        taken = photographs(Path(folder), photos)
        for name, goal in RECIPES.items():
            recipe = load_recipe(name, "wflw", "input", "target", "augment")
            examples = cut_examples(taken, recipe, Path(folder) / f"{name}.npy", faces)
            order = examples.flip_order.numpy()
            steps, plain_steps = (iter(range(10**6)) for _ in range(2))

            def fast(examples=examples, recipe=recipe, steps=steps) -> None:
                step = next(steps)
                index = epoch_batches(faces, batch, 1, step)[0]
                examples.batch(examples.draw(index, recipe, step_generator(1, 0, step), CPU), recipe, CPU)

            def obvious(recipe=recipe, order=order, steps=plain_steps) -> None:
                step = next(steps)
                index = epoch_batches(faces, batch, 1, step)[0]
                obvious_batch(taken, index, recipe, step_generator(1, 0, step), order)

            # a recipe's changes of light and the contrast stretch are in ours alone
            plain = seconds(obvious, max(2, repeats // 5))
            size = recipe.input.size
            how = f"from 448 px crops, {size} px input, 98 landmarks, batch {batch}, all augmentation, one core"
            figures.append(
                timed(
                    f"training data path, {name}", seconds(fast, repeats), batch, how, at_most=goal, plain=plain,
                    baseline_is="JPEG of 1024 px decoded, warped, a Gaussian drawn for each landmark",
                )
            )  # fmt: skip
    return figures
