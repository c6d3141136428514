"""Which faces are for training and which for the test, where one file or folder holds both."""

from collections.abc import Sequence
from pathlib import PurePosixPath

FOLDERS = {
    "train": {"train", "training", "trainset", "train_set"},
    "val": {"val", "valid", "validation", "valset", "dev"},
    "test": {"test", "testing", "testset", "test_set"},
}


def by_folder(images: Sequence[str], places: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """train or test for each image, by the first folder of its path that has such a name; remarks; faults.

    The pipeline carves val out of train by itself, so the faces of val are for training, or the test where that has
    none.
    """
    known = {folder: split for split, own in FOLDERS.items() for folder in own}
    folders = [[part.lower() for part in PurePosixPath(image).parts[:-1]] for image in images]
    splits = [next((known[part] for part in parts if part in known), "") for parts in folders]
    faults = [
        f"{place}: no folder of its image {image} is named train, val or test, as --split-by-folder needs"
        for image, place, split in zip(images, places, splits, strict=True)
        if not split and image
    ]
    remarks, val_is = [], "train" if "test" in splits else "test"
    if "val" in splits:
        remarks.append(f"faces in folders of val: {splits.count('val')}, used as {val_is} (val is carved out of train)")
    splits = [val_is if split == "val" else split for split in splits]
    for split in ("train", "test"):
        if split not in splits and not faults:
            faults.append(f"--split-by-folder: no image is in a folder named {split}")
    return splits, remarks, faults
