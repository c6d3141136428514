"""Paired comparisons: of a section's rows with its baseline and with each other, and of two experiments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from stages.metrics.intervals import MINIMUM_FACES
from stages.metrics.paired_tests import SIGNIFICANCE, Difference, compare_all, family
from stages.reporting.entries import Entry, faces_key
from stages.reporting.tables import NOTHING, difference, folded, markdown_table, mean_error, share

LEGEND = f"""\
B − A is the difference in NME on the same faces: below zero B is better. Its interval, and the p of a mean difference
of zero, come from one studentised bootstrap over faces (10,000 resamples) and hold for all rows of a table together: if
all experiments were equal, 5 % of such tables would call any of them better. Zero is outside the interval exactly where
p < 0.05; elsewhere the difference is *not significant*. With fewer than {MINIMUM_FACES} faces there is no verdict.
Of an experiment with several seeds, a face's NME is its mean over them; intervals are of other faces, not other seeds.

*B better on*: the share of faces on which B has the smaller error. Where most faces favour one experiment (sign test,
p < 0.05 with Bonferroni's correction over the table) and the mean does not, the verdict says so: a few large errors can
decide a mean. How often these tests are right: [reports/simulations.md](simulations.md).
"""
OTHER_FACES = """\
Experiments that are measured on other faces, as of another version of the dataset, are not compared with each other.
"""
COLUMNS = ("n", "A", "B", "B − A [95 %]", "p", "B better on", "verdict")


@dataclass(frozen=True)
class Tests:
    """A section's paired comparisons, other − baseline or second − first; each of the four is one family.

    to_baseline: by name, on `test`; by_subset: by name and subset. pairs: of every two rows on `test`; pairs_by_subset:
    with the subset as third key, of those with enough faces. compared: the names of the rows on the baseline's faces.
    """

    baseline: str
    compared: frozenset[str]
    to_baseline: Mapping[str, Difference] = field(default_factory=dict)
    by_subset: Mapping[tuple[str, str], Difference] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], Difference] = field(default_factory=dict)
    pairs_by_subset: Mapping[tuple[str, str, str], Difference] = field(default_factory=dict)

    def best(self, names: Sequence[str], subset: str) -> str | None:
        """The row that is significantly better than every other one; None where there is none."""
        if subset == "test":
            pairs = self.pairs
        else:
            pairs = {(a, b): tested for (a, b, of), tested in self.pairs_by_subset.items() if of == subset}
        for name in names:
            others = [
                tested.significant and (tested.mean < 0) == (name == second)
                for (first, second), tested in pairs.items()
                if name in (first, second)
            ]
            if others and len(others) == len(names) - 1 and all(others):
                return name
        return None


def test(entries: Sequence[Entry], baseline: Entry) -> Tests:
    """Compare the rows that are measured on the faces of the baseline, by the same landmarks."""
    key = faces_key(baseline.first), baseline.first.provenance.landmarks
    compared = [entry for entry in entries if (faces_key(entry.first), entry.first.provenance.landmarks) == key]
    names = frozenset(entry.name for entry in compared)
    if len(compared) < 2:
        return Tests(baseline.name, names)
    faces = baseline.faces
    errors = {
        entry.name: entry.faces.aligned_to(faces, f"the faces of {entry.name} beside those of {baseline.name}").nme
        for entry in compared
    }
    own, rows = errors[baseline.name], faces.rows()
    subsets = {name: counted for name, counted in rows.items() if name != "test"}
    enough = {name: counted for name, counted in subsets.items() if counted.sum() >= MINIMUM_FACES}
    others = [name for name in errors if name != baseline.name]
    return Tests(
        baseline.name,
        names,
        family({name: (own, errors[name], np.ones(len(own), bool)) for name in others}),
        family({(name, subset): (own, errors[name], subsets[subset]) for name in others for subset in subsets}),
        compare_all(errors),
        family({
            (a, b, subset): (errors[a], errors[b], enough[subset])
            for a, b in combinations(errors, 2) for subset in enough
        }),
    )  # fmt: skip


def p_value(p: float | None) -> str:
    """`0.013`; `< 0.001` for anything smaller, and `< 0.05` for what would be rounded to 0.050."""
    if p is None:
        return NOTHING
    if p < 0.001:
        return "< 0.001"
    return "< 0.05" if p < SIGNIFICANCE and f"{p:.3f}" == "0.050" else f"{p:.3f}"


def verdict(tested: Difference, first: str, second: str) -> str:
    """Which of the experiments `first` and `second` is better, or why there is no answer."""
    most = {-1: second, 0: "", 1: first}[tested.majority]
    if tested.without:
        faces = "1 face" if tested.without == 1 else f"{tested.without} faces"
        return f"no mean: {faces} without a prediction"
    if tested.p is None:
        return "too few faces"
    if not tested.significant:
        return f"not significant, but {most} is better on most faces" if most else "not significant"
    better = second if tested.mean < 0 else first
    return (
        f"{better} is better in the mean, {most} on most faces" if most not in ("", better) else f"{better} is better"
    )


def _cells(tested: Difference, first: str, second: str) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    n = tested.n
    nme = [mean_error(value) if n else NOTHING for value in (tested.first, tested.second)]
    better = share(tested.second_better / n) if n else NOTHING
    interval = difference(tested.mean, tested.ci95)
    return (str(n), *nme, interval, p_value(tested.p), better, verdict(tested, first, second))


def pair_table(first: str, second: str, differences: Mapping[str, Difference]) -> str:
    """Subsets of one pair, which were tested as one family."""
    rows = [(subset, *_cells(tested, first, second)) for subset, tested in differences.items()]
    return markdown_table(("subset", *COLUMNS), rows)


def pairs_table(pairs: Mapping[tuple[str, str], Difference]) -> str:
    """Pairs of experiments on the whole test split, which were tested as one family."""
    rows = [(*names, *_cells(tested, *names)) for names, tested in pairs.items()]
    return markdown_table(("A", "B", COLUMNS[0], "NME of A", "NME of B", *COLUMNS[3:]), rows, left=2)


def subset_matrix(tests: Tests) -> str:
    """Differences to the baseline by row and subset."""
    names, subsets = (list(dict.fromkeys(key[i] for key in tests.by_subset)) for i in (0, 1))
    counts = {subset: tests.by_subset[names[0], subset].n for subset in subsets}
    rows = []
    for name in names:
        cells = [tests.by_subset[name, subset] for subset in subsets]
        rows.append((name, *(difference(tested.mean, tested.ci95) for tested in cells)))
    return markdown_table(("B", *(f"{subset} (n {counts[subset]})" for subset in subsets)), rows)


def section(tests: Tests, complete: bool) -> str:
    """All comparisons, folded away. complete: whether all rows of the section are on the same faces."""
    parts = []
    if tests.to_baseline:
        to_baseline = {(tests.baseline, name): tested for name, tested in tests.to_baseline.items()}
        parts.append(f"#### With the baseline, A = {tests.baseline}\n\n{pairs_table(to_baseline)}")
        if tests.by_subset:
            parts.append(f"B − A [95 %] by subset, as one family of tests:\n\n{subset_matrix(tests)}")
        if len(tests.to_baseline) > 1:
            parts.append(f"#### Every two\n\n{pairs_table(tests.pairs)}")
        parts.append(LEGEND)
    if not complete:
        parts.append(OTHER_FACES)
    return folded("Paired comparisons: with the baseline, and of every two", "\n".join(parts)) if parts else ""
