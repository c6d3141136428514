"""The CED of a section: at most eight of its rows in colour, two of these with a band, the others grey."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure

from stages.metrics.summary import ced
from stages.reporting.entries import Entry
from stages.reporting.figures import ced_figure, experiment_styles
from stages.reporting.leaderboard import Leaderboard
from stages.reporting.tables import mean_error, normaliser_name, thresholds

COLOURED = 8
Key = TypeVar("Key")


def curve(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """Of several seeds, the mean of their distributions: that of all their faces."""
    if len(entry.results) == 1:
        return entry.first.ced["test"]
    return ced(np.concatenate([result.faces.nme for result in entry.results]))


def coloured(board: Leaderboard) -> list[Entry]:
    """The baseline and the best of the others, in the table's order."""
    baseline = [entry for entry in board.entries if entry.name == board.baseline]
    best = [entry for entry in board.entries if entry.name != board.baseline][: COLOURED - len(baseline)]
    return [entry for entry in board.entries if entry in (*baseline, *best)]


def banded(board: Leaderboard) -> list[Entry]:
    """The best and the baseline: the bands of more would hide one another."""
    return [entry for entry in board.entries if entry is board.entries[0] or entry.name == board.baseline]


def _looks(entries: Sequence[Entry]) -> dict[str, str]:
    """By name what gives a row its style: recipe, initial weights and what is set differently; the name where two rows
    have these in common."""
    made = {entry.name: entry.first.provenance for entry in entries}
    looks = {name: f"{of.training_recipe} {of.variant}".rstrip() for name, of in made.items()}
    return {name: name if list(looks.values()).count(look) > 1 else look for name, look in looks.items()}


def section_styles(sections: Mapping[Key, Sequence[Entry]]) -> dict[Key, dict[str, tuple[str, str]]]:
    """The (colour, dash) of each row of each section by its name; a recipe has one style in all of them."""
    looks = {(key, name): look for key, entries in sections.items() for name, look in _looks(entries).items()}
    styles = experiment_styles(looks)
    return {key: {name: style for (section, name), style in styles.items() if section == key} for key in sections}


def ced_figures(boards: Mapping[str, Leaderboard]) -> dict[str, Callable[[], Figure]]:
    """What draws the figure of each board, by the same keys."""
    styles = section_styles({key: coloured(board) for key, board in boards.items()})
    return {key: partial(_draw, board, styles[key]) for key, board in boards.items()}


def _draw(board: Leaderboard, styles: Mapping[str, tuple[str, str]]) -> Figure:
    label = {entry.name: f"{mean_error(entry.mean_nme('test'))}  {entry.name}" for entry in board.entries}
    return ced_figure(
        {label[entry.name]: curve(entry) for entry in board.entries},
        {label[name]: style for name, style in styles.items()},
        title=f"{board.dataset}, test", normaliser=normaliser_name(board.normaliser),
        banded={label[entry.name]: entry.n("test") for entry in banded(board)},
        limit=100 * float(max(thresholds(entry.first.metrics["test"] for entry in board.entries))),
    )  # fmt: skip
