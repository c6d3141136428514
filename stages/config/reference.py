"""The parameter reference: every key of the files in params/ with its values, default and meaning, as Markdown."""

from typing import Any

from pydantic import BaseModel

from stages.config.dataset import DATASET
from stages.config.pipeline import PipelineFile
from stages.config.recipe import RECIPE
from stages.config.submission import SubmissionFile
from stages.data.scheme import Scheme

FILES: dict[str, tuple[str, dict[str, type[BaseModel]]]] = {
    "params/pipeline.yaml": ("What `dvc repro` makes.", {"": PipelineFile}),
    "params/recipes/*.yaml": (
        "How a network is trained and evaluated. A section `datasets` holds, by a dataset's name, what differs for it.",
        RECIPE,
    ),
    "params/datasets/*.yaml": ("What a dataset is.", DATASET),
    "params/submissions/*.yaml": (
        "Predictions by other methods, and what a reader must know of them.",
        {"": SubmissionFile},
    ),
    "params/schemes/*.yaml": ("The landmarks of a face, numbered from 0.", {"": Scheme}),
}
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
          "multipleOf": "a multiple of {}"}  # fmt: skip
WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "null",
}


def reference() -> str:
    """The whole page."""
    parts = [
        "# Parameters",
        "Made from the code that reads them by `python -m stages.parameters`. A key that is not here is refused; one "
        "without a default must be there.",
    ]
    for file, (text, sections) in FILES.items():
        parts += [f"## {file}", text]
        for name, model in sections.items():
            parts += _section(model.model_json_schema(), name)
    return "\n\n".join(parts) + "\n"


def _section(schema: dict[str, Any], name: str) -> list[str]:
    """The tables of a section and of the sections within it, with their headings."""
    within: list[str] = []

    def resolve(part: dict[str, Any], key: str) -> dict[str, Any]:
        """A part of the schema that is not a reference; a section's table is appended to `within`."""
        reference = part.get("$ref")
        if reference is None:
            return part
        target = schema["$defs"][reference.rpartition("/")[2]]
        if target.get("type") == "object" and "properties" in target:
            within.extend(_section({**target, "$defs": schema["$defs"]}, key))
            return {"section": key}
        return target

    rows = []
    for key, entry in schema.get("properties", {}).items():
        full = f"{name}.{key}" if name else key
        required = key in schema.get("required", [])
        values = _values(entry, full, resolve)
        default = "" if required or values.startswith("the section") else _plain(entry.get("default"))
        rows.append(f"| `{full}` | {values} | {default} | {_escaped(entry.get('description', ''))} |")
    table = ["| key | values | default | meaning |", "| --- | --- | --- | --- |", *rows]
    heading = [f"### {name}"] if name else []
    return [*heading, *filter(None, [_escaped(schema.get("description", ""))]), "\n".join(table), *within]


def _values(entry: dict[str, Any], key: str, resolve) -> str:
    """What a key may be, in words."""
    entry = resolve(entry, key)
    if "section" in entry:
        return "the section below"
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_values(part, key, resolve) for part in entry["anyOf"]))
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    limits = ", ".join(text.format(_plain(entry[limit])) for limit, text in LIMITS.items() if limit in entry)
    if entry.get("type") == "array":
        items = entry.get("items") or next(iter(entry.get("prefixItems", [])), {})
        low, high = entry.get("minItems", 0), entry.get("maxItems")
        number = (
            f" of {low}" if low == high else f" of {low} to {high}" if high else f" of {low} or more" if low else ""
        )
        return f"list{number}: {_values(items, f'{key}[]', resolve)}"
    elif entry.get("type") == "object":
        content = entry.get("additionalProperties") or next(iter(entry.get("patternProperties", {}).values()), True)
        word = "by name: " + (_values(content, f"{key}.NAME", resolve) if isinstance(content, dict) else "any value")
    else:
        word = WORDS.get(entry.get("type", ""), "any value")
        if "pattern" in entry:
            word = "name" if entry["pattern"].startswith("^[A-Za-z0-9]") else f"text like `{entry['pattern']}`"
    return _escaped(f"{word}, {limits}" if limits else word)


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value in (10**6, 10**8, 2**32):
        return {10**6: "10⁶", 10**8: "10⁸", 2**32: "2³²"}[value]
    return "" if value in ([], {}, "") else str(value)


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
