"""A landmark scheme for landmarks of any number and names: flip pairs, groups, and what an error is divided by."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.data.geometry import flip_order
from stages.data.scheme import Scheme
from stages.importing import mirror
from stages.sources.symmetry import symmetric_mean

# The parts of a face by the words of a landmark's name, the first that fits: an eyebrow is no eye
PARTS = {
    "brows": {"brow", "brows", "eyebrow", "eyebrows"},
    "pupils": {"pupil", "pupils", "iris", "irises"},
    "eyes": {"eye", "eyes", "eyelid", "canthus"},
    "nose": {"nose", "nostril", "nostrils", "nasal"},
    "mouth": {"mouth", "lip", "lips", "upperlip", "lowerlip"},
    "jaw": {"jaw", "jawline", "chin", "contour", "cheek", "outline"},
    "ears": {"ear", "ears"},
    "forehead": {"forehead", "hairline"},
}
OUTER = {"outer", "outside", "lateral", "exocanthion", "out"}


@dataclass
class Proposal:
    """A scheme that a person is to approve, and what it was made of."""

    scheme: Scheme
    normaliser: str
    names: list[str] = field(default_factory=list)
    pairs_told: str = ""  # where the flip pairs are from
    mean: np.ndarray | None = None  # (K,) complex: the mean face, upright
    existing: str | None = None  # the scheme's name, where it was there before
    remarks: list[str] = field(default_factory=list)


def propose(
    shapes: np.ndarray, names: Sequence[str], eyes: list[int] | None = None, normaliser: str | None = None
) -> Proposal:
    """The scheme of faces whose landmarks are `names`, or have none.

    shapes: (N, K, 2) in box coordinates, NaN where not annotated. eyes, normaliser: what the user says; None: found.
    """
    count = shapes.shape[1]
    pairs, told, mean = mirror.find_pairs(shapes, names)
    inter_ocular = eyes or _outer_corners(names, pairs, mean)
    inter_pupil = _eye_centres(names)
    scheme = Scheme(
        count=count, flip_pairs=pairs, groups=groups(names, count), inter_ocular=inter_ocular, inter_pupil=inter_pupil
    )
    choice, remarks = (normaliser, []) if normaliser else best_normaliser(scheme, shapes)
    return Proposal(scheme, choice, list(names), told, mean, remarks=remarks)


def best_normaliser(scheme: Scheme, shapes: np.ndarray) -> tuple[str, list[str]]:
    """The first normaliser of the scheme that every face has, and why others are not it."""
    remarks = []
    for name, pair in scheme.normalisers().items():
        if name == "box_side":
            continue
        landmarks = np.concatenate([np.atleast_1d(side) for side in pair])
        absent = np.isnan(shapes[:, landmarks]).any((1, 2)).sum()
        if not absent:
            return name, remarks
        remarks.append(f"{name} is not the normaliser: of {absent} faces a landmark of it is not annotated")
    return "box_side", remarks


def groups(names: Sequence[str], count: int) -> dict[str, list[int]]:
    """The parts of the face, where the names of most landmarks say them; else all are one group."""
    parts = [next((part for part, known in PARTS.items() if known & set(mirror.words(name))), None) for name in names]
    if sum(part is not None for part in parts) <= count / 2:
        return {"all": list(range(count))}
    found = {part: [k for k, own in enumerate(parts) if own == part] for part in PARTS}
    return {part: own for part, own in (*found.items(), ("other", [k for k, p in enumerate(parts) if not p])) if own}


def _eyes(names: Sequence[str], part: str = "eyes") -> dict[str, list[int]] | None:
    """The landmarks of the left and of the right eye, by names."""
    members = groups(names, len(names)).get(part, [])
    sides = {s: [k for k in members if mirror.side(names[k]) == s] for s in ("left", "right")}
    return sides if len(sides["left"]) == len(sides["right"]) > 0 else None


def _outer_corners(names: Sequence[str], pairs: mirror.Pairs, mean: np.ndarray) -> list[int] | None:
    """The outer corners of the eyes: so named, or of eyes of several landmarks the pair farthest from the midline."""
    eyes = _eyes(names)
    if eyes is None:
        return None
    across = [pair for pair in pairs if {mirror.side(names[k]) for k in pair} == {"left", "right"}
              and set(pair) <= {*eyes["left"], *eyes["right"]}]  # fmt: skip
    named = [pair for pair in across if all(OUTER & set(mirror.words(names[k])) for k in pair)]
    if len(named) == 1:
        return named[0]
    if len(eyes["left"]) < 2 or not across:
        return None
    return max(across, key=lambda pair: np.nan_to_num(abs(mean[pair[0]].real - mean[pair[1]].real)))


def _eye_centres(names: Sequence[str]) -> list[list[int]] | None:
    """The landmarks whose means are the middles of the eyes: pupils, else all of each eye."""
    eyes = _eyes(names, "pupils") or _eyes(names)
    return [eyes["left"], eyes["right"]] if eyes else None


def pair_lines(proposal: Proposal) -> list[str]:
    """`0 ↔ 16 left_eye ↔ right_eye` for each pair, without names in few lines."""
    pairs, names = proposal.scheme.flip_pairs, proposal.names
    if names:
        return [f"{a} ↔ {b}  {names[a]} ↔ {names[b]}" for a, b in pairs]
    texts = [f"{a} ↔ {b}" for a, b in pairs]
    return [",  ".join(texts[i : i + 8]) for i in range(0, len(texts), 8)]


def text(proposal: Proposal, title: str) -> str:
    """The file of params/schemes."""
    scheme = proposal.scheme
    lines = [f"# {scheme.count} landmarks of {title}, made by stages.import_dataset; 0-based."]
    lines += [f"#   {k} {' '.join(name.split())}" for k, name in enumerate(proposal.names)]
    lines += [
        f"count: {scheme.count}",
        f"# left ↔ right when the image is mirrored: {' '.join(proposal.pairs_told.split())}",
        f"flip_pairs: {_wrapped(scheme.flip_pairs)}",
        "groups:",
        *(f"  {name}: {_wrapped(group, 4)}" for name, group in scheme.groups.items()),
    ]
    if scheme.inter_ocular:
        lines.append(f"inter_ocular: {json.dumps(scheme.inter_ocular)} # the outer corners of the eyes")
    if scheme.inter_pupil:
        lines.append(f"inter_pupil: {json.dumps(scheme.inter_pupil)} # the landmarks of each eye, whose mean is taken")
    return "\n".join(lines) + "\n"


def _wrapped(values: list, indent: int = 2) -> str:
    """A YAML list in lines of some 120 characters."""
    lines = [""]
    for i, value in enumerate(values):
        piece = json.dumps(value) + (", " if i + 1 < len(values) else "")
        if len(lines[-1]) + len(piece) > 110 - indent:
            lines.append("")
        lines[-1] += piece
    return "[" + ("\n" + " " * indent).join(line.rstrip() if i + 1 < len(lines) else line
                                            for i, line in enumerate(lines)) + "]"  # fmt: skip


def mean_face(shapes: np.ndarray, pairs: mirror.Pairs) -> np.ndarray:
    """(K,) complex: the mean face under pairs that are known."""
    return symmetric_mean(shapes, flip_order(pairs, shapes.shape[1]))[0]
