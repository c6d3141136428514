"""What is told of two experiments on the same faces, in the terminal and on the results page."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from stages.measure.cells import NOTHING, decimals, number, table
from stages.measure.compare import Difference, compare
from stages.measure.results import Experiment

ABOUT = """\
B − A is the difference in NME on the same faces: below zero B is better. Its interval is a paired bootstrap over faces
(BCa, 10,000 resamples). p is the chance of so large a difference where there is none, by Wilcoxon's signed ranks and by
the bootstrap of the mean, both with Holm's correction over the subsets. Where either is 0.05 or more, the difference is
*not significant*: these faces do not tell which is better.
"""


def probability(p: float | None) -> str:
    """`0.013`; `< 0.001`, below which the number says nothing more."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float | None, interval: tuple[float, float] | None) -> str:
    """`−0.21 [−0.34, −0.09]`"""
    if value is None or interval is None:
        return NOTHING if value is None else f"{value:+.2f}"
    places = decimals(interval)
    return f"{value:+.{places}f} [{interval[0]:+.{places}f}, {interval[1]:+.{places}f}]"


def verdict(found: Difference, first: str, second: str) -> str:
    if found.p_rank is None:
        return "too few faces"
    if not found.sure or found.mean is None:
        return "not significant"
    return f"{second if found.mean < 0 else first} is better"


def _cells(found: Difference, first: str, second: str) -> tuple[str, ...]:
    """n, both NMEs, their difference, the two p, the verdict."""
    nme = [number(value, decimals(found.ci95)) for value in (found.first, found.second)]
    p = [probability(value) for value in (found.p_rank, found.p_mean)]
    return (str(found.n), *nme, signed(found.mean, found.ci95), *p, verdict(found, first, second))


HEADER = ("n", "A", "B", "B − A [95 %]", "p ranks", "p mean", "verdict")


def pair_table(first: str, second: str, found: Mapping[str, Difference]) -> str:
    """All subsets of one pair."""
    return table(("subset", *HEADER), [(name, *_cells(each, first, second)) for name, each in found.items()])


def pairs(experiments: Sequence[Experiment]) -> dict[tuple[str, str], dict[str, Difference]]:
    """The differences of every two of a section's experiments whose faces lie in faces.csv.

    Raises `InputError` naming the faces in which two of them differ.
    """
    found = {}
    for one, other in combinations([each for each in experiments if each.faces], 2):
        its = other.faces.like(one.faces, f"the faces of {other.name} beside those of {one.name}")
        found[one.name, other.name] = compare(one.faces.nme, its.nme, one.faces.rows())
    return found


def section(found: Mapping[tuple[str, str], Mapping[str, Difference]]) -> str:
    """The pairs of one section: the whole test split in one table, the subsets of each pair folded away."""
    if not found:
        return ""
    whole = [(one, other, *_cells(each["test"], one, other)) for (one, other), each in found.items()]
    parts = ["### Which is better\n", table(("A", "B", HEADER[0], "NME of A", "NME of B", *HEADER[3:]), whole, left=2),
             ABOUT]  # fmt: skip
    for (one, other), each in found.items():
        if each.keys() == {"test"}:  # which stands above
            continue
        title = f"Subset by subset: A = {one}, B = {other}"
        parts.append(f"<details><summary>{title}</summary>\n\n{pair_table(one, other, each)}\n</details>\n")
    return "\n".join(parts)
