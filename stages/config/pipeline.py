"""params/pipeline.yaml: which datasets, experiments and cross-dataset evaluations `dvc repro` makes."""

import os
from pathlib import Path, PurePath

from stages.config.reading import read_yaml, validate
from stages.config.section import Name, Section
from stages.system.errors import refuse

PARAMS = Path("params")
MADE = [PurePath("data", name) for name in ("schemes", "raw", "crops", "training", "predictions", "galleries")]


class ListedDataset(Section):
    source: str  # the folder or archive of its files, a dependency of fetch; of drawn faces, the code that draws them


class ListedExperiment(Section):
    dataset: Name
    recipe: Name
    init: Name  # the initial weights, models/<init>: random, another experiment, or a file of weights


class CrossDataset(Section):
    """The model of an experiment on the test faces of another dataset, by corresponding landmarks."""

    experiment: Name
    dataset: Name


class Pipeline(Section):
    datasets: dict[Name, ListedDataset]
    experiments: dict[Name, ListedExperiment]
    cross_dataset: dict[Name, CrossDataset] = {}


def read_pipeline() -> Pipeline:
    """Raises `InputError` for an unknown or wrong key, and for a name that refers to nothing."""
    path = PARAMS / "pipeline.yaml"
    pipeline = validate(Pipeline, read_yaml(path), path)
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
    for names in (pipeline.datasets, [*pipeline.experiments, *pipeline.cross_dataset]):
        lower = [name.lower() for name in names]
        faults += [
            f"{name}: another name differs from it only in capitals, so on macOS and Windows both would have one folder"
            for name in names
            if lower.count(name.lower()) > 1 and list(names).count(name) == 1
        ]
    refuse(faults, str(path), "No stage makes what is not listed, and every name is one thing.")
    return pipeline
