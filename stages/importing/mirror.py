"""Which landmarks swap in a mirror: by their names, and by the mean face, which decides where the names cannot.

Names alone mislead where an outline is numbered one way round: left_eye_1 and right_eye_1 may be an outer and an inner
corner.
"""

import re
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from stages.data.geometry import flip_order
from stages.sources.symmetry import MANY, SYMMETRIC, flip_pair_findings, mirror_distances, nearest_pairs, symmetric_mean

Pairs = list[list[int]]
_SIDES = {"left": "left", "right": "right", "l": "left", "r": "right", "lt": "left", "rt": "right"}


def words(name: str) -> list[str]:
    """The words of a landmark's name in lower case: of left_eye, leftEye, LeftEye1, `left eye` left and eye."""
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    text = re.sub(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", text).lower()
    return [word for part in re.split(r"[\W_]+", text) for word in re.split(r"(left|right)", part) if word]


def side(name: str) -> str | None:
    """left or right, where a name says one of them."""
    sides = {_SIDES[word] for word in words(name) if word in _SIDES}
    return sides.pop() if len(sides) == 1 else None


def named_pairs(names: Sequence[str]) -> Pairs:
    """The pairs of landmarks whose names differ in left and right alone."""
    by_key: dict[tuple, dict[str, list[int]]] = {}
    for k, name in enumerate(names):
        if said := side(name):
            key = tuple("side" if word in _SIDES else word for word in words(name))
            by_key.setdefault(key, {}).setdefault(said, []).append(k)
    both = [sides for sides in by_key.values() if [len(sides.get(s, [])) for s in ("left", "right")] == [1, 1]]
    return sorted(sorted([*sides["left"], *sides["right"]]) for sides in both)


def symmetric_pairs(shapes: np.ndarray, given: Pairs | None = None) -> tuple[Pairs, float, np.ndarray]:
    """The best pairs by the mean face, the residual of its symmetry, and the mean face (K,), complex and upright.

    shapes: as in sources.symmetry. given: pairs that are right, of which only the others' partners are looked for. Each
    landmark is matched to the one that its mirror image is on, or to itself on the midline, with the least distances
    in all (an assignment).
    """
    count = shapes.shape[1]
    fixed = {k for pair in given or [] for k in pair}
    free = np.array([k for k in range(count) if k not in fixed], int)
    pairs = sorted(given) if given else nearest_pairs(shapes)
    for _ in range(10):
        mean, residual = symmetric_mean(shapes, flip_order(pairs, count))
        distance = mirror_distances(mean)[np.ix_(free, free)]
        distance = np.where(np.isfinite(distance), distance, 1e3)
        partner = linear_sum_assignment(distance)[1]
        previous, pairs = pairs, sorted([*(given or []), *_swaps(distance, partner, free)])
        if pairs == previous:
            break
    mean, residual = symmetric_mean(shapes, flip_order(pairs, count))
    return pairs, residual, mean


def _swaps(distance: np.ndarray, partner: np.ndarray, free: np.ndarray) -> Pairs:
    """The pairs of an assignment; of a cycle of more landmarks those that are nearest, as long as there are two."""
    pairs, done = [], set()
    for a in np.argsort(distance[np.arange(len(partner)), partner], kind="stable"):
        b = partner[a]
        if a not in done and b not in done:
            done |= {a, b}
            pairs += [sorted([int(free[a]), int(free[b])])] if a != b else []
    return pairs


def find_pairs(shapes: np.ndarray, names: Sequence[str]) -> tuple[Pairs, str, np.ndarray]:
    """The pairs, a sentence on where they are from, and the mean face (K,), for shapes (N, K, 2) and landmark names."""
    if not len(shapes) or shapes.shape[1] < 2:
        return [], "none, of one landmark", np.zeros(shapes.shape[1], complex)
    by_shape, residual, mean = symmetric_pairs(shapes)
    by_name = named_pairs(names)
    if not by_name:
        told = f"by the mean face's symmetry, residual {residual:.3f}"
        if residual > SYMMETRIC or len(shapes) < MANY:
            told += f" of {len(shapes)} faces, which is no sure sign (below {SYMMETRIC} of at least {MANY} faces is)"
        return by_shape, told, mean
    pairs, named_residual, named_mean = symmetric_pairs(shapes, by_name)
    added = f", {len(pairs) - len(by_name)} more by the mean face" if len(pairs) > len(by_name) else ""
    faults, _ = flip_pair_findings(shapes, pairs)
    if not faults or flip_pair_findings(shapes, by_shape)[0]:
        return pairs, f"by their names{added}; residual of the mean face's symmetry {named_residual:.3f}", named_mean
    a, b = next(pair for pair in by_name if pair not in by_shape)
    partner = flip_order(by_shape, shapes.shape[1])[a]
    return by_shape, (
        f"by the mean face's symmetry, residual {residual:.3f}: the names pair {a} ({names[a]}) with {b} ({names[b]}), "
        f"and the mirror lays it on {partner} ({names[partner]})"
    ), mean  # fmt: skip
