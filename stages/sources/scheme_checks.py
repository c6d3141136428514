"""Whether a landmark scheme fits the faces that it is given for: the mirror, the eyes and the groups."""

import numpy as np

from stages.data.faces import Faces
from stages.data.geometry import in_boxes
from stages.data.scheme import DatasetScheme
from stages.sources.symmetry import flip_pair_findings


def scheme_findings(faces: Faces, scheme: DatasetScheme) -> tuple[list[str], list[str]]:
    """The faults of the scheme for these faces, and the warnings; judged by the training faces where there are some."""
    part = faces.of("train") if "train" in faces.split else faces
    shapes = in_boxes(part.landmarks, part.center, part.side)
    faults, warnings = flip_pair_findings(shapes, scheme.flip_pairs)
    warnings += _group_warnings(scheme) + _eye_warnings(shapes, scheme)
    where = f"params/schemes/{scheme.scheme}.yaml"
    return [f"{where}: {fault}" for fault in faults], [f"{where}: {warning}" for warning in warnings]


def _group_warnings(scheme: DatasetScheme) -> list[str]:
    """Groups that leave landmarks out, as those of another scheme do, or that the mirror tears apart."""
    named, order, warnings = set(sum(scheme.groups.values(), [])), scheme.flip_order(), []
    left_out = [k for k in range(scheme.count) if k not in named]
    if named and left_out:
        warnings.append(f"groups name {len(named)} of {scheme.count} landmarks ({left_out[0]} is in none): are they "
                        "this scheme's? The error of a group is that of its landmarks alone")  # fmt: skip
    for name, group in scheme.groups.items():
        torn = [k for k in group if order[k] not in group]
        if torn and not any({int(order[k]) for k in group} == set(other) for other in scheme.groups.values()):
            warnings.append(f"group {name} holds landmark {torn[0]} and not {order[torn[0]]}, which mirrors it")
    return warnings


def _eye_warnings(shapes: np.ndarray, scheme: DatasetScheme) -> list[str]:
    """Eyes that do not mirror each other, or whose landmarks are spread wider than the eyes are apart."""
    order, warnings = scheme.flip_order(), []
    for name in ("inter_ocular", "inter_pupil"):
        pair = getattr(scheme, name)
        if pair is None:
            continue
        left, right = (np.atleast_1d(eye) for eye in pair)
        if len(scheme.flip_pairs) and sorted(order[left]) != sorted(right):
            warnings.append(f"{name}: by flip_pairs the mirror of {left.tolist()} is {sorted(order[left].tolist())}, "
                            f"not {right.tolist()}")  # fmt: skip
            continue
        apart = np.linalg.norm(shapes[:, left].mean(1) - shapes[:, right].mean(1), axis=1)
        spread = np.ptp(shapes[:, left], 1).max(1)
        sound = apart > 0  # False where one of these landmarks is not annotated
        wide = np.median(spread[sound] / apart[sound]) if sound.any() else 0
        if wide > 1:
            warnings.append(f"{name}: the landmarks {left.tolist()} are spread {wide:.1f} times as wide as the eyes "
                            "are apart: are they an eye's?")  # fmt: skip
    return warnings
