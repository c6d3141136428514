"""Cut every face's crop out of its image, and carve val out of train.

    python -m stages.preprocess demo
    python -m stages.preprocess 300w --annotations-only

Reads data/raw/<dataset> and the images, writes data/crops/<dataset>: per split one memory-mapped array and its table.
No image is decoded after this stage (but under protocol paper, by predict). With --annotations-only the tables are
written and the arrays hold crops of no pixels.
"""

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.config.experiment import load_dataset
from stages.data import crops
from stages.data.faces import SPLITS, Faces, read_faces
from stages.data.splits import assign_split, shared_groups
from stages.sources.images.checksums import read_checksums
from stages.sources.images.location import images_folder
from stages.sources.images.reading import decode, read_bytes
from stages.system import errors
from stages.system.files import atomic_folder, require_space
from stages.system.processes import processes


class Cut(NamedTuple):
    """A face of an image and where its crop goes."""

    face: str
    split: str
    row: int
    to_image: np.ndarray  # (2, 3) crop px → image px, pixels numbered from 0
    landmarks: np.ndarray  # (K, 2) image px, so too


def cut_image(path: Path, sha256: str, faces: list[Cut], out: Path, cut, orientation: str) -> list[str]:
    """Cut all faces of one image into the arrays under `out`; returns the faults.

    cut: config.dataset.Crops. orientation: as of `read_image`.
    """
    try:
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != sha256:
            return [f"{path}: changed since it was fetched: restore it, or run dvc repro to fetch it again"]
        pixels = decode(data, path, orientation)
    except errors.InputError as error:
        return [str(error)]
    except FileNotFoundError:
        return [f"{path}: missing, and it was there when it was fetched"]
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    faults, shape = [], pixels.shape[:2]
    for face in faces:
        if fault := crops.window_fault(face.to_image, face.landmarks, cut.size, cut.context, shape):
            faults.append(f"{path}: face {face.face}: {fault}")
            continue
        array = np.load(out / f"{face.split}.npy", mmap_mode="r+")
        array[face.row] = crops.cut(pixels, face.to_image, cut.size)
    return faults


def warn_of_overlap(faces: Faces, hashes: list[str]) -> None:
    """Say how many images, by the SHA-256 of their files, and groups are in test and in the training data too."""
    images = {split: {sha for sha, s in zip(hashes, faces.split, strict=True) if s == split} for split in SPLITS}
    train, val = images["test"] & images["train"], images["test"] & images["val"]
    if train | val:
        where = f"{len(train)} in train, {len(val)} in val, by which the epoch is chosen"
        count = f"images of test in the training data too: {len(train | val)}"
        print(f"warning: {count} ({where}); results on them are optimistic", flush=True)
    if groups := shared_groups(faces, ("test",), ("train", "val")):
        print(f"warning: groups of test in the training data too: {len(groups)}, such as {min(groups)}", flush=True)


def index_annotation(name: str) -> None:
    """The tables of a dataset whose images are not at hand."""
    dataset = load_dataset(name, "source", "crops")
    faces, target = read_faces(Path("data/raw") / name / "faces.parquet"), Path("data/crops") / name
    with atomic_folder(target) as out:
        for split in SPLITS:
            part = faces.of(split)
            to_image = crops.windows(part, dataset.crops.size, dataset.crops.context)
            crops.write_index(out / f"{split}.parquet", part, to_image)
            np.save(out / f"{split}.npy", np.empty((len(part), 0, 0, 3), np.uint8))
    print(f"{target}: {len(faces)} test faces without images")


def main(name: str) -> None:
    dataset = load_dataset(name, "source", "crops")
    raw, size, source = Path("data/raw") / name, dataset.crops.size, dataset.source
    faces = read_faces(raw / "faces.parquet")
    checksums = read_checksums(raw, faces)
    folder = images_folder(name, source.files, dataset.location)
    faces = assign_split(faces, checksums, dataset.crops.val_share)
    hashes = [checksums[image] for image in faces.image]
    warn_of_overlap(faces, hashes)
    faces.extra = {**faces.extra, crops.IMAGE_HASH: hashes}

    target = Path("data/crops") / name
    with atomic_folder(target) as out:  # which removes what a killed process left, before space is counted
        require_space(target, len(faces) * size * size * 3, f"cutting {len(faces)} crops of {size} px")
        work: dict[str, list[Cut]] = defaultdict(list)
        for split in SPLITS:
            part = faces.of(split)
            to_image = crops.windows(part, size, dataset.crops.context)
            crops.write_index(out / f"{split}.parquet", part, to_image)
            crops.reserve(out / f"{split}.npy", len(part), size)
            in_pixels, landmarks = crops.in_pixels(to_image, source.origin), part.landmarks - source.origin
            for row, image in enumerate(part.image):
                work[image].append(Cut(part.face_id[row], split, row, in_pixels[row], landmarks[row]))
        with processes(len(work)) as pool:
            jobs = [
                pool.submit(cut_image, folder / image, checksums[image], cuts, out, dataset.crops, source.orientation)
                for image, cuts in work.items()
            ]
            faults = [
                fault for job in tqdm(jobs, desc=f"cut {name}", unit="image", disable=None) for fault in job.result()
            ]
        errors.refuse(faults, f"the images in {folder}", "Nothing was written. Restore or replace them.")
    counts = ", ".join(f"{faces.split.count(split)} {split}" for split in SPLITS)
    print(f"{target}: {counts} faces at {size} px")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/pipeline.yaml")
    parser.add_argument("--annotations-only", action="store_true", help="of its test faces, without images")
    arguments = parser.parse_args()
    errors.run(lambda: (index_annotation if arguments.annotations_only else main)(arguments.dataset))
