"""provenance.json and training.json under reports/experiments/<name>/: what a result was made of, and where."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from stages.metrics.schema import Error, Normaliser, Share


class Hashes(BaseModel):
    data: str
    params: str
    code: str
    init: str = ""
    model: str = ""
    predictions: str = ""  # of a submission


class Environment(BaseModel):
    """The machine and the packages of one stage."""

    lock: str
    cpu: str
    threads: int
    isa: str


class Checkpoint(BaseModel):
    """The epoch that was kept, and its NME on val where there is one."""

    epoch: int
    val_nme: Error | None = Field(None, alias="val/nme")


class Training(Environment):
    """training.json."""

    epochs: int
    seed: int
    checkpoint: Checkpoint
    device: str
    processes: int


class Cost(BaseModel):
    """What a model costs: gflops of one face, a multiplication and an addition being two."""

    parameters: int
    megabytes: float
    gflops: float


class SubmissionFacts(BaseModel):
    """What a reader must know of somebody else's predictions; see config.submission and predictions.table."""

    described_in: str  # its file in params/submissions
    title: str
    url: str
    licence: str
    trained_on: str
    extra_data: str
    epoch_chosen_on: str
    box: str
    seen_test_faces: bool
    seed: int | None
    source: str  # the file, the function or the command
    form: str
    scheme: str
    count: int
    origin: int
    annotation_origin: int
    milliseconds: float | None = None
    cpu: str = ""
    warnings: list[str] = []


def difference(changes: Mapping[str, Any]) -> str:
    """Changes of a recipe in short, the seed left out: {"train.lr": 0.002, "train.seed": 1} is `lr=0.002`."""
    values = {key.rpartition(".")[2]: value for key, value in changes.items() if key != "train.seed"}
    return " ".join(
        f"{key}={json.dumps(value)}" if isinstance(value, list | bool) else f"{key}={value}"
        for key, value in values.items()
    )


class Provenance(BaseModel):
    """provenance.json: what a result was made of, and where."""

    name: str
    kind: Literal["experiment", "cross_dataset", "submission"]
    experiment: str = ""  # whose model
    dataset: str
    trained_on: str = ""
    recipe: str = ""
    init: str = ""
    submission: SubmissionFacts | None = None
    entry: str = ""  # the experiment's name in params/pipeline.yaml, which its other seeds share
    set: dict[str, Any] = {}  # what it sets there that differs from the recipe, {"train.lr": 0.002}, and its seed
    parameters: dict[str, dict[str, Any]] = {}  # of the recipe with what is set, by section; {}: not recorded
    protocol: str = ""
    normaliser: Normaliser
    landmarks: list[int]  # those of the dataset that were predicted …
    landmark_count: int  # … of so many
    run: str | None  # the MLflow run's name
    fingerprint: str
    series: str | None  # a hash of all parameters but the seed
    hashes: Hashes
    environment: Environment
    input_px: int | None = None
    outside_input: Share | None = None  # of the test landmarks, outside the model's input
    seen_in_training: int | None = None  # test faces of images that the model was trained on; None: unknown
    cost: Cost | None = None
    workload: str = ""  # what is computed for a face, by which its time is looked up

    @property
    def training_recipe(self) -> str:
        """The recipe, and the initial weights where they are not random: `quick`, `quick from demo-quick`."""
        return self.recipe if self.init == "random" else f"{self.recipe} from {self.init}"

    @property
    def variant(self) -> str:
        """What differs from the recipe, the seed left out: `lr=0.002 width=12`; "" where nothing does."""
        return difference(self.set)
