"""params/pipeline.yaml: which datasets, experiments and cross-dataset evaluations `dvc repro` makes."""

from pathlib import Path

from stages.config.reading import read_yaml, validate
from stages.config.section import Name, Section
from stages.system.errors import refuse

PARAMS = Path("params")


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
    refuse(faults, str(path), "No stage makes what is not listed, and every name is one thing.")
    return pipeline
