"""YAML parameter files, read and validated: an unknown or wrong key is reported with its file."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from stages.config.section import Name
from stages.system.errors import InputError, refuse, validation_faults


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML alone reads 1e-4 as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
            f"{name!r} is not a name: use letters, digits, '.', '_' and '-', and begin with a letter or a digit."
        ) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a file holds. Raises `InputError` where there is no such file or it is not a mapping."""
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        hint = did_you_mean(path.stem, known)
        raise InputError(f"there is no {path}.{hint} Known in {path.parent}: {', '.join(known) or 'none'}.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: sections are expected (name: …), and it holds {type(content).__name__}.")
    return content


def validate(model: type[BaseModel], content: object, path: Path) -> Any:
    """`content` as a `model`. Raises `InputError` listing every fault with its key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = validation_faults(error, known=model.model_fields)
    refuse(faults, str(path), "Fix the file (or the value given with -S), then run the same command again.")


def validate_sections(models: Mapping[str, type[BaseModel]], content: dict, path: Path) -> dict[str, BaseModel]:
    """Every section of a file by its name. Raises `InputError` listing the faults of all sections."""
    unknown = [f"{key}: unknown section" for key in content if key not in models]
    missing = [f"{key}: missing section" for key in models if key not in content]
    refuse(unknown + missing, str(path), f"The sections are {', '.join(models)}.")
    sections, faults = {}, []
    for name, model in models.items():
        try:
            sections[name] = model.model_validate(content[name])
        except ValidationError as error:
            faults += validation_faults(error, name, model.model_fields)
    refuse(faults, str(path), "Fix the file (or the value given with -S), then run the same command again.")
    return sections
