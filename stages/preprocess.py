"""Cut every face's crop out of its image, and carve val out of train.

    python -m stages.preprocess demo

Reads data/raw/<dataset>, writes data/crops/<dataset>: per split one memory-mapped array and its table. Nothing decodes
an image after this stage.
"""

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages import errors, params
from stages.data import crops, places
from stages.data.faces import SPLITS, Faces, read_faces
from stages.data.files import atomic_folder, require_space
from stages.data.images import read_image
from stages.data.pool import processes

FAR = 10  # a crop that many times as wide as its image shows no face


def read_checksums(path: Path, faces: Faces) -> dict[str, str]:
    """The SHA-256 of every image of the faces, as fetch found it. Raises `InputError` where the file lacks one."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("image")["sha256"].to_dict()
        return {image: table[image] for image in faces.image}
    except (FileNotFoundError, KeyError, ValueError):
        raise errors.InputError(
            f"{path} is missing, damaged or of other faces: run dvc repro --force on the fetch stage."
        ) from None


def assign_val(faces: Faces, checksums: dict[str, str], share: float) -> Faces:
    """Move a share of the training images to val, chosen by a hash of their content.

    So all faces of an image, and of a copy of it under another name, are on one side.
    """
    chosen = {image for image in set(faces.image) if int(checksums[image][:8], 16) < share * 2**32}
    faces.split = [
        "val" if split == "train" and image in chosen else split
        for split, image in zip(faces.split, faces.image, strict=True)
    ]
    return faces


def window_fault(to_image: np.ndarray, size: int, height: int, width: int) -> str:
    """Why the window of `size` px under `to_image` cannot be a face's in an image of that size, or ''."""
    low, span = to_image[:, 2], to_image[0, 0] * size
    if span > FAR * max(height, width):
        return f"its crop would be {span:.0f} px wide in an image of {width}×{height} px: its scale is wrong"
    if (low + span < 0).any() or (low > [width, height]).any():
        return f"its box lies outside its image of {width}×{height} px"
    return ""


def cut_image(
    folder: Path, image: str, sha256: str, rows: list[tuple[str, str, int, np.ndarray]], out: Path, size: int
) -> list[str]:
    """Cut all faces of one image into the arrays under `out`; rows are (face, split, row, crop → image). The faults."""
    try:
        if hashlib.sha256((folder / image).read_bytes()).hexdigest() != sha256:
            return [f"{folder / image}: changed since it was fetched; get it back, or fetch again (dvc repro --force)"]
        pixels = read_image(folder / image)
    except errors.InputError as error:
        return [str(error)]
    except FileNotFoundError:
        return [f"{folder / image}: missing, and it was there when it was fetched"]
    except OSError as error:
        return [f"{folder / image}: cannot be read ({error.strerror})"]
    faults = []
    for face, split, row, to_image in rows:
        if fault := window_fault(to_image, size, *pixels.shape[:2]):
            faults.append(f"{folder / image}: face {face}: {fault}")
            continue
        array = np.load(out / f"{split}.npy", mmap_mode="r+")
        array[row] = crops.cut(pixels, to_image, size)
    return faults


def main(name: str) -> None:
    dataset = params.dataset(name, "source", "crops")
    raw, size = Path("data/raw") / name, dataset.crops.size
    faces = read_faces(raw / "faces.parquet")
    checksums = read_checksums(raw / "checksums.csv", faces)
    folder = places.images_folder(name, places.data_root(name, dataset.source), dataset.source)
    faces = assign_val(faces, checksums, dataset.crops.val_share)

    test, train = ({checksums[image] for image in faces.of(split).image} for split in ("test", "train"))
    if twice := test & train:
        print(f"warning: {len(twice)} images of test stand in train too; results on them say little", flush=True)
    target = Path("data/crops") / name
    with atomic_folder(target) as out:  # which removes what a killed run left, before space is counted
        require_space(target, len(faces) * size * size * 3, f"cutting {len(faces)} crops of {size} px")
        work: dict[str, list] = defaultdict(list)
        for split in SPLITS:
            part = faces.of(split)
            to_image = crops.windows(part, size, dataset.crops.context)
            crops.write_index(out / f"{split}.parquet", part, to_image)
            crops.reserve(out / f"{split}.npy", len(part), size)
            in_pixels = crops.in_pixels(to_image, dataset.source.origin)
            for row, image in enumerate(part.image):
                work[image].append((part.face_id[row], split, row, in_pixels[row]))
        with processes() as pool:
            jobs = [
                pool.submit(cut_image, folder, image, checksums[image], rows, out, size) for image, rows in work.items()
            ]
            faults = [
                fault for job in tqdm(jobs, desc=f"cut {name}", unit="image", disable=None) for fault in job.result()
            ]
        errors.refuse(faults, f"the images in {folder}", "Nothing was written. Mend or replace them.")
    counts = ", ".join(f"{faces.split.count(split)} {split}" for split in SPLITS)
    print(f"{target}: {counts} faces at {size} px")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/datasets/")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.dataset))
