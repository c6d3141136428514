"""params/resolved.yaml: what params/pipeline.yaml stands for, defaults and seeds filled in, as dvc.yaml reads it."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from stages.config.experiment import load_dataset, load_experiment, load_submission
from stages.config.pipeline import PARAMS, Pipeline, PlannedExperiment, dotless, read_pipeline
from stages.config.recipe import RECIPE
from stages.config.submission import load_submission_file
from stages.system.errors import InputError
from stages.system.files import atomic

FILE = PARAMS / "resolved.yaml"
HEADER = """# What params/pipeline.yaml stands for, as dvc.yaml reads it. Edit pipeline.yaml instead: `make repro`, or
# `python -m stages.check` alone, makes this file of it.
"""
TRAINING = [section for section in RECIPE if section != "evaluate"]


def resolved(pipeline: Pipeline) -> dict[str, Any]:
    """The content of the file.

    Under `set`, what differs from the recipe is apart for training and evaluation, so that another way to evaluate a
    model does not train it again.
    """

    def changes(experiment: PlannedExperiment, sections: list[str]) -> dict[str, Any]:
        return {key: value for key, value in experiment.changes.items() if key.partition(".")[0] in sections}

    measured = (pipeline.experiments, pipeline.cross_dataset, pipeline.submissions)
    return {
        "baselines": pipeline.baselines,
        "datasets": {
            name: {
                "source": dataset.source,
                "arguments": name if dataset.images else f"{name} --annotations-only",
                "detect": f"{name} --detector {dataset.detector}" if dataset.detector else name,
            }
            for name, dataset in pipeline.datasets.items()
        },
        "experiments": {
            name: {
                "dataset": experiment.dataset,
                "recipe": experiment.recipe,
                "init": experiment.init,
                "set": dotless(name),
            }
            for name, experiment in pipeline.experiments.items()
        },
        "cross_dataset": {
            name: {**cross.model_dump(), "set": dotless(cross.experiment)}
            for name, cross in pipeline.cross_dataset.items()
        },
        **submissions(pipeline),
        # the datasets whose test faces have predictions
        "explored": list(dict.fromkeys(entry.dataset for listed in measured for entry in listed.values())),
        "set": {
            dotless(name): {
                "training": changes(experiment, TRAINING),
                "evaluate": changes(experiment, ["evaluate"]),
                "init_landmarks": " ".join(
                    f"{own}={theirs}" for own, theirs in load_experiment(name).init_landmarks or ()
                ),
            }
            for name, experiment in pipeline.experiments.items()
        },
    }


def submissions(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """All submissions, and apart those that are files and those that run here, with what their stage depends on.

    DVC has no optional dependency: where there is no second file, it is the submission's own in params/.
    """
    content: dict[str, dict[str, Any]] = {"submissions": {}, "submitted_files": {}, "submitted_methods": {}}
    for name, planned in pipeline.submissions.items():
        described = f"{PARAMS}/submissions/{planned.submission}.yaml"
        given = load_submission_file(planned.submission)
        entry = {"dataset": planned.dataset, "submission": planned.submission}
        content["submissions"][name] = entry
        if given.file:
            beside = given.file.coco_images or described
            content["submitted_files"][name] = {**entry, "file": given.file.path, "beside": beside}
        else:
            code = given.command.code if given.command else given.method.module_file
            content["submitted_methods"][name] = {**entry, "code": code if Path(code).exists() else described}
    return content


def require_parameters(pipeline: Pipeline) -> None:
    """Raise `InputError` with the faults of all parameter files that the pipeline uses."""
    faults = []
    loads = [(load_dataset, name) for name in pipeline.datasets]
    loads += [(load_experiment, name) for name in (*pipeline.experiments, *pipeline.cross_dataset)]
    loads += [(load_submission, name) for name in pipeline.submissions]
    for load, name in loads:
        try:
            load(name)
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(dict.fromkeys(faults)))


def unused_changes(pipeline: Pipeline) -> list[str]:
    """Recipes that differ from the last commit and are in no experiment, as after `dvc exp run -S` of a wrong one."""
    command = ["git", "diff", "--name-only", "--relative", "HEAD", "--", str(PARAMS / "recipes")]
    changed = subprocess.run(command, capture_output=True, text=True).stdout.split()
    used = {experiment.recipe for experiment in pipeline.experiments.values()}
    return [file for file in changed if Path(file).suffix == ".yaml" and Path(file).stem not in used]


def oversized_crops(pipeline: Pipeline) -> list[str]:
    """Datasets whose crops have at least 2.25 times the pixels that their recipes use, and what to set instead."""
    told = []
    for name in pipeline.datasets:
        crops = load_dataset(name, "crops").crops
        trained = [load_experiment(each, "input") for each, of in pipeline.experiments.items() if of.dataset == name]
        used = max((math.ceil(e.recipe.input.size * crops.context / e.recipe.input.box) for e in trained), default=0)
        if used and crops.size >= 1.5 * used:
            gigabytes = [f"{side * side * 3 / 1e6:.2f}" for side in (crops.size, used)]
            told.append(
                f"the crops of {name} are {crops.size} px wide and its recipes use {used}: crops.size: {used} in "
                f"params/datasets/{name}.yaml takes {gigabytes[1]} GB for 1000 faces instead of {gigabytes[0]}, and as "
                "much less again in DVC's cache (its models train again)"
            )
    return told


def write_resolved() -> bool:
    """Check all parameters and write the file; whether it was out of date.

    Raises `InputError` with the faults of all parameter files.
    """
    pipeline = read_pipeline()
    require_parameters(pipeline)
    for file in unused_changes(pipeline):
        used = ", ".join(sorted({experiment.recipe for experiment in pipeline.experiments.values()}))
        print(f"warning: {file} was changed, and no experiment uses it. In use: {used or 'none'}", file=sys.stderr)
    for note in oversized_crops(pipeline):
        print(f"note: {note}", file=sys.stderr)
    text = HEADER + yaml.safe_dump(resolved(pipeline), sort_keys=False, width=120, allow_unicode=True)
    if FILE.exists() and FILE.read_text(encoding="utf-8") == text:
        return False
    with atomic(FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{FILE}: {len(pipeline.experiments)} experiment{'' if len(pipeline.experiments) == 1 else 's'}", flush=True)
    return True
