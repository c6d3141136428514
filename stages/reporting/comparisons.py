"""Tables of paired comparisons of experiments, for the terminal and the results page."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from stages.metrics.paired_tests import Difference, compare
from stages.metrics.results import Result
from stages.reporting.tables import NOTHING, Interval, decimals, markdown_table, number

LEGEND = """\
B − A is the difference in NME on the same faces: below zero B is better. Its interval is a paired bootstrap over faces
(BCa, 10,000 resamples). p is that of equal errors, by Wilcoxon's signed-rank test and by the bootstrap of the mean,
both with Holm's correction over the subsets. Where either is 0.05 or more, the difference is *not significant*.
"""
COLUMNS = ("n", "A", "B", "B − A [95 %]", "p (Wilcoxon)", "p (bootstrap)", "verdict")


def p_value(p: float | None) -> str:
    """`0.013`; `< 0.001` for anything smaller."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float | None, interval: Interval) -> str:
    """`-0.21 [-0.34, -0.09]`"""
    if value is None or interval is None:
        return NOTHING if value is None else f"{value:+.2f}"
    places = decimals(interval)
    return f"{value:+.{places}f} [{interval[0]:+.{places}f}, {interval[1]:+.{places}f}]"


def verdict(difference: Difference, first: str, second: str) -> str:
    if difference.p_rank is None:
        return "too few faces"
    if not difference.significant or difference.mean is None:
        return "not significant"
    return f"{second if difference.mean < 0 else first} is better"


def _cells(difference: Difference, first: str, second: str) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    nme = [number(value, decimals(difference.ci95)) for value in (difference.first, difference.second)]
    p = [p_value(p) for p in (difference.p_rank, difference.p_mean)]
    interval = signed(difference.mean, difference.ci95)
    return (str(difference.n), *nme, interval, *p, verdict(difference, first, second))


def pair_table(first: str, second: str, differences: Mapping[str, Difference]) -> str:
    """All subsets of one pair."""
    rows = [(subset, *_cells(difference, first, second)) for subset, difference in differences.items()]
    return markdown_table(("subset", *COLUMNS), rows)


def compare_pairs(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, Difference]]:
    """The differences of every two results on the same faces.

    Raises `InputError` naming the faces in which two of them differ.
    """
    pairs = {}
    for first, second in combinations(results, 2):
        faces = second.faces.aligned_to(first.faces, f"the faces of {second.name} beside those of {first.name}")
        pairs[first.name, second.name] = compare(first.faces.nme, faces.nme, first.faces.rows())
    return pairs


def section(pairs: Mapping[tuple[str, str], Mapping[str, Difference]]) -> str:
    """The whole test split of all pairs in one table, the subsets of each pair folded away."""
    if not pairs:
        return ""
    rows = [(*names, *_cells(differences["test"], *names)) for names, differences in pairs.items()]
    header = ("A", "B", COLUMNS[0], "NME of A", "NME of B", *COLUMNS[3:])
    parts = ["### Paired comparison\n", markdown_table(header, rows, left=2), LEGEND]
    for (first, second), differences in pairs.items():
        if differences.keys() == {"test"}:  # already shown above
            continue
        title = f"By subset: A = {first}, B = {second}"
        table = pair_table(first, second, differences)
        parts.append(f"<details><summary>{title}</summary>\n\n{table}\n</details>\n")
    return "\n".join(parts)
