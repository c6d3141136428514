"""Landmark schemes (params/schemes) and which landmarks of two of them correspond (params/correspondence.yaml)."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from stages.config.pipeline import PARAMS
from stages.config.reading import parameter_file, read_yaml, validate
from stages.config.section import Section
from stages.data.scheme import DatasetScheme, Pair, Scheme
from stages.system.errors import InputError, refuse


class Correspondence(Section):
    """Landmarks of two schemes that are the same point of the face: pairs of 0-based indices, in the schemes' order."""

    schemes: Annotated[list[str], Field(min_length=2, max_length=2)]
    pairs: list[Pair]

    @model_validator(mode="after")
    def _indices_are_unique(self) -> "Correspondence":
        for side, scheme in enumerate(self.schemes):
            indices = [pair[side] for pair in self.pairs]
            duplicated = sorted({i for i in indices if indices.count(i) > 1})
            if duplicated:
                raise ValueError(f"landmarks {duplicated} of {scheme} are duplicated")
        return self


class Correspondences(Section):
    correspondences: list[Correspondence]


def load_scheme(name: str) -> Scheme:
    """Raises `InputError` naming the file and the key that is wrong."""
    path = parameter_file(PARAMS / "schemes", name)
    return validate(Scheme, read_yaml(path), path)


def scheme_counts() -> dict[str, int]:
    """The schemes of params/schemes and their numbers of landmarks."""
    return {file.stem: load_scheme(file.stem).count for file in sorted((PARAMS / "schemes").glob("*.yaml"))}


def load_dataset_scheme(scheme: str, normaliser: str, dataset: str) -> DatasetScheme:
    """A dataset's scheme with its official normaliser. Raises `InputError` where the scheme does not define it."""
    content = load_scheme(scheme).model_dump() | {"scheme": scheme, "normaliser": normaliser}
    return validate(DatasetScheme, content, PARAMS / "datasets" / f"{dataset}.yaml")


def corresponding_landmarks(one: DatasetScheme, other: DatasetScheme) -> list[tuple[int, int]]:
    """The landmarks that two schemes have in common, as pairs of indices in `one` and in `other`, sorted by `other`.

    Raises `InputError` where params/correspondence.yaml does not relate the two, or names landmarks they do not have.
    """
    if one.scheme == other.scheme:
        return [(i, i) for i in range(one.count)]
    counts = {one.scheme: one.count, other.scheme: other.count}
    if (pairs := _pairs(one.scheme, other.scheme, counts)) is None:
        raise InputError(
            f"{PARAMS}/correspondence.yaml: it does not say which landmarks of {one.scheme} and {other.scheme} "
            "correspond. Add them there."
        )
    return pairs


def initial_landmarks(scheme: str, init: str, theirs: str | None) -> list[tuple[int, int]] | None:
    """Of initial weights of another scheme, pairs of corresponding landmarks in `scheme` and in theirs, sorted by own.

    init: a name in models/; theirs: its scheme where an experiment of params/pipeline.yaml makes it. Empty where
    params/correspondence.yaml does not relate the two; None where both have one scheme, or that of a file is not known.
    Raises `InputError` where the correspondence names landmarks that a scheme does not have.
    """
    description = Path("models") / init / "model.json"
    if theirs is None and description.is_file():
        try:
            theirs = json.loads(description.read_text(encoding="utf-8"))["scheme"]["scheme"]
        except (ValueError, KeyError, TypeError):  # train says what is wrong with it
            return None
    if theirs in (None, scheme):
        return None
    files = {name: PARAMS / "schemes" / f"{name}.yaml" for name in (scheme, theirs)}
    counts = {name: load_scheme(name).count for name, file in files.items() if file.is_file()}
    return sorted(_pairs(scheme, theirs, counts) or [])


def _pairs(one: str, other: str, counts: dict[str, int]) -> list[tuple[int, int]] | None:
    """Pairs of indices in the schemes `one` and `other`, sorted by `other`; None where none are listed."""
    path = PARAMS / "correspondence.yaml"
    for entry in validate(Correspondences, read_yaml(path), path).correspondences:
        if set(entry.schemes) != {one, other}:
            continue
        step = 1 if entry.schemes == [one, other] else -1
        pairs = [tuple(pair[::step]) for pair in entry.pairs]
        faults = [
            f"{one} and {other}: landmarks {outside} do not exist in {name}"
            for side, name in enumerate((one, other))
            if name in counts
            and (outside := sorted({pair[side] for pair in pairs if not 0 <= pair[side] < counts[name]}))
        ]
        refuse(faults, str(path), "Landmarks are counted from 0.")
        return sorted(pairs, key=lambda pair: pair[1])
    return None
