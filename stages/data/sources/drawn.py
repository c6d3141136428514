"""The demo faces as PNG files, drawn by a pool of processes; what follows treats them as any others."""

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stages.data.faces import Faces, join
from stages.data.files import require_space
from stages.data.pool import processes
from stages.data.sources.assemble import split_faces
from stages.errors import InputError

DRAWN = 98  # landmarks of a face, in WFLW's layout


def files(form, root: None, splits: tuple[str, ...]) -> list[str]:
    """None: they are drawn."""
    return []


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return []


def read(form, root: None, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """Draw the faces of `form` (sections.DemoForm) into out/images.

    Raises `InputError` where `form` keeps another number of landmarks than `count`.
    """
    kept = range(DRAWN) if form.landmarks is None else form.landmarks
    if len(kept) != count:
        raise InputError(f"source.demo.landmarks keeps {len(kept)} landmarks, and landmarks.count is {count}.")
    jobs = [(form.seed, split, index, form.size, out / "images") for split in splits
            for index in range(getattr(form, split))]  # fmt: skip
    # a byte a pixel is the most that such a PNG takes
    require_space(out.parent, len(jobs) * form.size**2, f"drawing {len(jobs)} faces of {form.size} px")
    for split in splits:
        (out / "images" / split).mkdir(parents=True, exist_ok=True)
    with processes() as pool:
        drawn = list(tqdm(pool.map(_draw, jobs, chunksize=8), "drawing", len(jobs), unit="face", disable=None))
    parts = []
    for split in splits:
        mine = [face for job, face in zip(jobs, drawn, strict=True) if job[1] == split]
        images, landmarks, visible, subsets = zip(*mine, strict=True) if mine else ((), (), (), ())
        parts.append(
            split_faces(
                split,
                images,
                np.array(landmarks, np.float64).reshape(-1, DRAWN, 2)[:, kept],
                visible=np.array(visible, bool).reshape(-1, DRAWN)[:, kept],
                subsets=subsets,
            )
        )
    return join(parts), []


def _draw(job: tuple[int, str, int, int, Path]) -> tuple[str, np.ndarray, np.ndarray, tuple[str, ...]]:
    from stages.data.sources.demo import render  # only where faces are drawn

    seed, split, index, size, images = job
    face = render(seed, split, index, size)
    name = f"{split}/{index:05d}.png"
    _, png = cv2.imencode(".png", face.image[..., ::-1])
    (images / name).write_bytes(png)
    return name, face.landmarks, face.visible, tuple(face.subsets)
