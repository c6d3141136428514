"""Landmark schemes: how many landmarks a face has, which swap in a mirror, which form an eye, what NME is divided by.

A scheme is written once, in params/schemes/<scheme>.yaml; a dataset names its scheme and its official normaliser. The
obtain stage resolves the two into data/schemes/<dataset>.json, which every later stage reads: a scheme that no listed
dataset has can change without any stage running again.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.data.geometry import flip_order
from stages.system.errors import InputError
from stages.system.files import write_json

Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class Scheme(BaseModel):
    """One file of params/schemes; all indices are 0-based."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    count: Annotated[int, Field(ge=1)]
    """How many landmarks a face has."""
    flip_pairs: list[Pair]
    """Landmarks that change places when the image is mirrored: left ↔ right."""
    groups: dict[str, list[int]]
    """Parts of the face whose errors the report gives."""
    inter_ocular: Pair | None = None
    """The outer corners of the eyes."""
    inter_pupil: Annotated[list[list[int]], Field(min_length=2, max_length=2)] | None = None
    """The landmarks of each eye, whose mean is its centre."""

    @model_validator(mode="after")
    def _indices_exist(self) -> "Scheme":
        mirrored = [i for pair in self.flip_pairs for i in pair]
        if len(set(mirrored)) != len(mirrored):
            raise ValueError("flip_pairs names a landmark more than once")
        named = [
            *mirrored,
            *sum(self.groups.values(), []),
            *(self.inter_ocular or []),
            *sum(self.inter_pupil or [], []),
        ]
        outside = sorted({i for i in named if not 0 <= i < self.count})
        if outside:
            raise ValueError(f"landmarks {outside} are named, and there are {self.count} (0 to {self.count - 1})")
        return self

    def flip_order(self) -> np.ndarray:
        """(K,) the landmark that takes each one's place in a mirrored image."""
        return flip_order(self.flip_pairs, self.count)

    def normalisers(self) -> dict[str, object]:
        """The normalisers that the landmarks define, as `nme.normalisers` reads them."""
        defined = {"inter_ocular": self.inter_ocular, "inter_pupil": self.inter_pupil, "box_side": "box"}
        return {name: value for name, value in defined.items() if value is not None}


class DatasetScheme(Scheme):
    """The scheme of a dataset and its official normaliser: data/schemes/<dataset>.json."""

    scheme: str
    normaliser: Literal["inter_ocular", "inter_pupil", "box_side"]

    @model_validator(mode="after")
    def _normaliser_is_defined(self) -> "DatasetScheme":
        if self.normaliser not in self.normalisers():
            raise ValueError(f"normaliser is {self.normaliser}, which scheme {self.scheme} does not define")
        return self


def scheme_file(dataset: str, root: Path = Path()) -> Path:
    """Where the obtain stage leaves a dataset's scheme."""
    return root / "data/schemes" / f"{dataset}.json"


def write_scheme(scheme: DatasetScheme, dataset: str) -> None:
    write_json(scheme_file(dataset), scheme.model_dump())


def read_scheme(dataset: str, root: Path = Path()) -> DatasetScheme:
    """Raises `InputError` where the file is missing or damaged."""
    path = scheme_file(dataset, root)
    try:
        return DatasetScheme.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run dvc repro obtain@{dataset} (or dvc checkout).") from None
    except ValidationError as error:
        raise InputError(f"{path} is damaged ({error.errors()[0]['msg']}): delete it and run dvc repro.") from None
