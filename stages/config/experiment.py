"""What is measured, loaded once: an experiment with its dataset, recipe and initial weights, or a submission.

A stage loads the sections that it reads and no others (`load_experiment("demo-quick", "input", "evaluate")`), so that
what `dvc.yaml` declares for it is what it reads.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.config.dataset import DATASET, Dataset
from stages.config.pipeline import PARAMS, RESULTS, read_pipeline
from stages.config.reading import did_you_mean, parameter_file, read_yaml, validate_sections
from stages.config.recipe import RECIPE, Recipe
from stages.config.schemes import initial_landmarks
from stages.config.submission import SubmissionFile, load_submission_file
from stages.system.errors import InputError, refuse


@dataclass(frozen=True)
class Measured:
    """Predictions of a dataset's test faces, and where everything about them is kept.

    name: unique among experiments, cross-dataset evaluations and submissions. entry: its name in params/pipeline.yaml,
    which its other seeds share. data: the dataset whose test faces are measured. parameters: all that it was made with
    as plain values, to identify it, not to act on.
    """

    name: str
    entry: str
    data: Dataset
    parameters: dict[str, Any]

    @property
    def dataset(self) -> str:
        return self.data.name

    @property
    def crops(self) -> Path:
        return Path("data/crops") / self.dataset

    @property
    def predictions(self) -> Path:
        return Path("data/predictions") / f"{self.name}.parquet"

    @property
    def report(self) -> Path:
        """What a person reads about it, tracked by git."""
        return RESULTS / self.name

    @property
    def galleries(self) -> Path:
        """Pictures of its test faces, tracked by DVC."""
        return Path("data/galleries") / self.name


@dataclass(frozen=True)
class Experiment(Measured):
    """A model measured on a dataset's test faces: an experiment, or a cross-dataset evaluation of one.

    model_name: the experiment whose model it is; trained_on: its dataset. init_entry: the entry of the experiment it
    starts from; init_landmarks: of initial weights with another landmark scheme, pairs (own, theirs) of landmarks that
    correspond, None where the scheme is the same or unknown. changes: what it sets, such as {"train.lr": 0.002}.
    parameters: of the dataset that it is trained on and of the recipe.
    """

    model_name: str
    trained_on: str
    recipe_name: str
    init: str
    init_entry: str | None
    init_landmarks: list[tuple[int, int]] | None
    changes: dict[str, Any]
    recipe: Recipe

    @property
    def kind(self) -> str:
        return "experiment" if self.name == self.model_name else "cross_dataset"

    @property
    def initial_weights(self) -> Path:
        return Path("models") / self.init

    @property
    def model(self) -> Path:
        return Path("models") / self.model_name

    @property
    def training(self) -> Path:
        """The history of its training, and the machine."""
        return Path("data/training") / self.model_name

    @property
    def calibration(self) -> Path:
        """What its model needs in use besides the weights."""
        return Path("data/calibration") / f"{self.model_name}.json"


@dataclass(frozen=True)
class Submitted(Measured):
    """Somebody else's predictions. described: its file in params/submissions, by name and content; seed: of its run."""

    described_in: str
    described: SubmissionFile
    seed: int | None

    @property
    def kind(self) -> str:
        return "submission"


def load_measured(name: str, *sections: str) -> Experiment | Submitted:
    """An experiment, a cross-dataset evaluation or a submission; else as `load_experiment`."""
    return (load_submission if name in read_pipeline().submissions else load_experiment)(name, *sections)


def load_submission(name: str, *sections: str) -> Submitted:
    """The submission `name` of params/pipeline.yaml with these sections of its dataset.

    Raises `InputError` where it is not listed, and for every unknown or wrong parameter of its files.
    """
    pipeline = read_pipeline()
    if name not in pipeline.submissions:
        raise InputError(
            f"there is no submission {name!r} in {PARAMS}/pipeline.yaml.{did_you_mean(name, pipeline.submissions)} "
            f"Known: {', '.join(pipeline.submissions) or 'none'}."
        )
    planned = pipeline.submissions[name]
    described, dataset = load_submission_file(planned.submission), _read_dataset(planned.dataset)
    if planned.seed is not None and not described.runs:
        raise InputError(f"submissions.{planned.entry}: a file of predictions has no seeds. Take them out.")
    content = {name: dataset[name] for name in sections}
    return Submitted(
        name=name,
        entry=planned.entry,
        data=Dataset(planned.dataset, Path(pipeline.datasets[planned.dataset].source), **content),
        parameters={
            "dataset": {name: section.model_dump() for name, section in dataset.items()},
            "submission": described.model_dump(),
            "seed": planned.seed,
        },
        described_in=planned.submission,
        described=described,
        seed=planned.seed,
    )


def load_experiment(name: str, *sections: str) -> Experiment:
    """The experiment or cross-dataset evaluation `name` of params/pipeline.yaml.

    sections: those of its recipe and of the dataset it is measured on that the caller reads.

    Raises `InputError` where it is not listed, and for every unknown or wrong parameter of its files.
    """
    pipeline = read_pipeline()
    cross = pipeline.cross_dataset.get(name)
    model_name = cross.experiment if cross else name
    if model_name not in pipeline.experiments:
        known = [*pipeline.experiments, *pipeline.cross_dataset]
        raise InputError(
            f"there is no experiment {name!r} in {PARAMS}/pipeline.yaml.{did_you_mean(name, known)} "
            f"Known: {', '.join(known) or 'none'}."
        )
    listed = pipeline.experiments[model_name]
    measured_on = cross.dataset if cross else listed.dataset
    recipe = _read_recipe(listed.recipe, listed.dataset, listed.changes, listed.entry)
    trained_on = _read_dataset(listed.dataset)
    dataset = _read_dataset(measured_on) if cross else trained_on
    start = pipeline.experiments.get(listed.init)
    theirs = _read_dataset(start.dataset)["landmarks"].scheme if start else None
    init_landmarks = initial_landmarks(trained_on["landmarks"].scheme, listed.init, theirs)
    return Experiment(
        name=name,
        data=Dataset(
            measured_on,
            Path(pipeline.datasets[measured_on].source),
            **{section: dataset[section] for section in sections if section in DATASET},
        ),
        model_name=model_name,
        trained_on=listed.dataset,
        entry=listed.entry,
        recipe_name=listed.recipe,
        init=listed.init,
        init_entry=start.entry if start else None,
        init_landmarks=init_landmarks,
        changes=listed.changes,
        recipe=Recipe(**{section: recipe[section] for section in sections if section in RECIPE}),
        parameters={
            "dataset": {name: section.model_dump() for name, section in trained_on.items()},
            "recipe": {name: section.model_dump() for name, section in recipe.items()},
            **({} if init_landmarks is None else {"init_landmarks": init_landmarks}),
        },
    )


def load_dataset(name: str, *sections: str) -> Dataset:
    """A dataset with the named sections of its file, listed in params/pipeline.yaml or not.

    Raises `InputError` for every unknown or wrong parameter.
    """
    content, listed = _read_dataset(name), read_pipeline().datasets.get(name)
    location = Path(listed.source) if listed else None
    return Dataset(name, location, **{section: content[section] for section in sections})


def load_recipe(name: str, dataset: str, *sections: str) -> Recipe:
    """The named sections of params/recipes/<name>.yaml, as they are for this dataset."""
    content = _read_recipe(name, dataset)
    return Recipe(**{section: content[section] for section in sections})


def _read_dataset(name: str) -> dict:
    path = parameter_file(PARAMS / "datasets", name)
    return validate_sections(DATASET, read_yaml(path), path)


def _read_recipe(name: str, dataset: str, changes: dict[str, Any] | None = None, entry: str = "") -> dict:
    """A recipe's sections; `changes` are those of the experiment `entry`."""
    path = parameter_file(PARAMS / "recipes", name)
    content = read_yaml(path)
    _specialise(content, dataset, path)
    sections = validate_sections(RECIPE, content, path)
    if changes:
        for key, value in changes.items():
            section, _, key = key.partition(".")
            content[section] = content[section] | {key: value}
        path = f"{path} with what experiments.{entry} of {PARAMS}/pipeline.yaml sets"
        sections = validate_sections(RECIPE, content, path)
    if sections["evaluate"].protocol == "paper":
        published = {"size": 256, "box": 1.25}
        values = {key: getattr(sections["input"], key) for key in published}
        faults = [
            f"input.{key} is {value}, and protocol paper has {published[key]}"
            for key, value in values.items()
            if value != published[key]
        ]
        refuse(faults, str(path), "Change input, or set evaluate.protocol to exact.")
    return sections


def _specialise(content: dict[str, Any], dataset: str, path: Path) -> None:
    """Apply a recipe's section `datasets` (what differs for one dataset); refuse what could never apply."""
    special, faults = content.pop("datasets", None) or {}, []
    if not isinstance(special, dict) or not all(isinstance(values, dict) for values in special.values()):
        raise InputError(f"{path}: datasets holds, for a dataset's name, sections as the recipe has them.")
    for name, sections in special.items():
        if not (PARAMS / "datasets" / f"{name}.yaml").is_file():
            faults.append(f"datasets.{name}: there is no such dataset")
        for section, values in sections.items():
            if not isinstance(values, dict) or not isinstance(content.get(section), dict):
                faults.append(f"datasets.{name}.{section}: unknown section, or one without keys")
            elif name == dataset:
                content[section] = content[section] | values
    refuse(faults, str(path), f"Its sections are {', '.join(RECIPE)}; the datasets are those of params/datasets.")
