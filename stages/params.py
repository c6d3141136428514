"""The typed parameters: the files in params/, read and checked; an unknown or a wrong key names its file and key.

A stage reads the sections it needs and no others (`dataset("demo", "crops")`), so that what `dvc.yaml` declares for it
is what it reads. What each section holds stands in sections.py.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from stages.errors import InputError, refuse
from stages.sections import DATASET, RECIPE, Crossing, Experiment, Layouts, Pipeline

PARAMS = Path("params")


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
    for key, crossing in found.crossings.items():
        trained = found.experiments.get(crossing.experiment)
        if trained is None:
            lost.append(f"crossings.{key}: experiment {crossing.experiment} is not listed under experiments")
        elif trained.dataset == crossing.dataset:
            lost.append(f"crossings.{key}: {crossing.experiment} is trained on {crossing.dataset} itself")
        if crossing.dataset not in found.datasets:
            lost.append(f"crossings.{key}: dataset {crossing.dataset} is not listed under datasets")
    refuse(lost, str(path), "What is not listed has no stages that make it.")
    return found


def experiment(name: str) -> Experiment:
    """The dataset and recipe of an experiment of the pipeline."""
    known = pipeline().experiments
    if name not in known:
        raise InputError(
            f"there is no experiment {name!r} in params/pipeline.yaml. Known: {', '.join(known) or 'none'}."
        )
    return known[name]


def crossing(name: str) -> Crossing:
    """The experiment and the dataset of a crossing of the pipeline."""
    known = pipeline().crossings
    if name not in known:
        raise InputError(f"there is no crossing {name!r} in params/pipeline.yaml. Known: {', '.join(known) or 'none'}.")
    return known[name]


def partners(one: str, other: str) -> list[tuple[int, int]]:
    """The landmarks that two datasets have in common, as pairs of numbers in the one and in the other, by the other's.

    Raises `InputError` where params/layouts.yaml gives one of the datasets no layout or one of another number of
    landmarks, or their layouts no partners.
    """
    path = PARAMS / "layouts.yaml"
    told = _validated(Layouts, _read(path), path)
    layout = {name: key for key, each in told.layouts.items() for name in each.datasets}
    refuse([f"{name}: in no layout's list of datasets" for name in (one, other) if name not in layout], str(path),
           "Name the dataset under the layout that its landmarks have.")  # fmt: skip
    faults = []
    for name in (one, other):
        says, has = told.layouts[layout[name]].landmarks, dataset(name, "landmarks").landmarks.count
        if says != has:
            faults.append(f"{name}: its layout {layout[name]} has {says} landmarks, and its own file says {has}")
    refuse(faults, str(path), "Name each dataset under the layout that its landmarks have.")
    ours, theirs = layout[one], layout[other]
    if ours == theirs:
        return [(i, i) for i in range(told.layouts[ours].landmarks)]
    for each in told.partners:
        if set(each.layouts) == {ours, theirs}:
            way = 1 if each.layouts == [ours, theirs] else -1
            return sorted(((a, b) for a, b in (pair[::way] for pair in each.pairs)), key=lambda pair: pair[1])
    raise InputError(f"{path}: it tells no partners of {ours} ({one}) and {theirs} ({other}). Add them under partners.")


def dataset(name: str, *sections: str) -> Any:
    """The named sections of params/datasets/<name>.yaml, typed, as attributes."""
    path = PARAMS / "datasets" / f"{name}.yaml"
    return Sections(**_sections(path, DATASET, _read(path), sections))


def recipe(name: str, dataset: str, *sections: str) -> Any:
    """The named sections of params/recipes/<name>.yaml, with what its section `datasets` says for this dataset."""
    path = PARAMS / "recipes" / f"{name}.yaml"
    content = _read(path)
    _specialise(content, dataset, path)
    found = Sections(**_sections(path, RECIPE, content, sections))
    if {"input", "evaluate"} <= {*sections} and found.evaluate.protocol == "paper":
        published = {"size": 256, "box": 1.25}
        wrong = {key: value for key in published if (value := getattr(found.input, key)) != published[key]}
        faults = [f"input.{key} is {value}, and protocol paper has {published[key]}" for key, value in wrong.items()]
        refuse(faults, str(path), "Change input, or set evaluate.protocol to exact.")
    return found


def _specialise(content: dict[str, Any], dataset: str, path: Path) -> None:
    """Lay what `datasets` says for this dataset over the other sections; refuse what could never be laid anywhere."""
    special, faults = content.pop("datasets", None) or {}, []
    if not isinstance(special, dict) or not all(isinstance(values, dict) for values in special.values()):
        raise InputError(f"{path}: datasets holds, for a dataset's name, sections as the recipe has them.")
    for name, sections in special.items():
        if not (PARAMS / "datasets" / f"{name}.yaml").is_file():
            faults.append(f"datasets.{name}: there is no such dataset")
        for section, values in sections.items():
            if not isinstance(values, dict) or not isinstance(content.get(section), dict):
                faults.append(f"datasets.{name}.{section}: unknown section, or one without keys")
            elif name == dataset:
                content[section] = content[section] | values
    refuse(faults, str(path), f"The recipe's sections are {', '.join(RECIPE)}; the datasets stand in params/datasets.")


def whole_dataset(name: str) -> dict[str, Any]:
    """All of a dataset's parameters as plain values: to tell experiments apart, not to act on."""
    return dataset(name, *DATASET).plain()


def whole_recipe(name: str, dataset: str) -> dict[str, Any]:
    """All of a recipe's parameters for a dataset, likewise."""
    return recipe(name, dataset, *RECIPE).plain()
