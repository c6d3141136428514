"""The demo faces as PNG files, drawn by a pool of processes; later stages treat them like any others."""

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stages.data.faces import Faces, concatenate
from stages.sources.assemble import split_faces
from stages.system.errors import InputError
from stages.system.files import require_space
from stages.system.processes import processes

DRAWN = 98  # landmarks of a drawn face, in WFLW's scheme


def files(form, root: Path, splits: tuple[str, ...]) -> list[str]:
    """None: the faces are drawn."""
    return []


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return []


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """Draw the faces of `form` (config.dataset.DemoForm) into out/images.

    Raises `InputError` where `form` does not keep `count` landmarks, or the disk has no room for the images.
    """
    kept = range(DRAWN) if form.landmarks is None else form.landmarks
    if len(kept) != count:
        raise InputError(
            f"source.demo.landmarks keeps {len(kept)} landmarks, and the dataset's scheme (params/schemes) has {count}."
        )
    jobs = [(form.seed, split, index, form.size, form.variety == "wide", out / "images") for split in splits
            for index in range(getattr(form, split))]  # fmt: skip
    # such a PNG takes at most one byte per pixel
    require_space(out.parent, len(jobs) * form.size**2, f"drawing {len(jobs)} faces of {form.size} px")
    for split in splits:
        (out / "images" / split).mkdir(parents=True, exist_ok=True)
    chunk = 8
    with processes(-(-len(jobs) // chunk)) as pool:
        faces = list(tqdm(pool.map(_draw, jobs, chunksize=chunk), "drawing", len(jobs), unit="face", disable=None))
    parts = []
    for split in splits:
        part = [face for job, face in zip(jobs, faces, strict=True) if job[1] == split]
        images, landmarks, visible, subsets = zip(*part, strict=True) if part else ((), (), (), ())
        parts.append(
            split_faces(
                split,
                images,
                np.array(landmarks, np.float64).reshape(-1, DRAWN, 2)[:, kept],
                visible=np.array(visible, bool).reshape(-1, DRAWN)[:, kept],
                subsets=subsets,
            )
        )
    return concatenate(parts), []


def _draw(job: tuple[int, str, int, int, bool, Path]) -> tuple[str, np.ndarray, np.ndarray, tuple[str, ...]]:
    from stages.sources.demo.render import render  # only where faces are drawn

    seed, split, index, size, wide, images = job
    face = render(seed, split, index, size, wide)
    name = f"{split}/{index:05d}.png"
    _, png = cv2.imencode(".png", face.image[..., ::-1])
    (images / name).write_bytes(png)
    return name, face.landmarks, face.visible, tuple(face.subsets)
