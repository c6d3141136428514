"""Splits cut out of others by a hash, so that they depend neither on the order of the faces nor on the other faces.

All faces of an image, and of a copy of it under another name, are on one side; so are all faces of a group (a person, a
video), where the face table has a column `group`. An image with faces of two groups joins them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stages.data.crops import IMAGE_HASH
from stages.data.faces import Faces
from stages.system.errors import InputError

GROUP = "group"  # a column of the face table; empty for a face of no group
# Which digits of the hash decide: with the same ones, the images left after one split would all fail the next.
_DIGITS = {"val": slice(0, 8), "test": slice(8, 16), "few": slice(16, 24)}


def assign_split(
    faces: Faces, checksums: Mapping[str, str], share: float, *, source: str = "train", target: str = "val"
) -> Faces:
    """The faces with a share (0 … 1) of those in `source` moved to `target` (val or test).

    checksums: the SHA-256 of each image, by name. An image is chosen by its own hash, or by that of its group: the
    share is one of images or of groups, on average.
    """
    rows = [row for row, split in enumerate(faces.split) if split == source]
    hashes = _hashes(faces, checksums, rows)
    split = list(faces.split)
    for row in rows:
        if int(hashes[row][_DIGITS[target]], 16) < share * 2**32:
            split[row] = target
    return replace(faces, split=split)


def few_faces(faces: Faces, n: int, what: object) -> np.ndarray:
    """The rows (n,) of n of the faces, in their order: those whose images' hashes come first.

    So they depend on no order, and fewer are a part of more. Raises `InputError` where there are not as many.
    """
    if n > len(faces):
        raise InputError(f"train.faces is {n}, and the train split of {what} has {len(faces)} faces: lower it.")
    hashes = faces.extra[IMAGE_HASH]
    order = sorted(range(len(faces)), key=lambda row: (hashes[row][_DIGITS["few"]], faces.face_id[row]))
    return np.sort(order[:n])


def shared_groups(faces: Faces, one: tuple[str, ...], other: tuple[str, ...]) -> set[str]:
    """The groups with faces both in the splits `one` and in the splits `other`."""
    groups = faces.extra.get(GROUP, [])
    first, second = (
        {group for group, split in zip(groups, faces.split, strict=False) if group and split in splits}
        for splits in (one, other)
    )
    return first & second


def _hashes(faces: Faces, checksums: Mapping[str, str], rows: list[int]) -> dict[int, str]:
    """The hash that decides where each face goes, by row: its image's, or that of the group joined to it."""
    contents = {row: checksums[faces.image[row]] for row in rows}
    if GROUP not in faces.extra:
        return contents
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (parent := parents.setdefault(node, node)) != node:
            parents[node] = node = parents[parent]
        return node

    groups = {row: ("group", str(faces.extra[GROUP][row])) for row in rows if faces.extra[GROUP][row]}
    for row, group in groups.items():
        parents[root(group)] = root(("image", contents[row]))
    first: dict[tuple[str, str], str] = {}  # of the groups that are joined, by name: the smallest hash would be biased
    for group in groups.values():
        first[root(group)] = min(group[1], first.get(root(group), group[1]))
    joined = {row: first.get(root(("image", content))) for row, content in contents.items()}
    return {
        row: content if joined[row] is None else hashlib.sha256(joined[row].encode()).hexdigest()
        for row, content in contents.items()
    }
