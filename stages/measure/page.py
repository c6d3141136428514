"""The text of reports/results.md: one Markdown page, complete without explanations. It reads and writes no file."""

from collections.abc import Sequence
from itertools import groupby

from stages.measure import across, pairs, series, weaknesses
from stages.measure.cells import (
    NOTHING,
    area,
    decimals,
    failure_interval,
    failures,
    nme,
    number,
    spoken,
    table,
    with_interval,
)
from stages.measure.published import Published
from stages.measure.results import Experiment, Hashes, Metrics
from stages.measure.times import DEVICES, Times

METRICS = {"nme": "NME", "fr_0.10": "FR@10", "auc_0.10": "AUC@10"}

ABOUT = """\
# Results

Facial landmarks found by HRNetV2 heat maps, measured on test faces that neither our training nor its choice of
an epoch sees. An experiment is a dataset with a recipe: `wflw-paper` is WFLW with the recipe `paper`. `dvc repro` makes
them, and `python -m stages.report` this page; do not edit it.
"""

LEGEND = """\
All figures are percentages, brackets hold 95 % intervals. Further down stand
[what the columns mean](#how-the-figures-are-made) and [what made each row](#where-the-figures-come-from).
"""

EMPTY = """\
No experiment has been measured yet. `dvc repro` makes those that `params/pipeline.yaml` lists, and this page with them;
`dvc repro evaluate@demo-quick report` makes one.
"""

METHODS = """\
## How the figures are made

- **NME**, normalised mean error: per face the mean distance of all landmarks from the truth over the face's normaliser,
  then the mean over faces. Figures under different normalisers do not compare. *Inter-ocular* is the distance of the
  outer eye corners, *box side* the side of the square face box.
- **FR@8, FR@10**, failure rate: the share of faces with an NME above 8 % or 10 %.
- **CED**, cumulative error distribution: the share of faces up to each NME. **AUC@8, AUC@10**: the area under it from 0
  to 8 % or 10 %, as a percentage of that range.
- **Intervals** are over faces: what another draw of test faces would have given, not what another seed of the training
  would have. NME and AUC: BCa bootstrap, 10,000 resamples; FR: Wilson. Figures carry the digits that their intervals
  justify. *±*: the standard deviation over trainings that differ in their seed alone.
- **Mean shape** is the NME of answering every face with the mean shape of the training faces, laid into its box: what a
  model that does not look at the image gets.
- **Protocol** *exact*: coordinates are never rounded. *paper*: the published HRNet code's own crops and roundings, for
  results that compare with its released models.
- **Landmarks outside the input** lie beyond the square that the model is shown; no heat map can answer them.
- **GFLOPs**: 10⁹ operations for one face in one pass of the network, a multiplication and an addition counted as two.
  MB: the size of the weights, 10⁶ bytes. Milliseconds: from crops to 98 landmarks, in batches, with the flip test where
  the recipe has it; no image is read or cut in them.
- **Test** is the whole test split; a face may belong to several subsets.
"""


def section_of(experiment: Experiment) -> tuple[str, str]:
    """What may stand in one table and one figure: the dataset and its normaliser."""
    return experiment.provenance.dataset, experiment.provenance.normaliser


def ced_name(dataset: str, normaliser: str) -> str:
    """The file of a section's figure, under reports/figures/."""
    return f"ced-{dataset}-{normaliser}.png"


def overview(experiments: Sequence[Experiment]) -> str:
    """One row per experiment, or per series of seeds: the whole test split."""
    header = ("experiment", "dataset", "protocol", "normaliser", "input px", "epochs", "n", "NME [95 %]", "FR@8",
              "FR@10", "AUC@8", "AUC@10")  # fmt: skip
    rows = []
    for members in series.series(experiments):
        made, test = members[0].provenance, members[0].metrics["test"]
        figures = (
            nme(test), failures(test, test.fr_008), failures(test, test.fr_010),
            area(test, test.auc_008), area(test, test.auc_010),
        )  # fmt: skip
        if len(members) > 1:
            of = [each.metrics["test"] for each in members]
            figures = [series.spread([getattr(each, key) for each in of])
                       for key in ("nme", "fr_008", "fr_010", "auc_008", "auc_010")]  # fmt: skip
        rows.append((
            series.name(members), made.dataset, made.protocol, spoken(made.normaliser),
            made.training.input_px, made.training.epochs, test.n, *figures, number(test.nme_mean_shape, 1),
        ))  # fmt: skip
    return table((*header, "mean shape"), rows, left=4)


def subsets(experiments: Sequence[Experiment]) -> str:
    """Every subset of every experiment of a section; the experiments beside each other, subset by subset."""
    names = dict.fromkeys(["test", *(name for each in experiments for name in each.metrics)])
    header = ("subset", "experiment", "n", "NME [95 %]", "FR@8 [95 %]", "FR@10 [95 %]", "AUC@8 [95 %]", "AUC@10 [95 %]",
              "mean shape")  # fmt: skip
    rows = [
        (
            name, each.name, entry.n, nme(entry),
            with_interval(entry.fr_008, failure_interval(entry, entry.fr_008)),
            with_interval(entry.fr_010, failure_interval(entry, entry.fr_010)),
            with_interval(entry.auc_008, entry.auc_008_ci95), with_interval(entry.auc_010, entry.auc_010_ci95),
            number(entry.nme_mean_shape, 1),
        )
        for name in names for each in experiments if (entry := each.metrics.get(name))
    ]  # fmt: skip
    return table(header, rows, left=2)


def _ours(each: Experiment, subset: str, n: int | None) -> Metrics | None:
    """Our entry on the published faces of a subset: the one of its name, or the whole test split, if n agrees."""
    named = each.metrics.get(subset)
    if named is not None and n in (None, named.n):
        return named
    whole = each.metrics["test"]
    return whole if n == whole.n else None


def comparison(experiments: Sequence[Experiment], figures: Sequence[Published]) -> str:
    """A section's experiments beside the published figures, on the same faces under the same normaliser; or why not."""
    if not figures:
        return ""
    dataset, normaliser = section_of(experiments[0])
    figures = [figure for figure in figures if figure.normaliser == normaliser]
    if not figures:
        return f"No figure on {dataset} has been published under this normaliser.\n"
    columns = list(dict.fromkeys((f.metric, f.subset, f.n) for f in figures))
    columns.sort(key=lambda column: list(METRICS).index(column[0]))
    rows = []
    for each in experiments:
        shown = {
            "nme": lambda entry: number(entry.nme, decimals(entry.nme_ci95)),
            "fr_0.10": lambda entry: failures(entry, entry.fr_010),
            "auc_0.10": lambda entry: area(entry, entry.auc_010),
        }
        entries = [(metric, _ours(each, subset, n)) for metric, subset, n in columns]
        if any(entry for _, entry in entries):
            cells = [shown[metric](entry) if entry else NOTHING for metric, entry in entries]
            rows.append((f"**{each.name}**", f"here, protocol {each.provenance.protocol}", *cells))
    if not rows:
        faces = ", ".join(f"{subset} {n}" for subset, n in dict.fromkeys((f.subset, f.n) for f in figures) if n)
        return f"These are not the faces of the published figures ({faces}), which are therefore not set beside them.\n"
    for (method, source, secondary), group in groupby(figures, lambda f: (f.method, f.source, f.secondary)):
        values = {(f.metric, f.subset): f.value for f in group}
        cells = [number(values.get((m, s)), 1 if m.startswith("auc") else 2) for m, s, _ in columns]
        rows.append((method + (" †" if secondary else ""), source, *cells))
    header = ("method", "source", *(f"{METRICS[metric]} {subset}" for metric, subset, _ in columns))
    note = "\n† A secondary source: seen on a results listing, neither in the paper nor in its repository.\n"
    return table(header, rows, left=2) + (note if any(f.secondary for f in figures) else "")


def section(experiments: Sequence[Experiment], figures: Sequence[Published]) -> str:
    """One dataset under one normaliser; `figures` are those published on the dataset."""
    dataset, normaliser = section_of(experiments[0])
    picture = f"![Cumulative error distributions](figures/{ced_name(dataset, normaliser)})\n"
    parts = [f"## {dataset}, {spoken(normaliser)}\n", picture, subsets(experiments)]
    parts += filter(None, (pairs.section(pairs.pairs(experiments)), weaknesses.section(experiments)))
    beside = comparison(experiments, figures)
    if beside:
        parts += ["### Beside published figures\n", beside]
    for each in experiments:
        folder = f"experiments/{each.name}/figures"
        if "faces.jpg" in each.pictures:
            parts += [f"### Faces of {each.name}\n", f"![Random, best and worst faces]({folder}/faces.jpg)\n"]
        if "training.png" in each.pictures:
            picture = f"![Loss, validation NME and learning rate]({folder}/training.png)"
            parts.append(f"<details><summary>The training of {each.name}</summary>\n\n{picture}\n\n</details>\n")
    return "\n".join(parts)


def provenance(experiments: Sequence[Experiment], times: Times) -> str:
    """What made each row: hashes, the MLflow run, the training and the machine; and what it costs."""
    short = [(each.name, each.provenance, each.provenance.hashes) for each in experiments]
    made = table(
        ("experiment", "MLflow run", "data", "params", "code", "model"),
        [(name, p.run or NOTHING, h.data[:8], h.params[:8], h.code[:8], h.model[:8]) for name, p, h in short],
        left=6,
    )
    trained = table(
        ("experiment", "recipe", "device", "input px", "epochs", "seed", "landmarks outside the input"),
        [
            (name, p.recipe, p.training.device, p.training.input_px, p.training.epochs, p.training.seed,
             f"{100 * p.outside_crop:.2f} %")
            for name, p, _ in short
        ],
        left=3,
    )  # fmt: skip
    costs = table(
        ("experiment", "parameters", "MB", "GFLOPs a face", *(f"{device} ms a face" for device in DEVICES)),
        [
            (name, *((f"{p.cost.parameters / 1e6:.2f} M", f"{p.cost.megabytes:.1f}", f"{p.cost.gflops:.2f}") if p.cost
                     else (NOTHING,) * 3), *times.cells(p.workload))
            for name, p, _ in short
        ],
    )  # fmt: skip
    whole = table(
        ("experiment", "fingerprint", *Hashes.model_fields),
        [(name, p.fingerprint, *(value for _, value in h)) for name, p, h in short],
        left=6,
    )
    machines = table(
        ("experiment", "step", "CPU", "threads", "instruction set", "locked packages"),
        [
            (name, step, machine.cpu, machine.threads, machine.isa, machine.lock)
            for name, p, _ in short
            for step, machine in (("train", p.training), ("evaluate", p.environment)) if machine.cpu
        ],
        left=6,
    )  # fmt: skip
    return (
        "## Where the figures come from\n\n"
        "Hashes of what went in (data, parameters, code) and of the model that came out; the MLflow run has the course "
        f"of the\ntraining.\n\n{made}\n{trained}\n"
        f"What a face costs; times measured by `make bench` ({times.about()}):\n\n{costs}\n"
        "<details><summary>Whole hashes, and the machines that the last bits depend on</summary>\n\n"
        f"{whole}\n{machines}\n</details>\n"
    )


def render(experiments: Sequence[Experiment], figures: dict[str, Sequence[Published]], times: Times) -> str:
    """The whole page; figures: per dataset those that others have published."""
    if not experiments:
        return f"{ABOUT}\n{EMPTY}"
    parts = [ABOUT, LEGEND, overview(experiments)]
    for (dataset, _), group in groupby(sorted(experiments, key=section_of), section_of):
        parts.append(section(list(group), figures.get(dataset, ())))
    parts += filter(None, [across.section(experiments)])
    return "\n".join([*parts, provenance(experiments, times), METHODS])
