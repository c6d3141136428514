"""Lines added to params/pipeline.yaml as text, so that its comments stay."""

import re

import yaml

from stages.system.errors import InputError

_NOT_TEXT = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


def with_dataset(text: str, name: str) -> str:
    """The file with the dataset `name` (in data/<name>) and its experiment <name>-quick; what it has stays.

    Raises `InputError` with the lines to add where the file has a form that cannot be edited safely.
    """
    before = yaml.safe_load(text)
    wanted = {
        "datasets": {name: {"source": f"data/{name}"}},
        "experiments": {f"{name}-quick": {"dataset": name, "recipe": "quick", "init": "random"}},
    }
    for section, entries in wanted.items():
        for key, values in entries.items():
            if (before.get(section) or {}).get(key) is None:
                pairs = ", ".join(f"{k}: {_scalar(v)}" for k, v in values.items())
                text = _added(text, section, f"{_scalar(key)}: {{{pairs}}}")
    expected = {**before}
    for section, entries in wanted.items():
        expected[section] = {**entries, **(before.get(section) or {})}
    try:
        result = yaml.safe_load(text)
    except yaml.YAMLError:
        result = None
    if result != expected:
        raise InputError(
            "params/pipeline.yaml cannot be added to safely. Write its datasets and experiments one a line, or add "
            f"these yourself, then run the same command again:\n  datasets:\n    {name}: {{source: data/{name}}}\n"
            f"  experiments:\n    {name}-quick: {{dataset: {name}, recipe: quick, init: random}}"
        )
    return text


def _scalar(text: str) -> str:
    """Quoted where YAML would take it for something else than text."""
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text) and text.lower() not in _NOT_TEXT
    return text if plain else f'"{text}"'


def _added(text: str, section: str, entry: str) -> str:
    """The text with a line behind the last one of a section."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(rf"{section}\s*:", line)), None)
    if start is None:
        return "\n".join([*lines, f"{section}:", f"  {entry}"]) + "\n"
    lines[start] = re.sub(rf"^({section}\s*:)\s*(\{{\s*\}}|null|~)", r"\1", lines[start]).rstrip()
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or lines[end][0] in " \t#"):
        end += 1
    inner = [i for i in range(start + 1, end) if lines[i].strip() and lines[i][0] in " \t"]
    last = max(inner, default=start)
    indent = re.match(r"\s*", lines[inner[0]])[0] if inner else "  "
    return "\n".join([*lines[: last + 1], indent + entry, *lines[last + 1 :]]) + "\n"
