"""YAML parameter files, read and validated: an unknown or wrong key is reported with its file."""

import difflib
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from stages.config.section import Name
from stages.system.errors import InputError, refuse, validation_faults


class _Loader(yaml.SafeLoader):
    """YAML 1.2 as DVC reads it. PyYAML's own 1.1 takes 010 as 8, `no` as false, 1e-4 as text, the last of two keys."""

    yaml_implicit_resolvers: ClassVar[dict] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, key in enumerate(keys):
            if key.value in (other.value for other in keys[:i]):
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int:
        value = int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10))
        if abs(value) >= 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a number is too large", node.start_mark)
        return value


_CORE_SCHEMA = {  # https://yaml.org/spec/1.2.2/#1032-tag-resolution, and the merge key of 1.1, which DVC reads too
    "bool": "true|True|TRUE|false|False|FALSE",
    "null": "~|null|Null|NULL|",
    "int": "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}
for _tag, _pattern in _CORE_SCHEMA.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"({_pattern})\Z"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean x?`, or nothing."""
    similar = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {similar[0]}?" if similar else ""


def parameter_file(folder: Path, name: str) -> Path:
    """The file of a dataset, recipe or scheme. Raises `InputError` for a name that is none, such as a path."""
    try:
        return folder / f"{TypeAdapter(Name).validate_python(name)}.yaml"
    except ValidationError:
        raise InputError(
            f"{name!r} is not a name: use at most 100 letters, digits, '.', '_' and '-', begin with a letter or a "
            "digit, and end with none of '.', '.tmp', '.pyc' and '.dvc'."
        ) from None


@lru_cache(maxsize=256)
def _parsed(text: str) -> object:
    """By content, never by path: every experiment of a pipeline reads the same few files, while they may be edited."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a file holds. Raises `InputError` where there is no such file or it is not a mapping."""
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        hint = did_you_mean(path.stem, known)
        raise InputError(f"there is no {path}.{hint} Known in {path.parent}: {', '.join(known) or 'none'}.")
    try:
        content = deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: sections are expected (name: …), and it holds {type(content).__name__}.")
    return content


def _keys(model: object) -> set[str]:
    """The keys of a section and of the sections within it."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        fields = model.model_fields
        return set(fields).union(*(_keys(field.annotation) for field in fields.values()))
    return set().union(*(_keys(part) for part in get_args(model)))


def validate(model: type[BaseModel], content: object, path: Path) -> Any:
    """`content` as a `model`. Raises `InputError` listing every fault with its key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = validation_faults(error, known=_keys(model))
    refuse(faults, str(path), "Fix the file (or the value given with -S), then run the same command again.")


def validate_sections(models: Mapping[str, type[BaseModel]], content: dict, path: Path | str) -> dict[str, BaseModel]:
    """Every section of a file by its name. Raises `InputError` listing the faults of all sections."""
    unknown = [f"{key}: unknown section" for key in content if key not in models]
    missing = [f"{key}: missing section" for key in models if key not in content]
    refuse(unknown + missing, str(path), f"The sections are {', '.join(models)}.")
    sections, faults = {}, []
    for name, model in models.items():
        try:
            sections[name] = model.model_validate(content[name])
        except ValidationError as error:
            faults += validation_faults(error, name, _keys(model))
    refuse(faults, str(path), "Fix the file (or the value given with -S), then run the same command again.")
    return sections
