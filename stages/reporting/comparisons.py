"""Tables of paired comparisons of experiments, for the terminal and the results page."""

from collections.abc import Mapping, Sequence

from stages.metrics.intervals import MINIMUM_FACES
from stages.metrics.paired_tests import SIGNIFICANCE, Difference, compare, compare_all
from stages.metrics.results import Result
from stages.reporting.tables import INFINITE, NOTHING, Interval, decimals, markdown_table, number

LEGEND = f"""\
B − A is the difference in NME on the same faces: below zero B is better. Its interval, and the p of a mean difference
of zero, come from one studentised bootstrap over faces (10,000 resamples) and hold for all rows of a table together: if
all experiments were equal, 5 % of such tables would call any of them better. Zero is outside the interval exactly where
p < 0.05; elsewhere the difference is *not significant*. With fewer than {MINIMUM_FACES} faces there is no verdict.

*B better on*: the share of faces on which B has the smaller error. Where most faces favour one experiment (sign test,
p < 0.05 with Bonferroni's correction over the table) and the mean does not, the verdict says so: a few large errors can
decide a mean. How often these tests are right: [reports/simulations.md](simulations.md).
"""
COLUMNS = ("n", "A", "B", "B − A [95 %]", "p", "B better on", "verdict")


def p_value(p: float | None) -> str:
    """`0.013`; `< 0.001` for anything smaller, and `< 0.05` for what would be rounded to 0.050."""
    if p is None:
        return NOTHING
    if p < 0.001:
        return "< 0.001"
    return "< 0.05" if p < SIGNIFICANCE and f"{p:.3f}" == "0.050" else f"{p:.3f}"


def signed(value: float | None, interval: Interval) -> str:
    """`-0.21 [-0.34, -0.09]`"""
    places = decimals(interval)
    if value is None or interval is None:
        return NOTHING if value is None else f"{value:+.{places}f}"
    return f"{value:+.{places}f} [{interval[0]:+.{places}f}, {interval[1]:+.{places}f}]"


def verdict(difference: Difference, first: str, second: str) -> str:
    """Which of the experiments `first` and `second` is better, or why there is no answer."""
    most = {-1: second, 0: "", 1: first}[difference.majority]
    if difference.without:
        faces = "1 face" if difference.without == 1 else f"{difference.without} faces"
        return f"no mean: {faces} without a prediction"
    if difference.p is None:
        return "too few faces"
    if not difference.significant:
        return f"not significant, but {most} is better on most faces" if most else "not significant"
    better = second if difference.mean < 0 else first
    return (
        f"{better} is better in the mean, {most} on most faces" if most not in ("", better) else f"{better} is better"
    )


def _cells(difference: Difference, first: str, second: str) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    n = difference.n
    nme = [
        INFINITE if value is None and n else number(value, decimals(difference.ci95))
        for value in (difference.first, difference.second)
    ]
    interval = signed(difference.mean, difference.ci95)
    share = f"{100 * difference.second_better / n:.0f} %" if n else NOTHING
    return (str(n), *nme, interval, p_value(difference.p), share, verdict(difference, first, second))


def pair_table(first: str, second: str, differences: Mapping[str, Difference]) -> str:
    """Subsets of one pair, which were tested as one family."""
    rows = [(subset, *_cells(difference, first, second)) for subset, difference in differences.items()]
    return markdown_table(("subset", *COLUMNS), rows)


def compare_pairs(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, Difference]]:
    """The differences of every two results on the same faces: `test`, tested as one family over the pairs, and the
    other subsets, as one family for each pair.

    Raises `InputError` naming the faces in which two of them differ.
    """
    if not results:
        return {}
    one = results[0]
    errors = {
        result.name: result.faces.aligned_to(one.faces, f"the faces of {result.name} beside those of {one.name}").nme
        for result in results
    }
    subsets = {name: rows for name, rows in one.faces.rows().items() if name != "test"}
    return {
        (first, second): {"test": difference} | compare(errors[first], errors[second], subsets)
        for (first, second), difference in compare_all(errors).items()
    }


def section(pairs: Mapping[tuple[str, str], Mapping[str, Difference]]) -> str:
    """The whole test split of all pairs in one table, the subsets of each pair folded away."""
    if not pairs:
        return ""
    rows = [(*names, *_cells(differences["test"], *names)) for names, differences in pairs.items()]
    header = ("A", "B", COLUMNS[0], "NME of A", "NME of B", *COLUMNS[3:])
    parts = ["### Paired comparison\n", markdown_table(header, rows, left=2), LEGEND]
    for (first, second), differences in pairs.items():
        subsets = {name: difference for name, difference in differences.items() if name != "test"}
        if subsets:
            title = f"By subset: A = {first}, B = {second}"
            table = pair_table(first, second, subsets)
            parts.append(f"<details><summary>{title}</summary>\n\n{table}\n</details>\n")
    return "\n".join(parts)
