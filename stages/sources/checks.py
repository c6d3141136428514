"""Checks of a whole dataset before anything is made of it: what cannot be right (faults) and what may be (warnings).

Each function returns all that it finds, for one message.
"""

from collections import Counter, defaultdict

import numpy as np

from stages.data import nme
from stages.data.faces import Faces
from stages.data.scheme import DatasetScheme
from stages.sources.assemble import find_faces
from stages.sources.plausibility import position_faults, position_warnings

# Of the box's side. In the 1966 WFLW test faces with an attribute, large poses included, the smallest inter-ocular
# distance is 0.175 and the smallest inter-pupil distance 0.073.
SHORT, ABSURD = 0.05, 0.01


def face_faults(faces: Faces, scheme: DatasetScheme) -> list[str]:
    """The faces with coordinates that are no positions, and the test faces that cannot be measured."""
    return position_faults(faces) + normaliser_faults(faces, scheme)


def face_warnings(faces: Faces, scheme: DatasetScheme) -> list[str]:
    return position_warnings(faces) + normaliser_warnings(faces, scheme) + duplicate_warnings(faces)


def count_faults(faces: Faces, counts, splits: tuple[str, ...]) -> list[str]:
    """Where the numbers of faces differ from `counts` (config.dataset.Counts)."""
    expected = {split: getattr(counts, split) for split in splits if getattr(counts, split) is not None}
    actual = {split: faces.split.count(split) for split in expected}
    if "test" in splits:
        expected |= {f"subset {name}": n for name, n in counts.subsets.items()}
        actual |= {f"subset {name}": sum(name in subsets for subsets in faces.subsets) for name in counts.subsets}
    return [
        f"{name} has {actual[name]} faces, and {n} were published" for name, n in expected.items() if actual[name] != n
    ]


def normaliser_faults(faces: Faces, scheme: DatasetScheme) -> list[str]:
    """The test faces whose official normaliser is not defined or next to nothing, so that they cannot be measured."""
    share, test = _normaliser_share(faces, scheme), np.array([split == "test" for split in faces.split], bool)
    pair, faults = scheme.normalisers()[scheme.normaliser], []
    for i in np.flatnonzero(test & ~(share >= ABSURD)):
        named = np.concatenate([np.atleast_1d(side) for side in pair])
        absent = [int(k) for k in named if not faces.annotated[i, k]]
        if absent:
            fault = f"landmarks {absent} are not annotated"
        elif np.isnan(share[i]):
            fault = f"landmarks {pair[0]} and {pair[1]} coincide"
        else:
            fault = f"landmarks {pair[0]} and {pair[1]} are {share[i] * faces.side[i]:.2g} px apart"
        faults.append(f"face {faces.face_id[i]}: {fault}, so its {scheme.normaliser} distance cannot measure an error. "
                      "Annotate or leave out the face, or set landmarks.normaliser: box_side")  # fmt: skip
    return faults


def normaliser_warnings(faces: Faces, scheme: DatasetScheme) -> list[str]:
    """Test faces whose errors a short normaliser blows up, and training faces without one."""
    share = _normaliser_share(faces, scheme)
    test = np.array([split == "test" for split in faces.split], bool)
    short, without = test & (share < SHORT), ~test & ~(share >= ABSURD)
    smallest = faces.face_id[np.where(short, share, np.inf).argmin()]
    warnings = []
    if short.any():
        least = f"{short.sum()} ({smallest}: {np.nanmin(share[short]):.1%}); their errors weigh heavily"
        warnings.append(f"test faces whose {scheme.normaliser} distance is below {SHORT:.0%} of their box: {least}")
    if without.any():
        warnings.append(f"training faces without {scheme.normaliser} distance: {without.sum()} "
                        f"({faces.face_id[np.argmax(without)]} first); they are not measured")  # fmt: skip
    return warnings


def _normaliser_share(faces: Faces, scheme: DatasetScheme) -> np.ndarray:
    """(N,) the official normaliser in sides of the box, NaN where it is 0 or a landmark of it is not annotated."""
    definitions = {scheme.normaliser: scheme.normalisers()[scheme.normaliser]}
    with np.errstate(over="ignore"):
        return nme.normalisers(faces.landmarks, faces.side, definitions)[scheme.normaliser] / faces.side


def duplicate_warnings(faces: Faces) -> list[str]:
    """Faces that are twice in a split, and test faces that are in train too: the same image and landmarks."""
    warnings = []
    for split in dict.fromkeys(faces.split):
        part, rows = faces.of(split), defaultdict(list)
        for row, image in enumerate(part.image):
            rows[image].append(row)
        several = [row for same in rows.values() if len(same) > 1 for row in same]
        keys = [(part.image[row], part.landmarks[row].tobytes(), part.center[row].tobytes()) for row in several]
        if more := sum(Counter(keys).values()) - len(set(keys)):
            image = Counter(keys).most_common(1)[0][0][0]
            warnings.append(f"duplicated faces (same image, landmarks and box) in {split}: {more} ({image} first)")
    train, test = faces.of("train"), faces.of("test")
    matches = find_faces(test.image, test.landmarks, train.image, train.landmarks)
    both = [face for face, match in zip(test.face_id, matches, strict=True) if match is not None]
    if both:
        warnings.append(f"test faces that are in train too (same image and landmarks): {len(both)} ({both[0]} first); "
                        "results on them are optimistic")  # fmt: skip
    return warnings


def visibility_counts(faces: Faces) -> list[str]:
    """How many landmarks of each split are hidden and not annotated, where any are."""
    lines = []
    for split in dict.fromkeys(faces.split):
        part = faces.of(split)
        absent, hidden = int((~part.annotated).sum()), int((part.annotated & ~part.visible).sum())
        if absent or hidden:
            lines.append(f"{split}: of {part.visible.size} landmarks {hidden} hidden, {absent} not annotated")
    return lines
