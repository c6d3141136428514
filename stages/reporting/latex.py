"""The table of a section in LaTeX, with the rules of the package booktabs: ours above, published figures below."""

import re

from stages.reporting.leaderboard import INTERVAL, Column, Leaderboard, caption
from stages.reporting.tables import NOTHING

SPECIAL = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{",
    "}": r"\}", "|": r"\textbar{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\N{NO-BREAK SPACE}": "~", "±": r"$\pm$", "∞": r"$\infty$", "–": "--", "−": r"$-$", "↓": r"$\downarrow$",
    "↑": r"$\uparrow$", "Δ": r"$\Delta$", "†": r"\dag{}", "§": r"\S{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Plain text as LaTeX has it."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _cell(text: str) -> str:
    """A figure, whose sign is a minus and no hyphen."""
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escape(text))


def _row(cells: list[str]) -> str:
    return f"  {' & '.join(cells)} \\\\"


def table(board: Leaderboard) -> str:
    """A `table*` to paste; a column that is empty in all rows is left out."""
    columns: list[Column] = [column for column in board.heads if any(cells[column] != NOTHING for cells in board.cells)]
    ours = []
    for entry, cells in zip(board.entries, board.cells, strict=True):
        submission = entry.first.provenance.submission
        method = escape(submission.title if submission else entry.name)
        method += f" ({len(entry.results)} seeds)" if len(entry.results) > 1 else ""
        row = [_cell(cells[column]) for column in columns]
        ours.append(_row([method, *(
            rf"\textbf{{{cell}}}" if board.bold.get(column) == entry.name else cell
            for column, cell in zip(columns, row, strict=True)
        )]))  # fmt: skip
    published = [
        _row([f"{escape(method)} ({escape(source)})", *(escape(cells.get(column, NOTHING)) for column in columns)])
        for method, source, _, cells in board.published
    ]
    title = f"{board.dataset}: {caption(board)}. Brackets: 95 % intervals over faces."
    if ("difference", "") in columns:
        title += f" Δ: paired difference to {board.baseline}, whose intervals hold for all rows together."
    if any(len(entry.results) > 1 for entry in board.entries):
        title += " ±: standard deviation over seeds."
    if board.bold:
        title += " Bold: significantly better than every other row of ours (paired bootstrap, max-T)."
    if published:
        title += " Below the rule: published figures."
    if any("†" in method for method, *_ in board.published):
        title += " †: seen on a results listing only."
    label = f"tab:{board.dataset}-{board.normaliser}".replace("_", "-")
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table*}",
        r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"  \caption{{{escape(title)}}}",
        rf"  \label{{{label}}}\smallskip",
        r"  \resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{% no wider than the page",
        rf"  \begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"  \toprule",
        _row(["method", *(escape(board.heads[column].replace(INTERVAL, "")) for column in columns)]),
        r"  \midrule",
        *ours,
        *([r"  \midrule", *published] if published else []),
        r"  \bottomrule",
        r"  \end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"
