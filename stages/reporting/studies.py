"""Studies on the results page: ablations as a table, curves as a figure and a table."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from stages.metrics.study import Compared, Study, Variant
from stages.reporting.figures import DASHES, PALETTE, plain_axes
from stages.reporting.tables import NOTHING, difference, error, markdown_table, normaliser_name, share

INTRODUCTION = """\
## Studies

Trainings that differ in one thing each, compared face by face (`python -m stages.study`). Δ NME is the paired
difference to the row that is named; its interval and p hold for the whole table together. Of several seeds a face's NME
is its mean over them: intervals are of other faces, not of other seeds, whose own figures stand in the last column.
"""
AXES = {"train.faces": "training faces"}
FIGURE = '<img alt="{title}" src="figures/{file}" width="700">\n'


def figure_name(name: str) -> str:
    """The file of a study's figure, under reports/figures/."""
    return f"study-{name}.png"


def section(studies: Mapping[str, Study]) -> str:
    """All studies; empty without any."""
    if not studies:
        return ""
    return "\n".join([INTRODUCTION, *(_study(name, study) for name, study in studies.items())])


def _study(name: str, study: Study) -> str:
    shared = f"; all with `{study.shared}`" if study.shared else ""
    note = f" {study.note}" if study.note else ""
    chosen = "no recipe is chosen by it" if study.split == "test" else "recipes are compared on val, never on test"
    text = (
        f"Recipe {study.recipe} on {study.dataset}, {study.faces} faces of {study.split} ({chosen}), NME in percent of "
        f"the {normaliser_name(study.normaliser)} distance{shared}. {study.machine}, {study.date}.{note}"
    )
    drawn = [FIGURE.format(title=study.title, file=figure_name(name))] if study.by else []
    return "\n".join([f"### {study.title}\n", f"{text}\n", *drawn, _table(study)])


def _table(study: Study) -> str:
    tested = {d.second: d for d in study.differences}
    header = ["variant", "initial weights", "NME [95 %]", "Δ NME [95 %]", "to", "p", "better on", "by seed"]
    if study.by:
        header.insert(1, study.by.rpartition(".")[2])
    rows = []
    for variant in _ordered(study):
        label = f"{variant.name} ({variant.differs})" if variant.differs else variant.name
        row = [label, variant.init, error(variant.nme, variant.ci95)]
        if study.by:
            row.insert(1, f"{variant.x:g}")
        rows.append([*row, *_difference(tested.get(variant.name)), ", ".join(map(error, variant.nme_by_seed))])
    return markdown_table(header, rows, 3 if study.by else 2)


def _ordered(study: Study) -> list[Variant]:
    """By the value of the key; else the first, and the others from the worst to the best."""
    if study.by:
        return sorted(study.variants, key=lambda variant: (variant.x, variant.init != study.variants[0].init))
    first, *others = study.variants
    return [first, *sorted(others, key=lambda variant: -variant.nme)]


def _difference(tested: Compared | None) -> list[str]:
    if tested is None:
        return [NOTHING] * 4
    p = NOTHING if tested.p is None else "< 0.001" if tested.p < 0.001 else f"{tested.p:.3f}"
    return [difference(tested.mean, tested.ci95), tested.first, p, share(tested.better)]


def curve(study: Study) -> Figure:
    """NME against the value of the study's key, a line for each kind of initial weights, with its interval."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    kinds = list(dict.fromkeys(variant.init for variant in study.variants))
    for number, init in enumerate(kinds):
        points = sorted((v for v in study.variants if v.init == init), key=lambda variant: variant.x)
        x, y = [v.x for v in points], [v.nme for v in points]
        label = "random weights" if init == "random" else f"from {init}"
        colour, dash = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
        axes.plot(x, y, color=colour, linestyle=dash, marker="o", markersize=4, label=label)
        if bounded := [v for v in points if v.ci95]:
            low, high = zip(*(v.ci95 for v in bounded), strict=True)
            axes.fill_between([v.x for v in bounded], low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=AXES.get(study.by, study.by),
        ylabel=f"NME (%, {normaliser_name(study.normaliser)})",
    )
    ticks = sorted({variant.x for variant in study.variants})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    low = min(v.ci95[0] if v.ci95 else v.nme for v in study.variants)
    high = max(v.ci95[1] if v.ci95 else v.nme for v in study.variants)
    levels = [level for level in (2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100) if 0.9 * low <= level <= 1.1 * high]
    axes.set_yticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    axes.set_title(study.title, fontsize=10)
    plain_axes(axes)
    axes.legend(frameon=False)
    return figure
