"""List the experiments: what differs in each, its test NME with its interval, and whether it is current.

    python -m stages.runs
    python -m stages.runs --num 5

First those of params/pipeline.yaml and all others that have results under reports/experiments, by dataset, the entry of
the lowest NME first; then the DVC experiments (`dvc exp run`) of the last commit, or of the last N. It fits the
terminal, and reads no data: it works in a fresh clone too.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stages.config.experiment import Experiment, Submitted, load_measured
from stages.config.pipeline import RESULTS, read_pipeline
from stages.metrics.provenance_schema import Provenance, difference
from stages.metrics.schema import Metrics
from stages.system import errors
from stages.tracking.provenance import changed_since
from stages.tracking.variant import variant

NARROWEST = 8  # characters of a column that is cut
METRICS = TypeAdapter(dict[str, Metrics])
LEGEND = {
    "stale": "stale: code, parameters or data have changed since; `dvc repro` makes it again",
    "no result": "no result: `dvc repro` makes it",
    "damaged": "damaged: `python -m stages.report` says what is wrong",
    "unlisted": "unlisted: not in params/pipeline.yaml, so `dvc repro` leaves it as it is",
}


@dataclass(frozen=True)
class Row:
    """An experiment of the pipeline, a cross-dataset evaluation or a submission."""

    name: str
    entry: str
    group: str  # the dataset, and the normaliser and number of faces of its NME
    recipe: str  # and what differs from it: `quick from demo-quick lr=0.002`; of a submission its title
    metrics: Metrics | None
    state: str

    @property
    def nme(self) -> float:
        return inf if self.metrics is None or self.metrics.nme is None else self.metrics.nme


def read_result(name: str) -> tuple[Provenance, Metrics] | None:
    """None where there is none. Raises `ValidationError` where it is damaged."""
    folder = RESULTS / name
    if not (folder / "provenance.json").exists() and not (folder / "metrics.json").exists():
        return None
    try:
        made = Provenance.model_validate_json((folder / "provenance.json").read_bytes())
        return made, METRICS.validate_json((folder / "metrics.json").read_bytes())["test"]
    except (FileNotFoundError, KeyError) as error:
        raise errors.InputError(f"{folder}: {error}") from error


def pipeline_rows() -> list[Row]:
    """The pipeline's experiments and evaluations, and those that only have results."""
    pipeline = read_pipeline()
    names = [*pipeline.experiments, *pipeline.cross_dataset, *pipeline.submissions]
    others = sorted(path.name for path in RESULTS.glob("*") if path.is_dir() and path.name not in names)
    rows = []
    for name in [*names, *others]:
        experiment = load_measured(name) if name in names else None
        try:
            result = read_result(name)
        except (ValidationError, errors.InputError):
            rows.append(Row(name, name, experiment.dataset if experiment else "", "", None, "damaged"))
            continue
        if result is not None:
            made, metrics = result
            group = f"{made.dataset}, {made.normaliser.replace('_', '-')}, {metrics.n} faces"
            if made.submission:
                recipe = made.submission.title
            else:
                differs = made.variant if experiment is None else variant(experiment)
                recipe = f"{made.training_recipe} {differs}".strip()
            entry = name if made.kind == "cross_dataset" else made.entry or name
            rows.append(Row(name, entry, group, recipe, metrics, state(experiment, made)))
        elif experiment is not None:
            group = f"{experiment.dataset}, not measured yet"
            rows.append(Row(name, experiment.entry, group, _made_by(experiment), None, "no result"))
    return rows


def _made_by(experiment: Experiment | Submitted) -> str:
    if isinstance(experiment, Submitted):
        return experiment.described.about.title
    return f"{experiment.recipe_name} {variant(experiment)}".strip()


def state(experiment: Experiment | Submitted | None, made: Provenance) -> str:
    if experiment is None:
        return "unlisted"
    changed = changed_since(experiment, made.hashes.model_dump())
    return f"stale: {', '.join(changed)}" if changed else "current"


def entry_means(rows: Sequence[Row]) -> dict[str, float]:
    """The mean test NME of each entry, over its seeds."""
    nmes: dict[str, list[float]] = {}
    for row in rows:
        nmes.setdefault(row.entry, []).append(row.nme)
    return {entry: sum(values) / len(values) for entry, values in nmes.items()}


def group_table(rows: Sequence[Row]) -> list[list[str]]:
    """Header and cells of the experiments of one dataset: best entry first, its seeds together."""
    means, sizes = entry_means(rows), {row.entry: sum(other.entry == row.entry for other in rows) for row in rows}
    table, shown = [["experiment", "recipe", "test NME", "95 % CI", "seeds' mean", "state"]], set()
    for row in sorted(rows, key=lambda row: (means[row.entry], row.entry, row.name)):
        interval = row.metrics and row.metrics.nme_ci95
        first = sizes[row.entry] > 1 and row.entry not in shown and means[row.entry] < inf
        shown.add(row.entry)
        table.append(
            [
                row.name, row.recipe, f"{row.nme:.3f}" if row.nme < inf else "—",
                f"{interval[0]:.2f} – {interval[1]:.2f}" if interval else "",
                f"{means[row.entry]:.3f} of {sizes[row.entry]}" if first else "", row.state,
            ]
        )  # fmt: skip
    return table


def dvc_experiments(commits: int) -> list[dict[str, Any]]:
    """What `dvc exp show` knows of the last commits; nothing, and no time, where no DVC experiment was ever made."""
    references = subprocess.run(["git", "for-each-ref", "--count=1", "refs/exps"], capture_output=True, text=True)
    if not references.stdout.strip():
        return []
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", str(commits)]
    shown = subprocess.run(command, capture_output=True, text=True)
    if shown.returncode:
        print(f"warning: dvc exp show fails: {shown.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return []
    return json.loads(shown.stdout)


def flat(tree: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from flat(value, (*prefix, key))
    else:
        yield prefix, tree


def parameters(revision: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """All parameters of a revision by file and keys, but for params/resolved.yaml, which is made of others."""
    files = (revision.get("data") or {}).get("params") or {}
    return {
        key: value for file, content in files.items() if Path(file).name != "resolved.yaml"
        for key, value in flat(content.get("data") or {}, (file,))
    }  # fmt: skip


def test_nmes(revision: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entry `test` of each metrics.json of a revision, by experiment."""
    files = (revision.get("data") or {}).get("metrics") or {}
    read = {Path(file).parent.name: (content.get("data") or {}).get("test") for file, content in files.items()}
    return {name: test for name, test in read.items() if test}


def dvc_table(baselines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Header and cells: a row for every figure that a DVC experiment has changed, best first; one without a figure."""
    rows = []
    for baseline in baselines:
        known, figures = parameters(baseline), test_nmes(baseline)
        for experiment in baseline.get("experiments") or []:
            revision = experiment["revs"][0]
            made, executor = parameters(revision), experiment.get("executor") or {}
            changed = {".".join(key[1:]): value for key, value in made.items() if known.get(key, value) != value}
            name = experiment.get("name") or revision["rev"][:7]
            status = executor.get("state") or "done"
            status = "done" if status == "success" else status
            new = {key: test for key, test in test_nmes(revision).items() if test != figures.get(key)}
            if status not in ("done", "running") or not new:
                rows.append((inf, [name, difference(changed), "", "", "", status]))
                continue
            for key, test in new.items():
                interval = test.get("nme_ci95")
                nme = inf if test["nme"] is None else test["nme"]
                rows.append(
                    (
                        nme,
                        [
                            name, difference(changed), key, f"{nme:.3f}" if nme < inf else "—",
                            f"{interval[0]:.2f} – {interval[1]:.2f}" if interval else "", status,
                        ],
                    )
                )  # fmt: skip
    header = ["DVC experiment", "differs from commit", "of", "test NME", "95 % CI", "state"]
    return [header, *(cells for _, cells in sorted(rows, key=lambda row: row[0]))]


def aligned(table: Sequence[Sequence[str]], width: int, elastic: Sequence[int]) -> list[str]:
    """Its lines: columns without content left out, figures to the right, and the elastic columns cut to the width."""
    kept = [i for i in range(len(table[0])) if any(row[i] for row in table[1:])]
    widths = {i: max(len(row[i]) for row in table) for i in kept}
    while sum(widths.values()) + 2 * (len(kept) - 1) > width:
        widest = max((i for i in elastic if i in widths), key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    cut = [[_cut(row[i], widths[i]) for i in kept] for row in table]
    right = [table[0][i] == "test NME" for i in kept]
    return [
        "  ".join(
            cell.rjust(widths[i]) if end else cell.ljust(widths[i])
            for cell, i, end in zip(row, kept, right, strict=True)
        ).rstrip()
        for row in cut
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def main(commits: int, width: int) -> None:
    rows = sorted(pipeline_rows(), key=lambda row: (row.metrics is None, row.group))
    for group, members in groupby(rows, lambda row: row.group):
        print(group)
        print(*aligned(group_table(list(members)), width, (5, 1, 0)), "", sep="\n")
    for word, meaning in LEGEND.items():
        if any(row.state.startswith(word) for row in rows):
            print(meaning)
    made = dvc_experiments(commits)
    if any(baseline.get("experiments") for baseline in made):
        print("", *aligned(dvc_table(made), width, (1, 2, 0)), "", sep="\n")
        print("`dvc exp apply NAME` restores one, `dvc queue start` runs what is queued")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=1, help="commits whose DVC experiments are listed (default: 1)")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.num, shutil.get_terminal_size((120, 24)).columns))
