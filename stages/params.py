"""The typed parameters: one model per section of a file in params/; an unknown or a wrong key names its file and key.

A stage reads the sections it needs and no others (`dataset("demo", "crops")`), so that what `dvc.yaml` declares for it
is what it reads. Types are strict: 2.5 is no number of epochs, and "fast" no learning rate.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.errors import InputError, refuse

PARAMS = Path("params")

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# ---- params/pipeline.yaml


class Experiment(Section):
    dataset: str
    recipe: str


class Pipeline(Section):
    datasets: list[str]
    experiments: dict[str, Experiment]


# ---- params/datasets/*.yaml


class About(Section):
    """What a reader of the report wants to know of the data."""

    title: str
    licence: str
    citation: str
    homepage: str
    obtain: str  # how a person gets it, said by fetch where it is missing
    share_pictures: bool  # False: no picture of its faces ever goes into git


class DemoForm(Section):
    """Faces drawn by this project."""

    seed: int
    train: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=64, le=1024)]  # px


class CsvForm(Section):
    """HRNet's CSV files; paths are relative to the root. A subset is a CSV file whose rows are rows of test."""

    images: str  # the folder that image names start from, here and below
    train: str | None
    test: str
    subsets: dict[str, str] = {}


class ListsForm(Section):
    """WFLW's own lists; a subset is an attribute flag of the list, or a list whose rows are rows of test."""

    images: str
    train: str | None
    test: str
    attributes: list[str]  # names of the flags that a list with rectangles has, in their order
    subsets: dict[str, str] = {}


class PtsForm(Section):
    """300W's own form: a .pts file beside every image. A split is some folders, a subset some of test's folders."""

    images: str
    train: list[str]
    test: Annotated[list[str], Field(min_length=1)]
    subsets: dict[str, list[str]] = {}


class MatForm(Section):
    """COFW's own form: MATLAB v7.3 files that hold images and landmarks."""

    train: str | None
    test: str


class Counts(Section):
    """The published numbers of faces, checked by fetch; what is not named is not checked."""

    train: int | None = None
    test: int | None = None
    subsets: dict[str, int] = {}


class Source(Section):
    """Where the faces come from. The environment variable DATA_<NAME> (DATA_WFLW) overrides `root`."""

    root: str | None  # a folder, an archive (zip, tar), or the URL of one
    sha256: Sha256 | None = None  # of the archive
    folder: str | None = None  # looked into where the root itself does not hold the files (HRNet's data/wflw)
    partial: bool = False  # True: part of the data on purpose, so counts that differ are a warning
    form: Literal["demo", "csv", "lists", "pts", "mat"]  # which of the sections below is read
    demo: DemoForm | None = None
    csv: CsvForm | None = None
    lists: ListsForm | None = None
    pts: PtsForm | None = None
    mat: MatForm | None = None
    counts: Counts = Counts()

    @model_validator(mode="after")
    def _form_is_described(self) -> "Source":
        if getattr(self, self.form) is None:
            raise ValueError(f"form is {self.form}, so a section source.{self.form} is needed")
        return self


class Landmarks(Section):
    count: Count
    flip_pairs: list[Annotated[list[int], Field(min_length=2, max_length=2)]]  # 0-based
    groups: dict[str, list[int]]  # name → 0-based landmarks

    @model_validator(mode="after")
    def _indices_exist(self) -> "Landmarks":
        named = [i for pair in self.flip_pairs for i in pair]
        if len(set(named)) != len(named):
            raise ValueError("flip_pairs names a landmark twice")
        outside = sorted({i for i in named + sum(self.groups.values(), []) if not 0 <= i < self.count})
        if outside:
            raise ValueError(f"landmarks {outside} are named, and there are {self.count} (0 to {self.count - 1})")
        return self


class Normalisers(Section):
    """What NME is divided by, each where the landmarks define it. Indices are 0-based."""

    official: Literal["inter_ocular", "inter_pupil", "box_side"]
    inter_ocular: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    inter_pupil: Annotated[list[list[int]], Field(min_length=2, max_length=2)] | None = None
    box_side: Literal["box"] = "box"

    def definitions(self) -> dict[str, object]:
        """Those that are defined, by name."""
        return {name: value for name, value in self.model_dump(exclude={"official"}).items() if value is not None}

    @model_validator(mode="after")
    def _official_is_defined(self) -> "Normalisers":
        if getattr(self, self.official) is None:
            raise ValueError(f"official is {self.official}, which is not defined here")
        return self


class Crops(Section):
    """What preprocess cuts. 256 px at 1.25 boxes is what the network reads; 448 px at 2.1875 boxes has its scale."""

    size: Annotated[int, Field(ge=32, le=2048)]  # px
    context: Annotated[float, Field(ge=1)]  # the crop's side in sides of the face box
    val_share: Annotated[float, Field(ge=0, lt=1)]  # of the training images, chosen by a hash of their names


# ---- params/recipes/*.yaml


class Model(Section):
    """HRNetV2 (stages/model/hrnet.py); the published W18 is 18, 64, 4, [1, 4, 3], 4."""

    width: Count
    stem: Count
    bottlenecks: Count
    modules: Annotated[list[Count], Field(min_length=3, max_length=3)]
    blocks: Count


class Input(Section):
    size: Annotated[int, Field(ge=32, multiple_of=32)]  # px
    box: Annotated[float, Field(ge=1)]  # side of the input in sides of the face box
    stretch: bool  # the published loader's contrast stretch of every window, in training and in evaluation


class Target(Section):
    sigma: Positive  # heat-map cells
    rounding: Literal["exact", "paper"]


class Augment(Section):
    """Drawn anew for each face and epoch."""

    scale: Annotated[float, Field(ge=0, lt=1)]  # factor from U(1 - scale, 1 + scale)
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees from U(-rotation, rotation) …
    rotation_share: Share  # … with this probability
    shift: Annotated[float, Field(ge=0, lt=1)]  # of the input's side, from U(-shift, shift) in x and in y
    flip: Share


class Train(Section):
    loss: Literal["mse"]
    optimizer: Literal["adam"]
    lr: Positive
    epochs: Count
    milestones: list[Count]  # epochs after which the learning rate is × gamma
    gamma: Positive
    batch: Count
    seed: Annotated[int, Field(ge=0)]
    choose: Literal["best", "last"]  # the epoch kept: the best on val, or the last


class Init(Section):
    """The weights that training starts from; null: drawn at random."""

    weights: str | None


class Evaluate(Section):
    protocol: Literal["exact", "paper"]
    flip_test: bool
    batch: Count


_DATASET = {
    "about": About,
    "source": Source,
    "landmarks": Landmarks,
    "normalisers": Normalisers,
    "crops": Crops,
}
_RECIPE = {
    "model": Model,
    "input": Input,
    "target": Target,
    "augment": Augment,
    "train": Train,
    "init": Init,
    "evaluate": Evaluate,
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML alone reads 1e-4 as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        near = difflib.get_close_matches(path.stem, known, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"there is no {path}.{hint} Known in {path.parent}: {', '.join(known) or 'none'}.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: sections are expected (name: …), and it holds {type(content).__name__}.")
    return content


def _validated(model: type[BaseModel], content: object, path: Path, prefix: str = "") -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = [_fault(each, prefix, model) for each in error.errors()]
    raise_for = f"{path}"
    refuse(faults, raise_for, "Mend the file (or the value given with -S), then run the same command again.")


def _fault(error: Mapping[str, Any], prefix: str, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in (prefix, *error["loc"]) if part != "")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), list(model.model_fields), 1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if error["type"] == "missing":
        return f"{key}: missing"
    return f"{key}: {error['msg'].removeprefix('Value error, ')} (it is {error['input']!r})"


def _sections(path: Path, models: Mapping[str, type[BaseModel]], content: dict, names: tuple[str, ...]) -> dict:
    unknown = [f"{key}: unknown section" for key in content if key not in models]
    missing = [f"{key}: missing section" for key in models if key not in content]
    refuse(unknown + missing, str(path), f"The sections are {', '.join(models)}.")
    return {name: _validated(models[name], content[name], path, name) for name in names}


class Sections:
    """The sections that were asked for, as attributes."""

    def __init__(self, **sections: BaseModel):
        self.__dict__.update(sections)

    def plain(self) -> dict[str, Any]:
        """All values as plain Python, for hashing and logging."""
        return {name: section.model_dump() for name, section in sorted(self.__dict__.items())}


def pipeline() -> Pipeline:
    """params/pipeline.yaml. Raises `InputError` for an unknown or wrong key."""
    path = PARAMS / "pipeline.yaml"
    found = _validated(Pipeline, _read(path), path)
    lost = [f"experiments.{k}: dataset {e.dataset} is not listed under datasets" for k, e in found.experiments.items()
            if e.dataset not in found.datasets]  # fmt: skip
    refuse(lost, str(path), "List the dataset, so that its fetch and preprocess stages exist.")
    return found


def experiment(name: str) -> Experiment:
    """The dataset and recipe of an experiment of the pipeline."""
    known = pipeline().experiments
    if name not in known:
        raise InputError(
            f"there is no experiment {name!r} in params/pipeline.yaml. Known: {', '.join(known) or 'none'}."
        )
    return known[name]


def dataset(name: str, *sections: str) -> Any:
    """The named sections of params/datasets/<name>.yaml, typed, as attributes."""
    path = PARAMS / "datasets" / f"{name}.yaml"
    return Sections(**_sections(path, _DATASET, _read(path), sections))


def recipe(name: str, dataset: str, *sections: str) -> Any:
    """The named sections of params/recipes/<name>.yaml, with what its section `datasets` says for this dataset."""
    path = PARAMS / "recipes" / f"{name}.yaml"
    content = _read(path)
    special = (content.pop("datasets", None) or {}).get(dataset, {})
    for section, values in special.items():
        if not isinstance(values, dict) or section not in content:
            raise InputError(f"{path}: datasets.{dataset}.{section}: unknown section")
        content[section] = content[section] | values
    return Sections(**_sections(path, _RECIPE, content, sections))


def whole_dataset(name: str) -> dict[str, Any]:
    """All of a dataset's parameters as plain values: to tell experiments apart, not to act on."""
    return dataset(name, *_DATASET).plain()


def whole_recipe(name: str, dataset: str) -> dict[str, Any]:
    """All of a recipe's parameters for a dataset, likewise."""
    return recipe(name, dataset, *_RECIPE).plain()


def data_root(name: str, source: Source) -> Path | str | None:
    """Where the dataset's files lie: the environment variable DATA_<NAME>, else the parameter `source.root`.

    A folder or an archive, or a URL as text. A relative path starts from the repository that owns the pipeline, so that
    experiments that DVC runs elsewhere (dvc exp run --temp, queues) find it too.
    """
    given = os.environ.get(f"DATA_{name.upper().replace('-', '_')}") or source.root
    if not given or given.startswith(("http://", "https://")):
        return given or None
    return Path(os.environ.get("DVC_ROOT", "")) / Path(given).expanduser()
