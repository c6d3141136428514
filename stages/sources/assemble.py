"""Shared by the readers: rows of annotation files become faces with ids, boxes and subsets."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.data import geometry
from stages.data.faces import Faces, concatenate
from stages.sources.names import listed, wrong_names

SAME_FACE = 0.01  # px: the same face in two files differs in the last digits only


@dataclass
class Rows:
    """The N valid rows of one annotation file, and the faults of the others."""

    images: list[str]
    lines: list[int]  # in the file, from 1
    landmarks: np.ndarray  # (N, K, 2), NaN where not annotated
    visible: np.ndarray | None = None  # (N, K); None: the file does not say
    box: tuple[np.ndarray, np.ndarray] | None = None  # the file's own: centre (N, 2), side (N,)
    subsets: list[list[str]] | None = None
    extra: Mapping[str, Sequence] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def no_rows(count: int, faults: list[str]) -> Rows:
    """The result for a file that cannot be read at all."""
    return Rows([], [], np.empty((0, count, 2)), box=(np.empty((0, 2)), np.empty(0)), faults=faults)


def files(form, root: Path, splits: tuple[str, ...]) -> list[str]:
    """The annotation files of config.dataset.CsvForm or ListsForm, relative to the root."""
    train = [form.train] if form.train and "train" in splits else []
    return train + ([form.test, *form.subsets.values()] if form.test and "test" in splits else [])


def read_files(form, root: Path, splits: tuple[str, ...], read: Callable[[Path], Rows]) -> tuple[Faces, list[str]]:
    """The faces of the valid rows of those files, and the faults of all files."""
    faults: list[str] = []
    parts = []
    for split, name in (("train", form.train), ("test", form.test)):
        if not name or split not in splits:
            continue
        rows = _with_names(read(root / name), root / name, root / form.images)
        faults += rows.faults
        subsets = rows.subsets or [[] for _ in rows.images]
        for subset, subset_name in form.subsets.items() if split == "test" else ():
            members = _with_names(read(root / subset_name), root / subset_name, root / form.images)
            faults += members.faults
            matches = find_faces(members.images, members.landmarks, rows.images, rows.landmarks)
            for row, line in zip(matches, members.lines, strict=True):
                if row is not None:
                    subsets[row].append(subset)
                elif not rows.faults:  # otherwise its row may be one of the faulty ones
                    faults.append(f"{root / subset_name}, line {line}: no row of {name} has this image and landmarks")
        parts.append(
            split_faces(
                split,
                rows.images,
                rows.landmarks,
                box=rows.box,
                visible=rows.visible,
                subsets=subsets,
                extra=dict(rows.extra),
            )  # fmt: skip
        )
    common = set.intersection(*(set(part.extra) for part in parts))  # an unreadable file has none
    if any("group" in part.extra for part in parts) and "group" not in common and not faults:
        faults.append(f"column group is not in all of {form.train}, {form.test}: give it to all, or to none")
    for part in parts:
        part.extra = {name: part.extra[name] for name in sorted(common)}
    return concatenate(parts), faults


def _with_names(rows: Rows, path: Path, images: Path) -> Rows:
    """The rows whose image names are not wrong; the faults of the others are added."""
    if not (wrong := wrong_names(rows.images, images)):
        return rows
    faults = listed(wrong, rows.images, [f"{path}, line {line}" for line in rows.lines])
    kept = [row for row in range(len(rows.images)) if row not in wrong]
    return Rows(
        images=[rows.images[i] for i in kept],
        lines=[rows.lines[i] for i in kept],
        landmarks=rows.landmarks[kept],
        visible=rows.visible if rows.visible is None else rows.visible[kept],
        box=rows.box if rows.box is None else (rows.box[0][kept], rows.box[1][kept]),
        subsets=rows.subsets if rows.subsets is None else [rows.subsets[i] for i in kept],
        extra={name: [values[i] for i in kept] for name, values in rows.extra.items()},
        faults=rows.faults + faults,
    )


def split_faces(
    split: str,
    images: Sequence[str],
    landmarks: np.ndarray,
    *,
    box: tuple[np.ndarray, np.ndarray] | None = None,
    visible: np.ndarray | None = None,
    subsets: Sequence[Sequence[str]] | None = None,
    extra: Mapping[str, Sequence] | None = None,
) -> Faces:
    """The faces of one split. The box (centre, side) defaults to that of the landmarks, `visible` to what is annotated.

    A face's id is its split and image, so that every format of a dataset gives the same ids in any order; the second
    face of an image has the suffix #2.
    """
    n = len(landmarks)
    center, side = box or (geometry.landmark_box(landmarks) if n else (np.empty((0, 2)), np.empty(0)))
    return Faces(
        face_id=_ids(split, images),
        split=[split] * n,
        image=list(images),
        center=center,
        side=side,
        landmarks=landmarks,
        visible=np.isfinite(landmarks).all(-1) if visible is None else visible,
        subsets=[tuple(sorted(set(names))) for names in subsets] if subsets is not None else [()] * n,
        extra=dict(extra or {}),
    )


def _ids(split: str, images: Sequence[str]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    ids = []
    for image in images:
        counts[image] += 1
        name = image if image.startswith(f"{split}/") else f"{split}/{image}"
        ids.append(name if counts[image] == 1 else f"{name}#{counts[image]}")
    return ids


def find_faces(
    images: Sequence[str], landmarks: np.ndarray, candidate_images: Sequence[str], candidates: np.ndarray
) -> list[int | None]:
    """For each face (image, landmarks (K, 2)) the row of the same face among the candidates, or None.

    A candidate is matched at most once, so a face that is duplicated in both is matched row by row.
    """
    free: dict[str, list[int]] = defaultdict(list)
    for row, image in enumerate(candidate_images):
        free[image].append(row)
    matches: list[int | None] = []
    for image, points in zip(images, landmarks, strict=True):
        row = next((row for row in free[image] if _same(candidates[row], points)), None)
        if row is not None:
            free[image].remove(row)
        matches.append(row)
    return matches


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether landmarks (K, 2) agree: the same ones are annotated, at the same places."""
    return np.allclose(one, other, rtol=0, atol=SAME_FACE, equal_nan=True)
