"""What tells an experiment from others with its recipe: what its entry sets, and what differs from the commit."""

from typing import Any

import yaml

from stages.config.experiment import Experiment
from stages.config.pipeline import PARAMS
from stages.metrics.provenance_schema import difference
from stages.tracking.process import committed


def variant(experiment: Experiment) -> str:
    """In short, the seed left out: `lr=0.002 width=12`; "" where nothing differs.

    What `dvc exp run -S` writes into a recipe differs from the recipe as it was committed.
    """
    file = PARAMS / "recipes" / f"{experiment.recipe_name}.yaml"
    before = committed(file)
    try:
        edited = changed_values(before, file.read_text(encoding="utf-8"), experiment.trained_on) if before else {}
    except (yaml.YAMLError, AttributeError, TypeError):  # what was committed is no recipe
        edited = {}
    return difference(edited | experiment.changes)


def changed_values(before: str, after: str, dataset: str) -> dict[str, Any]:
    """The values of a recipe, as it is for a dataset, that differ from an earlier text of it: {"train.lr": 0.002}."""
    old, new = _values(before, dataset), _values(after, dataset)
    return {key: value for key, value in new.items() if key not in old or old[key] != value}


def _values(text: str, dataset: str) -> dict[str, Any]:
    content = yaml.safe_load(text)
    special = (content.pop("datasets", None) or {}).get(dataset, {})
    return {
        f"{name}.{key}": value
        for name, section in content.items()
        for key, value in (section | special.get(name, {})).items()
    }
