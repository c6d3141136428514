"""From annotations to a checked dataset: images found, faces with boxes, a split, a scheme; all faults together."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stages.config.dataset import DATASET
from stages.config.experiment import load_dataset
from stages.config.pipeline import PARAMS, read_pipeline
from stages.config.schemes import load_dataset_scheme, load_scheme
from stages.data.faces import Faces, concatenate
from stages.data.geometry import in_boxes
from stages.data.scheme import DatasetScheme, Scheme
from stages.data.splits import assign_split
from stages.importing import boxes, images, scheme, splits
from stages.importing.annotations import Annotations, joined
from stages.sources.assemble import split_faces
from stages.sources.checks import face_faults, face_warnings
from stages.sources.groups import read_groups
from stages.sources.images.checksums import image_checksums
from stages.sources.scheme_checks import scheme_findings
from stages.sources.visibility import with_visibility
from stages.system.errors import InputError, refuse

# What the checks say of keys of params/datasets, as arguments of the import
_WORDS = {
    "set landmarks.normaliser: box_side": "give --normaliser box_side",
    "set source.pts.hidden: negative (form pts), or write columns visible_<k> (form csv)": (
        "write v = 0 or 1 (COCO), or give --hidden negative (.pts)"
    ),
    "source.group (": "--group (",
}


@dataclass
class Wishes:
    """What the user asked for; None: it is found."""

    scheme: str | None = None
    normaliser: str | None = None
    eyes: list[int] | None = None
    boxes: str | None = None
    by_folder: bool = False
    group: str | None = None
    test_share: float = 0.2


@dataclass
class Imported:
    """A sound dataset, and what to say of it."""

    faces: Faces  # train and test as they are in the files; test_share cuts test out of train later
    proposal: scheme.Proposal
    source: dict[str, object]  # keys of source in params/datasets
    split: list[str]  # of each face once test_share has cut
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def examine(train: Sequence[Annotations], test: Sequence[Annotations], folder: Path, wishes: Wishes) -> Imported:
    """Raises `InputError` listing what is wrong with annotations, images or wishes, of all faces at once."""
    part = joined([*train, *test])
    remarks = [f"{what}: {n}, left out" for what, n in part.left_out.items() if n] + part.remarks
    faults = list(part.faults)
    if not len(part):
        raise_faults(faults or [f"no face is left ({'; '.join(remarks) or 'the files hold none'})"])
    faults += _number_faults(part)
    paths, found, missing = images.resolved(part, folder)
    present = sorted(set(paths) - {""})
    hashes, damaged, _ = image_checksums(folder, present, decode=False)
    sizes, turned, differing = images.sizes(part, paths, folder)
    faults += missing + damaged + differing
    orientation = {"orientation": "exif"} if turned else {}
    remarks += found

    files = sum(map(len, train))
    split = ["train"] * files + ["test"] * (len(part) - files)
    if wishes.by_folder:
        split, more, wrong = splits.by_folder(paths, part.places)
        remarks, faults = remarks + more, faults + wrong
    kept = [i for i, path in enumerate(paths) if path and split[i]]
    if not kept:
        raise_faults(faults)
    part, paths, split = part.where(kept), [paths[i] for i in kept], [split[i] for i in kept]
    landmarks, visible = with_visibility(part.points, part.v)
    (center, side), told, wrong = boxes.face_boxes(landmarks, part.boxes, part.places, wishes.boxes)
    faults += wrong + _outside_faults(landmarks, paths, part.places, sizes, turned)
    remarks.append(f"face boxes: {told}")

    order = np.argsort(np.array(split) == "test", kind="stable")  # train first
    halves = [order[[split[i] == name for i in order]] for name in ("train", "test")]
    faces = concatenate([
        split_faces(name, [paths[i] for i in rows], landmarks[rows], box=(center[rows], side[rows]),
                    visible=visible[rows])
        for name, rows in zip(("train", "test"), halves, strict=True)
    ])  # fmt: skip
    places = {face: part.places[i] for face, i in zip(faces.face_id, order, strict=True)}
    source: dict[str, object] = {} if "test" in split else {"test_share": wishes.test_share}
    faults += read_groups(faces, wishes.group)
    measured = faces
    if not faults and source:
        measured = assign_split(faces, {name: sha for name, _, sha in hashes}, wishes.test_share, target="test")
        lacking = [name for name in ("train", "test") if name not in measured.split]
        faults += [f"--test-share {wishes.test_share} leaves no face in {name}" for name in lacking]
    try:
        proposal = _proposal(faces, part, wishes)
        whole = dataset_scheme(proposal, wishes.scheme or "the new one")
        faults += face_faults(measured, whole)
        if not faults:
            wrong, warnings = scheme_findings(measured, whole)
            faults += wrong if wishes.scheme else []  # else they are of our own making, and warnings
            warnings += [] if wishes.scheme else wrong
            warnings += face_warnings(measured, whole)
    except InputError as error:
        faults.append(str(error))
    raise_faults([_with_place(fault, places) for fault in faults])
    if wishes.group:
        source["group"] = wishes.group
        remarks.append(f"persons or videos by --group: {len(set(faces.extra['group']))}")
        faces = replace(faces, extra={})  # fetch reads them again
    return Imported(faces, proposal, source | orientation, measured.split, remarks + proposal.remarks, warnings)


def raise_faults(faults: list[str]) -> None:
    """Raise `InputError` with the faults, if there are any."""
    refuse(
        list(dict.fromkeys(faults)),
        "the annotations and images",
        "Nothing was written. Fix these, then run the same command again.",
    )


def dataset_scheme(proposal: scheme.Proposal, name: str) -> DatasetScheme:
    """Raises `InputError` where the scheme does not define the normaliser."""
    if proposal.normaliser not in proposal.scheme.normalisers():
        known = ", ".join(proposal.scheme.normalisers())
        remedy = (
            f"scheme {name} defines {known}" if proposal.existing else "name the corners of the eyes (--eyes 36,45)"
        )
        raise InputError(f"normaliser {proposal.normaliser} is not defined: {remedy}")
    content = proposal.scheme.model_dump() | {"scheme": name, "normaliser": proposal.normaliser}
    return DatasetScheme.model_validate(content)


def _proposal(faces: Faces, part: Annotations, wishes: Wishes) -> scheme.Proposal:
    shapes, count = in_boxes(faces.landmarks, faces.center, faces.side), part.v.shape[1]
    if wishes.scheme is None:
        if wishes.eyes and not all(0 <= k < count for k in wishes.eyes):
            raise InputError(f"--eyes {wishes.eyes[0]},{wishes.eyes[1]}: landmarks are 0 to {count - 1}")
        proposal = scheme.propose(shapes, part.names, wishes.eyes, wishes.normaliser)
        proposal.remarks += [
            f"its pairs are those of scheme {name}: if the landmarks are, --scheme {name} has their groups and eyes"
            for name in _same_pairs(proposal.scheme)
        ]
        return proposal
    known = load_scheme(wishes.scheme)
    if known.count != count:
        raise InputError(f"scheme {wishes.scheme} has {known.count} landmarks, and the annotations have {count}")
    choice, remarks = (wishes.normaliser, []) if wishes.normaliser else scheme.best_normaliser(known, shapes)
    mean = scheme.mean_face(shapes, known.flip_pairs)
    return scheme.Proposal(known, choice, part.names, f"of scheme {wishes.scheme}", mean, wishes.scheme, remarks)


def _same_pairs(found: Scheme) -> list[str]:
    """The schemes of params/schemes with as many landmarks and the same flip pairs."""
    pairs, names = {frozenset(pair) for pair in found.flip_pairs}, []
    for path in sorted((PARAMS / "schemes").glob("*.yaml")):
        with suppress(InputError):
            known = load_scheme(path.stem)
            if known.count == found.count > 3 and {frozenset(pair) for pair in known.flip_pairs} == pairs:
                names.append(path.stem)
    return names


def _number_faults(part: Annotations) -> list[str]:
    """Landmarks that are shares of the image's size, as some tools write them."""
    largest = np.abs(np.where((part.v > 0)[..., None], part.points, 0)).max((1, 2))
    if len(largest) and np.median(largest) <= 1.5:
        return [f"{part.places[0]}: its coordinates are at most {largest[0]:.3g}: they are shares of the image's size, "
                "and px are needed"]  # fmt: skip
    return []


def _outside_faults(landmarks, paths, places, sizes, turned) -> list[str]:
    """Faces most of whose landmarks are outside of their image, or one farther than half the image's longer side."""
    faults = []
    for points, path, place in zip(landmarks, paths, places, strict=True):
        if path not in sizes:
            continue
        known = np.flatnonzero(np.isfinite(points).all(1))
        limit = max(sizes[path]) if turned else np.array(sizes[path])
        beyond = np.maximum(-points[known], points[known] - limit).max(1)
        told = f"its image {path}, which is {sizes[path][0]}×{sizes[path][1]} px"
        if (beyond > 1).mean() > 0.5:
            faults.append(f"{place}: {(beyond > 1).mean():.0%} of its landmarks are outside of {told}")
        elif beyond.max() > max(sizes[path]) / 2:
            k = known[beyond.argmax()]
            faults.append(f"{place}: landmark {k} is at ({points[k, 0]:g}, {points[k, 1]:g}), far outside of {told}")
    return faults


def _with_place(fault: str, places: dict[str, str]) -> str:
    """A fault of the checks in the words of the import: the annotation, not the face's id; arguments, not keys."""
    for words, own in _WORDS.items():
        fault = fault.replace(words, own)
    match = re.match(r"face (.*?): ", fault)
    return f"{places[match[1]]}: {fault[match.end() :]}" if match and match[1] in places else fault


def require_readable(name: str) -> None:
    """Raise `InputError` where the files of params/ that were written are not what the stages can read."""
    landmarks = load_dataset(name, *DATASET).landmarks
    load_dataset_scheme(landmarks.scheme, landmarks.normaliser, name)
    read_pipeline()


def record(imported: Imported, files: dict[str, str]) -> str:
    """import.json: what the dataset was made of. files: SHA-256 by name."""
    content = {"files": files, "faces": len(imported.faces), "remarks": imported.remarks}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
