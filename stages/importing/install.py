"""The files of an imported dataset: all of them are written, or none.

data/<name> has the annotations as CSV files of HRNet's form, import.json (what they were made of) and, unless the
images are there already, images/: a link to each image. The links are to files, since DVC follows those and would see
no change behind a link to a folder within a dataset.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stages.data.faces import Faces
from stages.sources.csv_faults import point_columns
from stages.sources.visibility import HIDDEN, NOT_ANNOTATED, VISIBLE
from stages.system.files import atomic, atomic_folder, require_space

RECORD, IMAGES = "import.json", "images"
OWN = {RECORD, IMAGES, "train.csv", "test.csv"}


def is_inside(images: Path, target: Path) -> bool:
    """Whether the folder of images is in the dataset's folder, so that the annotations are put beside it."""
    return images.resolve().is_relative_to(target.resolve())


def folder_faults(target: Path, images: Path, replace: bool) -> list[str]:
    """Why data/<name> cannot be written: something of a person's own is there, or an import without --replace."""
    if not target.exists() and not target.is_symlink():
        return []
    entries = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    if is_inside(images, target):
        present = sorted(entries & (OWN - {IMAGES}))
        return [f"{target} has {', '.join(present)} already"] if present and not replace else []
    if target.is_symlink() or RECORD not in entries or entries - OWN:
        others = sorted(entries - OWN) or ["files that no import has made"]
        return [f"{target} is there and holds {', '.join(others[:3])}: move it, or choose another --name"]
    return [] if replace else [f"{target} is there already: --replace makes it anew"]


@contextmanager
def dataset_folder(target: Path, images: Path) -> Iterator[Path]:
    """The folder to write to: a new one that replaces `target` at the end, or the one that has the images."""
    if is_inside(images, target):
        with restored(*(target / name for name in OWN - {IMAGES})):
            yield target
    else:
        with atomic_folder(target) as folder:
            yield folder


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Let the files be as they were if what is done in the block fails."""
    before = {path: path.read_bytes() if path.is_file() else None for path in paths}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
        raise


def place_images(names: Sequence[str], source: Path, target: Path, copy: bool) -> None:
    """Links to the images, or copies, under the same names. Raises `InputError` where copies would not fit."""
    names = sorted(set(names))
    if copy:
        require_space(target, sum((source / name).stat().st_size for name in names), "a copy of the images",
                      cached=False)  # fmt: skip
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if copy:
            shutil.copyfile(source / name, target / name)
        else:
            os.symlink((source / name).resolve(), target / name)


def write_csv(faces: Faces, path: Path) -> None:
    """HRNet's form, every number in full; columns visible_k where a landmark is hidden or not annotated."""
    count = faces.landmarks.shape[1]
    header = ["image_name", "scale", "center_w", "center_h"]
    points = faces.landmarks.reshape(len(faces), -1)
    table = np.column_stack([faces.side / 200, faces.center])
    visible = np.where(faces.annotated, np.where(faces.visible, VISIBLE, HIDDEN), NOT_ANNOTATED)
    stated = [[]] * len(faces)
    if (visible != VISIBLE).any():
        header += [f"visible_{k}" for k in range(count)]
        stated = visible.tolist()
    header += point_columns(count)
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for image, box, v, row in zip(faces.image, table.tolist(), stated, points.tolist(), strict=True):
            writer.writerow([image, *box, *v, *("" if value != value else value for value in row)])


def dataset_text(name: str, about: Mapping[str, object], source: Mapping[str, object], landmarks: Mapping) -> str:
    """The file of params/datasets: what the checks of the parameters ask for, and no more."""

    def lines(section: Mapping[str, object]) -> list[str]:
        return [f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in section.items()]

    thresholds = "[0.07]" if landmarks["normaliser"] == "box_side" else "[0.08, 0.10]"
    return "\n".join(
        [
            f"# {name}, made by stages.import_dataset. params/datasets/template.yaml has every key.",
            "about:",
            *lines(about),
            "",
            "source:",
            *lines(source),
            "",
            "landmarks:",
            *lines(landmarks),
            "",
            "crops:",
            "  size: 448 # px; at 2.1875 boxes a 256 px input of 1.25 boxes has the crop's own scale",
            "  context: 2.1875",
            "  val_share: 0.1",
            "",
            "evaluation:",
            f"  thresholds: {thresholds} # of the normaliser: FR and AUC are given at each",
            "",
        ]
    )
