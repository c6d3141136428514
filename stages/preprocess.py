"""Cut every face's crop out of its image, and carve val out of train.

    python -m stages.preprocess demo

Reads data/raw/<dataset> and the images, writes data/crops/<dataset>: per split one memory-mapped array and its table.
No image is decoded after this stage (but under protocol paper, by predict).
"""

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.config.experiment import load_dataset
from stages.data import crops
from stages.data.faces import SPLITS, Faces, read_faces
from stages.sources.images.checksums import read_checksums
from stages.sources.images.location import images_folder
from stages.sources.images.reading import read_image
from stages.system import errors
from stages.system.files import atomic_folder, require_space
from stages.system.processes import processes

FAR = 10  # a crop that many times as wide as its image shows no face


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
    """Why the window of `size` px under `to_image` cannot show a face in an image of that size, or ''."""
    low, span = to_image[:, 2], to_image[0, 0] * size
    if span > FAR * max(height, width):
        return f"its crop would be {span:.0f} px wide in an image of {width}×{height} px: its scale is wrong"
    if (low + span < 0).any() or (low > [width, height]).any():
        return f"its box is outside its image of {width}×{height} px"
    return ""


def cut_image(
    folder: Path, image: str, sha256: str, rows: list[tuple[str, str, int, np.ndarray]], out: Path, size: int
) -> list[str]:
    """Cut all faces of one image into the arrays under `out`; returns the faults.

    rows: (face, split, row, crop → image).
    """
    try:
        if hashlib.sha256((folder / image).read_bytes()).hexdigest() != sha256:
            return [f"{folder / image}: changed since it was fetched: restore it, or run dvc repro to fetch it again"]
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
    dataset = load_dataset(name, "source", "crops")
    raw, size = Path("data/raw") / name, dataset.crops.size
    faces = read_faces(raw / "faces.parquet")
    checksums = read_checksums(raw, faces)
    folder = images_folder(name, dataset.source.files, dataset.location)
    faces = assign_val(faces, checksums, dataset.crops.val_share)

    test, train = ({checksums[image] for image in faces.of(split).image} for split in ("test", "train"))
    if shared := test & train:
        print(f"warning: {len(shared)} images of test are in train too; results on them are optimistic", flush=True)
    target = Path("data/crops") / name
    with atomic_folder(target) as out:  # which removes what a killed process left, before space is counted
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
        with processes(len(work)) as pool:
            jobs = [
                pool.submit(cut_image, folder, image, checksums[image], rows, out, size) for image, rows in work.items()
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
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.dataset))
