"""The text of reports/results.md: one Markdown page. This module reads and writes no file."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from stages.metrics.remarks import remarks
from stages.metrics.results import Result
from stages.reporting import comparisons, cross_dataset, error_analysis, series
from stages.reporting.published import Measured, Published, comparison_table
from stages.reporting.tables import (
    NOTHING,
    at_threshold,
    auc,
    failure_rate,
    markdown_table,
    nme,
    normaliser_name,
    number,
    thresholds,
    with_interval,
)
from stages.reporting.times import DEVICES, Times

INTRODUCTION = """\
# Results

Facial landmark detection by HRNetV2 heat-map regression, measured on test faces that are used neither in training nor
to choose an epoch. An experiment is a dataset with a recipe: `wflw-paper` is WFLW with the recipe `paper`. `dvc repro`
makes the experiments, and `python -m stages.report` this page; do not edit it.
"""

LEGEND = """\
All figures are percentages, brackets are 95 % intervals. See below for [the metrics and methods](#metrics-and-methods)
and for [the provenance of each row](#provenance).
"""

EMPTY = """\
There are no results yet. `dvc repro` makes the experiments that `params/pipeline.yaml` lists, and this page with them;
`dvc repro evaluate@demo-quick report` makes one.
"""

DAMAGED = """\
## Results that are not shown

The files of these are damaged or contradict each other. Their figures are in no table and in no comparison.
"""

OTHER_FACES = """
Experiments that are measured on other faces, as of another version of the dataset, are not compared with each other.
"""

METHODS = """\
## Metrics and methods

- **NME**, normalised mean error: per face the mean distance of its annotated landmarks from the annotation over the
  face's normaliser, then the mean over faces. Figures under different normalisers do not compare. *Inter-ocular* is the
  distance of the outer eye corners, *box side* the side of the square face box.
- **FR@8**, failure rate: the share of faces with an NME above 8 %. Every dataset has the thresholds of its papers.
- **CED**, cumulative error distribution: the share of faces up to each NME. **AUC@8**: the area under it from 0 to 8 %,
  as a percentage of that range.
- **Intervals** are over faces: what another sample of test faces would have given, not what another seed of the
  training would have. NME and AUC: bootstrap-t, 10,000 resamples; FR: Clopper and Pearson. Figures have the digits that
  their intervals justify. The NME of fewer than 130 faces has none, since too few faces may show none of the gross
  failures that decide a mean; an AUC needs 10 ([simulations](simulations.md)). *±*: the standard deviation over
  trainings that differ in their seed alone.
- **Mean-shape baseline**: the NME of predicting the mean shape of the training faces in the box of every face, which
  needs no image.
- **Protocol** *exact*: coordinates are never rounded. *paper*: the published HRNet code's own crops and roundings, for
  results that compare with its released models.
- **Landmarks outside the input** are outside the square that the model sees; no heat map can predict them.
- **GFLOPs**: 10⁹ operations for one face in one pass of the network, a multiplication and an addition counted as two.
  MB: the size of the weights, 10⁶ bytes. Milliseconds: from crops to 98 landmarks, in batches, with the flip test where
  the recipe has it; reading and cropping images is not included.
- **Test** is the whole test split; a face may belong to several subsets.
"""


def section_key(result: Result) -> tuple[str, str]:
    """Results with the same dataset and normaliser share tables and figures."""
    return result.provenance.dataset, result.provenance.normaliser


def ced_name(dataset: str, normaliser: str) -> str:
    """The file of a section's CED, under reports/figures/."""
    return f"ced-{dataset}-{normaliser}.png"


def summary(experiments: Sequence[Result]) -> str:
    """One row per experiment of a section, or per series of seeds: the whole test split."""
    columns = thresholds(experiment.metrics["test"] for experiment in experiments)
    at = [(kind, threshold) for kind in ("fr", "auc") for threshold in columns]
    header = ["experiment", "protocol", "input px", "epochs", "n", "NME [95 %]", *(at_threshold(*key) for key in at),
              "mean-shape baseline"]  # fmt: skip
    rows, notes = [], []
    for members in series.group_by_seed(experiments):
        made, training, test = members[0].provenance, members[0].training, members[0].metrics["test"]
        figures = [nme(test), *((failure_rate if kind == "fr" else auc)(test, threshold) for kind, threshold in at)]
        if len(members) > 1:
            entries = [member.metrics["test"] for member in members]
            figures = [series.mean_and_deviation([entry.nme for entry in entries])]
            for kind, threshold in at:
                values = [getattr(entry.at.get(threshold), kind, None) for entry in entries]
                figures.append(series.mean_and_deviation(values))
        rows.append([series.name(members), made.protocol, made.input_px, training.epochs, test.n, *figures,
                     number(test.nme_mean_shape, 1)])  # fmt: skip
        notes.append("; ".join(dict.fromkeys(remark for member in members for remark in remarks(member))))
    if any(notes):
        header.append("note")
        rows = [[*row, note] for row, note in zip(rows, notes, strict=True)]
    return markdown_table(header, rows, left=2)


def subsets(experiments: Sequence[Result]) -> str:
    """Every subset of every experiment of a section, sorted by subset."""
    names = dict.fromkeys(["test", *(name for result in experiments for name in result.metrics)])
    columns = thresholds(entry for result in experiments for entry in result.metrics.values())
    at = [(kind, threshold) for kind in ("fr", "auc") for threshold in columns]
    header = ("subset", "experiment", "n", "NME [95 %]", *(f"{at_threshold(*key)} [95 %]" for key in at),
              "mean-shape baseline")  # fmt: skip
    rows = []
    for name in names:
        for result in experiments:
            if entry := result.metrics.get(name):
                measured = [(entry.at.get(threshold), kind) for kind, threshold in at]
                figures = [
                    with_interval(getattr(figure, kind, None), getattr(figure, f"{kind}_ci95", None))
                    for figure, kind in measured
                ]
                rows.append((name, result.name, entry.n, nme(entry), *figures, number(entry.nme_mean_shape, 1)))
    return markdown_table(header, rows, left=2)


def paired(experiments: Sequence[Result]) -> str:
    """The paired comparison of every two experiments that are measured on the same faces."""
    groups: dict[frozenset, list[Result]] = {}
    for result in experiments:
        faces = frozenset(zip(result.faces.face_id, map(frozenset, result.faces.subsets), strict=True))
        groups.setdefault(faces, []).append(result)
    pairs = {}
    for members in groups.values():
        pairs |= comparisons.compare_pairs(members)
    return comparisons.section(pairs) + (OTHER_FACES if len(groups) > 1 else "")


def section(experiments: Sequence[Result], figures: Sequence[Published]) -> str:
    """One dataset under one normaliser; `figures` are those published on the dataset."""
    dataset, normaliser = section_key(experiments[0])
    picture = f"![Cumulative error distributions](figures/{ced_name(dataset, normaliser)})\n"
    parts = [f"## {dataset}, {normaliser_name(normaliser)}\n", summary(experiments), picture, subsets(experiments)]
    parts += filter(None, [paired(experiments)])
    parts.append(error_analysis.section(experiments))
    rows = [
        Measured(f"**{result.name}**", f"here, protocol {result.provenance.protocol}", result.metrics)
        for result in experiments
    ]
    comparison = comparison_table(rows, figures, normaliser)
    if comparison:
        parts += ["### Comparison with published figures\n", comparison]
    return "\n".join(parts)


def provenance(results: Sequence[Result], times: Times) -> str:
    """What made each row: hashes, the MLflow run, the training and the machine; and what it costs."""
    results = sorted(results, key=lambda result: not result.is_experiment)
    experiments = [(result.name, result.provenance, result.training) for result in results if result.is_experiment]
    made = [(result.name, result.provenance, result.provenance.hashes) for result in results]
    runs = markdown_table(
        ("name", "MLflow run", "data", "params", "code", "model"),
        [(name, p.run or NOTHING, h.data[:8], h.params[:8], h.code[:8], h.model[:8]) for name, p, h in made],
        left=6,
    )
    trainings = markdown_table(
        ("experiment", "recipe", "initial weights", "device", "input px", "epochs", "seed",
         "landmarks outside the input"),
        [
            (name, p.recipe, p.init, training.device, p.input_px, training.epochs, training.seed,
             f"{100 * p.outside_input:.2f} %")
            for name, p, training in experiments
        ],
        left=4,
    )  # fmt: skip
    costs = markdown_table(
        ("experiment", "parameters", "MB", "GFLOPs a face", *(f"{device} ms a face" for device in DEVICES)),
        [
            (name, f"{p.cost.parameters / 1e6:.2f} M", f"{p.cost.megabytes:.1f}", f"{p.cost.gflops:.2f}",
             *times.cells(p.workload))
            for name, p, _ in experiments
        ],
    )  # fmt: skip
    whole = markdown_table(
        ("name", "fingerprint", "data", "params", "code", "initial weights", "model"),
        [(name, p.fingerprint, *(value for _, value in hashes)) for name, p, hashes in made],
        left=7,
    )
    environments = []
    for result in results:
        steps = [("train", result.training)] if result.is_experiment else []
        for step, machine in (*steps, ("evaluate", result.provenance.environment)):
            environments.append((result.name, step, machine.cpu, machine.threads, machine.isa, machine.lock))
    machines = markdown_table(
        ("name", "step", "CPU", "threads", "instruction set", "locked packages"), environments, left=6
    )
    return (
        "## Provenance\n\n"
        "Hashes of the inputs (data, parameters, code) and of the trained model; the MLflow run has the training's "
        f"history.\n\n{runs}\n{trainings}\n"
        f"Cost of a face; times measured by `make bench` ({times.measured_on()}):\n\n{costs}\n"
        "<details><summary>Full hashes, and the machines that the last bits depend on</summary>\n\n"
        f"{whole}\n{machines}\n</details>\n"
    )


def render(
    results: Sequence[Result],
    figures: Mapping[str, Sequence[Published]],
    times: Times,
    damaged: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The whole page; figures: per dataset those that others have published. damaged: the faults of those not shown."""
    if not results and not damaged:
        return f"{INTRODUCTION}\n{EMPTY}"
    experiments = [result for result in results if result.is_experiment]
    parts = [INTRODUCTION, LEGEND]
    if damaged:
        rows = [(f"[{name}](pages/{name}.md)", faults[0] + (f"; {len(faults) - 1} more" if faults[1:] else ""))
                for name, faults in sorted(damaged.items())]  # fmt: skip
        parts += [DAMAGED, markdown_table(("name", "what is wrong"), rows, left=2)]
    for (dataset, _), members in groupby(sorted(experiments, key=section_key), section_key):
        parts.append(section(list(members), figures.get(dataset, ())))
    parts += filter(None, [cross_dataset.section(results)])
    return "\n".join([*parts, provenance(results, times), METHODS])
