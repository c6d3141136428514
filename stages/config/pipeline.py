"""params/pipeline.yaml: which datasets, experiments, cross-dataset evaluations and submissions `dvc repro` makes.

An entry with `seeds` stands for one experiment a seed, `<name>-s<seed>`; `read_pipeline` gives these.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.config.reading import did_you_mean, read_yaml, validate
from stages.config.recipe import RECIPE
from stages.config.section import Name, Section, Seed
from stages.system.errors import refuse

PARAMS, RESULTS = Path("params"), Path("reports/experiments")
FOLDERS = ("schemes", "raw", "crops", "training", "predictions", "galleries", "explorer")
MADE = [PurePath("data", name) for name in FOLDERS]


class ListedDataset(Section):
    source: str
    """The folder or archive of its files, a dependency of fetch; of drawn faces, the code that draws them."""
    images: bool = True
    """`false`: only the annotation files of its test faces are at hand. Submissions can be measured on it, no network
    can be trained or run."""
    detector: Literal["yunet"] | None = None
    """Predict a second time from face boxes of this detector; the report has a column of it."""


class ListedExperiment(Section):
    """An entry of `experiments`: one experiment, or one for each of its seeds."""

    dataset: Name
    """A name under `datasets`."""
    recipe: Name
    """A file of params/recipes."""
    init: Name = "random"
    """The initial weights in models/: `random`, another experiment, or a file of weights."""
    set: dict[str, Any] = {}
    """What differs from the recipe: `{train.lr: 0.002, model.width: 12}`."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)] | None = None
    """One experiment for each, named `<name>-s<seed>`, instead of the recipe's own seed."""

    @field_validator("set")
    @classmethod
    def _keys_of_a_recipe(cls, changes: dict[str, Any]) -> dict[str, Any]:
        known = [f"{section}.{key}" for section, model in RECIPE.items() for key in model.model_fields]
        if unknown := [key for key in changes if key not in known]:
            raise ValueError(
                f"{unknown[0]} is not a key of a recipe, such as train.lr.{did_you_mean(unknown[0], known)}"
            )
        return changes

    @model_validator(mode="after")
    def _seeds_differ(self) -> "ListedExperiment":
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is there twice")
        if self.seeds and "train.seed" in self.set:
            raise ValueError("seeds and set: train.seed say the same: keep one of them")
        return self


class CrossDataset(Section):
    """The model of an experiment on the test faces of another dataset, by corresponding landmarks."""

    experiment: Name
    """Whose model it is."""
    dataset: Name
    """Whose test faces are measured."""


class ListedSubmission(Section):
    """Somebody else's predictions of a dataset's test faces, measured as an experiment's."""

    dataset: Name
    """Whose test faces they are."""
    submission: Name | None = None
    """A file of params/submissions, which says what they are; null: the one with the entry's name."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)] | None = None
    """One run of the method for each, named `<name>-s<seed>`."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> "ListedSubmission":
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is there twice")
        return self


class PipelineFile(Section):
    """Every key but `datasets` is optional."""

    datasets: dict[Name, ListedDataset]
    """Each has its description in params/datasets."""
    experiments: dict[Name, ListedExperiment] = {}
    """Trainings; each is evaluated on the test faces of its dataset."""
    cross_dataset: dict[Name, CrossDataset] = {}
    """Evaluations of an experiment's model on another dataset."""
    submissions: dict[Name, ListedSubmission] = {}
    """Predictions by other methods."""
    baseline: Name | list[Name] = []
    """The experiment or submission, or one for each dataset, that the report compares the others with."""


@dataclass(frozen=True)
class PlannedExperiment:
    """One training. entry: its name in the file, which its other seeds share. changes: `set`, and the seed."""

    entry: str
    dataset: str
    recipe: str
    init: str
    changes: dict[str, Any]


@dataclass(frozen=True)
class PlannedSubmission:
    """One table of predictions. entry: its name in the file, which its other seeds share. submission: its file in
    params/submissions."""

    entry: str
    dataset: str
    submission: str
    seed: int | None


@dataclass(frozen=True)
class Pipeline:
    """What is made, an entry with seeds being one experiment or submission a seed."""

    datasets: dict[str, ListedDataset]
    experiments: dict[str, PlannedExperiment] = field(default_factory=dict)
    cross_dataset: dict[str, CrossDataset] = field(default_factory=dict)
    submissions: dict[str, PlannedSubmission] = field(default_factory=dict)
    baselines: list[str] = field(default_factory=list)  # names of entries

    @property
    def entries(self) -> list[str]:
        """The names of the rows of the report, in the file's order."""
        return list(dict.fromkeys(each.entry for each in (*self.experiments.values(), *self.submissions.values())))


def seed_names(name: str, seeds: list[int] | None) -> dict[str, int | None]:
    """The experiments that an entry stands for, and their seeds; None is the recipe's own."""
    return {name: None} if seeds is None else {f"{name}-s{seed}": seed for seed in seeds}


def dotless(name: str) -> str:
    """The name as a key that DVC can look up: for it a dot separates keys."""
    return name.replace(".", "_")


def read_pipeline() -> Pipeline:
    """Raises `InputError` for an unknown or wrong key, and for a name that refers to nothing."""
    path = PARAMS / "pipeline.yaml"
    pipeline = _expanded(validate(PipelineFile, read_yaml(path), path), path)
    faults = [
        f"experiments.{name}: dataset {experiment.dataset} is not listed under datasets"
        for name, experiment in pipeline.experiments.items()
        if experiment.dataset not in pipeline.datasets
    ]
    for name, cross in pipeline.cross_dataset.items():
        trained = pipeline.experiments.get(cross.experiment)
        if trained is None:
            faults.append(f"cross_dataset.{name}: experiment {cross.experiment} is not listed under experiments")
        elif trained.dataset == cross.dataset:
            faults.append(f"cross_dataset.{name}: {cross.experiment} is trained on {cross.dataset} itself")
        if cross.dataset not in pipeline.datasets:
            faults.append(f"cross_dataset.{name}: dataset {cross.dataset} is not listed under datasets")
        if name in pipeline.experiments:
            faults.append(f"cross_dataset.{name}: an experiment has the same name")
    for name, submission in pipeline.submissions.items():
        if submission.dataset not in pipeline.datasets:
            faults.append(f"submissions.{name}: dataset {submission.dataset} is not listed under datasets")
        for kind in ("experiments", "cross_dataset"):
            if name in getattr(pipeline, kind):
                faults.append(f"submissions.{name}: {kind} has the same name")
    for kind in ("experiments", "cross_dataset"):
        faults += [
            f"{kind}.{name}: {needs.dataset} has no images (images: false), so no network can run on it"
            for name, needs in getattr(pipeline, kind).items()
            if needs.dataset in pipeline.datasets and not pipeline.datasets[needs.dataset].images
        ]
    faults += [
        f"baseline: there is no experiment or submission {name}.{did_you_mean(name, pipeline.entries)}"
        for name in pipeline.baselines
        if name not in pipeline.entries
        and RESULTS.is_dir()
        and not (RESULTS / name).is_dir()  # one may be made elsewhere
    ]
    if "random" in pipeline.experiments:
        faults.append("experiments.random: the name stands for weights drawn at random (init: random)")
    faults += [
        f"experiments.{name}: models/{name} is a file of weights, which DVC would remove to train the experiment"
        for name in pipeline.experiments
        if name != "random" and Path("models", name).is_file()
    ]
    for name, dataset in pipeline.datasets.items():
        source = PurePath(os.path.normpath(dataset.source))
        if any(source.is_relative_to(folder) or folder.is_relative_to(source) for folder in MADE):
            faults.append(f"datasets.{name}.source: {dataset.source} has what the stages make; put the files elsewhere")
    for names in (pipeline.datasets, [*pipeline.experiments, *pipeline.cross_dataset, *pipeline.submissions]):
        lower = [name.lower() for name in names]
        faults += [
            f"{name}: another name differs from it only in capitals, so on macOS and Windows both would have one folder"
            for name in names
            if lower.count(name.lower()) > 1 and list(names).count(name) == 1
        ]
    refuse(faults, str(path), "No stage makes what is not listed, and every name is one thing.")
    return pipeline


def _expanded(listed: PipelineFile, path: Path) -> Pipeline:
    """One experiment for each seed. Raises `InputError` where two entries make one name, or a reference is not one."""
    experiments: dict[str, PlannedExperiment] = {}
    cross_dataset: dict[str, CrossDataset] = {}
    faults = []

    def of_seed(name: str, seed: int | None, key: str) -> str:
        """The experiment that a reference to an entry means."""
        entry = listed.experiments.get(name)
        if entry is None or entry.seeds is None:
            return name
        if seed not in entry.seeds:
            faults.append(f"{key}: {name} has seeds; name one of {', '.join(seed_names(name, entry.seeds))}")
        return f"{name}-s{seed}"

    for name, entry in listed.experiments.items():
        for own, seed in seed_names(name, entry.seeds).items():
            if own in experiments:
                faults.append(f"experiments.{name}: with its seeds it makes {own}, which is there already")
            init = of_seed(entry.init, seed, f"experiments.{name}.init")
            changes = entry.set if seed is None else entry.set | {"train.seed": seed}
            experiments[own] = PlannedExperiment(name, entry.dataset, entry.recipe, init, changes)
    for name, cross in listed.cross_dataset.items():
        trained = listed.experiments.get(cross.experiment)
        for own, seed in seed_names(name, trained.seeds if trained else None).items():
            if own in cross_dataset:
                faults.append(f"cross_dataset.{name}: with the seeds it makes {own}, which is there already")
            cross_dataset[own] = CrossDataset(
                experiment=of_seed(cross.experiment, seed, f"cross_dataset.{name}"), dataset=cross.dataset
            )
    submissions: dict[str, PlannedSubmission] = {}
    for name, entry in listed.submissions.items():
        for own, seed in seed_names(name, entry.seeds).items():
            if own in submissions:
                faults.append(f"submissions.{name}: with its seeds it makes {own}, which is there already")
            submissions[own] = PlannedSubmission(name, entry.dataset, entry.submission or name, seed)
    keys = [dotless(name) for name in experiments]
    faults += [
        f"{name}: another name differs from it only in . and _" for name in experiments if keys.count(dotless(name)) > 1
    ]
    refuse(faults, str(path), "Every name is one thing.")
    baselines = [listed.baseline] if isinstance(listed.baseline, str) else listed.baseline
    return Pipeline(listed.datasets, experiments, cross_dataset, submissions, baselines)
