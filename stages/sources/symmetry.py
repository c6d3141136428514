"""Whether a scheme's flip pairs fit the faces: the mean face, mirrored, must be the mean face with the pairs swapped.

Shapes (N, K, 2) are in box coordinates (geometry.in_boxes), NaN where a landmark is not annotated. Here they are
complex numbers x + iy about the mean of their landmarks, so that z → −conj(z) mirrors and a factor turns and scales.

The limits are from real faces (300W, WFLW, LFPW; the landmarks of AFLW and COFW taken out of WFLW's). With the right
pairs the mean of the third that is most symmetric has a residual of 0.01 (0.08 for WFLW's large poses, up to 0.16 for
ten faces), with lists that are empty or off by one 0.54 or more. Two neighbouring pairs that are exchanged put a
landmark 0.03 box sides off, ten times as far as the median landmark.
"""

from collections.abc import Sequence

import numpy as np

from stages.data.geometry import flip_order

FEW, MANY = 10, 30  # faces: with fewer there is only a warning; from so many on, single pairs are judged
SYMMETRIC = 0.25  # the residual of a mean face that is its own mirror image
OFF = 0.02  # box sides by which a pair is farther apart than another one


def flip_pair_findings(shapes: np.ndarray, pairs: Sequence[Sequence[int]]) -> tuple[list[str], list[str]]:
    """What of `pairs` cannot be right for these faces, and what may not be."""
    n, count = shapes.shape[:2]
    if count < 2 or not n:
        return [], []
    order = flip_order(pairs, count)
    mean, residual = symmetric_mean(shapes, order)
    if residual <= SYMMETRIC:
        return (_misplaced(mean, order), []) if n >= MANY else ([], [])
    better = nearest_pairs(shapes)
    _, best = symmetric_mean(shapes, flip_order(better, count))
    if best > min(SYMMETRIC, residual / 3):
        doubt = "flip_pairs cannot be confirmed: the faces are not symmetric under them (profiles, or too few faces)"
        return [], [doubt] if n >= FEW or residual > 2 * SYMMETRIC else []
    fault = "flip_pairs is empty" if not len(pairs) else "flip_pairs does not fit the landmarks"
    fault += f": the mean face of {n} and its mirror image with the pairs swapped are {residual:.0%} apart"
    from_zero = [[i - 1 for i in pair] for pair in pairs]
    possible = min((min(pair) for pair in from_zero), default=-1) >= 0
    if possible and symmetric_mean(shapes, flip_order(from_zero, count))[1] <= SYMMETRIC:
        better, fault = from_zero, f"{fault}. Its landmarks are counted from 1, and are to be counted from 0"
    fault += f". By the mean face it is [{', '.join(f'[{a}, {b}]' for a, b in better)}]"
    return ([fault], []) if n >= FEW else ([], [fault])


def symmetric_mean(shapes: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean (K,) of the faces most symmetric under `order`, turned upright, and the residual of its own symmetry."""
    residual, _ = _asymmetry(shapes, order)
    few = max(FEW, len(shapes) // 3)
    mean = _mean(shapes[np.argsort(residual, kind="stable")[:few]])
    (residual,), (turn,) = _asymmetry(np.stack([mean.real, mean.imag], -1)[None], order)
    return (mean * np.exp(-0.5j * np.angle(turn)) if residual <= SYMMETRIC else mean), float(residual)


def _asymmetry(shapes: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each shape: the residual (0 to 1) of the best turn and scale that lay its mirror image on it, and that factor.

    A turn by more than 90° does not count: the shape of two eyes that are not paired would fit upside down. Of faces
    with less than half of the landmarks, or their partners, the residual is 1.
    """
    z = shapes[..., 0] + 1j * shapes[..., 1]
    known = np.isfinite(z) & np.isfinite(z[:, order])
    number = np.maximum(known.sum(1, keepdims=True), 1)
    z = np.where(known, z, 0)
    z = np.where(known, z - z.sum(1, keepdims=True) / number, 0)
    mirrored = -np.conj(z[:, order])
    with np.errstate(invalid="ignore"):  # all landmarks at one place
        factor = (np.conj(mirrored) * z).sum(1) / (np.abs(z) ** 2).sum(1)
    residual = np.sqrt(np.maximum(1 - np.abs(factor) ** 2, 0))
    usable = (factor.real > 0) & (2 * known.sum(1) >= z.shape[1])
    return np.where(usable, residual, 1.0), factor


def _mean(shapes: np.ndarray) -> np.ndarray:
    """(K,) complex: the mean shape about the mean of its landmarks, NaN for a landmark that no face has."""
    known = np.isfinite(shapes[..., 0])
    with np.errstate(invalid="ignore"):
        x, y = (np.where(known[..., None], shapes, 0).sum(0) / known.sum(0)[:, None]).T
    return x + 1j * y - np.nanmean(x + 1j * y)


def mirror_distances(mean: np.ndarray) -> np.ndarray:
    """(K, K): how far landmark j, mirrored, is from landmark k."""
    distance = np.abs(mean[:, None] + np.conj(mean[None]))
    return np.where(np.isnan(distance), np.inf, distance)


def _misplaced(mean: np.ndarray, order: np.ndarray) -> list[str]:
    """The landmarks of an upright mean face that the mirror lays on another landmark than the one `order` gives."""
    distance, own = mirror_distances(mean), np.arange(len(mean))
    given, nearest = distance[own, order], distance.min(1)
    typical = max(np.median(given[np.isfinite(given)]), 0.002)
    wrong = (given - nearest > OFF) & (given > 5 * typical) & (nearest < 3 * typical)
    return [
        f"flip_pairs: landmark {k} is mirrored to landmark {order[k]}, and in the mean face to {distance[k].argmin()}"
        for k in np.flatnonzero(wrong & np.isfinite(given))
    ]


def nearest_pairs(shapes: np.ndarray) -> list[list[int]]:
    """The pairs that the mean face suggests: landmarks that the mirror lays on one another.

    The faces whose landmarks lie evenly to the left and right suggest the first pairs, which say better which faces are
    symmetric, whose mean suggests better ones.
    """
    x = shapes[..., 0]
    uneven = np.abs(np.nanmean(x, 1) - (np.nanmin(x, 1) + np.nanmax(x, 1)) / 2)
    mean, pairs = _mean(shapes[np.argsort(uneven, kind="stable")[: max(FEW, len(x) // 3)]]), []
    for _ in range(5):
        nearest = mirror_distances(mean).argmin(1)
        previous, pairs = pairs, [[k, int(j)] for k, j in enumerate(nearest) if k < j and nearest[j] == k]
        if pairs == previous:
            break
        mean, _ = symmetric_mean(shapes, flip_order(pairs, len(mean)))
    return pairs
