"""How an experiment was made, for its page: parameters, seed, training, run and machine."""

import json
from collections.abc import Mapping
from typing import Any

from stages.metrics.results import Result
from stages.reporting import submissions
from stages.reporting.provenance import made_on
from stages.reporting.tables import folded, markdown_table, parameters

LEGEND = "In **bold**: what the experiment sets differently from its recipe.\n"


def _text(value: Any) -> str:
    """A parameter's value as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _values(recorded: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Any]) -> str:
    """All parameters by section, those that are set differently in bold."""
    rows = []
    for section, values in recorded.items():
        texts = [
            f"**{key} {_text(value)}**" if f"{section}.{key}" in changes else f"{key} {_text(value)}"
            for key, value in values.items()
        ]
        rows.append((section, ", ".join(texts)))
    return markdown_table(("section", "parameters"), rows, left=2)


def section(result: Result) -> str:
    """The facts in a table, and below it every parameter, where they were recorded."""
    made, training = result.provenance, result.training
    if made.submission:
        return submissions.page_section(made, made_on(result))
    rows = [("recipe", f"[{made.recipe}](../../params/recipes/{made.recipe}.yaml)")]
    changes = {key: value for key, value in made.set.items() if key != "train.seed"}
    if changes:
        rows.append(("set differently", ", ".join(f"**{key} {_text(value)}**" for key, value in changes.items())))
    rows += [
        ("initial weights", made.init),
        ("network", f"{made.workload}; {parameters(made.cost.parameters)} M parameters"),
    ]
    if training is not None:
        rows.append(("seed", f"{training.seed}"))
        if result.history is not None:
            rates = result.history["lr"]
            rows.append(("learning rate", f"at most {rates.max():.3g}, in the last epoch {rates.iloc[-1]:.3g}"))
        kept = training.checkpoint
        rows.append(("epochs", f"{training.epochs}; the checkpoint is that of epoch {kept.epoch}"))
        processes = f", {training.processes} processes" if training.processes > 1 else ""
        rows.append(("trained on", f"{training.device}{processes}; {training.cpu}, {training.isa}"))
    rows.append(("measured on", made_on(result)))
    run = made.run or "none"
    rows.append(
        ("MLflow run", f"{run}, fingerprint {made.fingerprint}; the training's time is its metric train/seconds")
    )
    parts = ["## How it was made\n", markdown_table(("", ""), rows, left=2)]
    if made.parameters:
        legend = f"\n{LEGEND}" if made.set else ""
        parts.append(folded("All parameters", _values(made.parameters, made.set) + legend))
    return "\n".join(parts)
