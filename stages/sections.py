"""The sections of the files in params/, one model each. Types are strict: 2.5 is no number of epochs, "fast" no lr."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# ---- params/pipeline.yaml


class Experiment(Section):
    dataset: str
    recipe: str


class Crossing(Section):
    """A model of an experiment on the test faces of another dataset."""

    experiment: str
    dataset: str


class Pipeline(Section):
    datasets: list[str]
    experiments: dict[str, Experiment]
    crossings: dict[str, Crossing]


# ---- params/layouts.yaml


class Layout(Section):
    landmarks: Count
    datasets: list[str]


class Partners(Section):
    """Landmarks of two layouts that are the same point of the face: pairs of 0-based numbers, in the layouts' order."""

    layouts: Annotated[list[str], Field(min_length=2, max_length=2)]
    pairs: list[Annotated[list[int], Field(min_length=2, max_length=2)]]


class Layouts(Section):
    layouts: dict[str, Layout]
    partners: list[Partners]

    @model_validator(mode="after")
    def _each_dataset_has_one_layout(self) -> "Layouts":
        named = [name for layout in self.layouts.values() for name in layout.datasets]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"of more than one layout: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _partners_exist_and_are_unique(self) -> "Layouts":
        for each in self.partners:
            between = " and ".join(each.layouts)
            for side, layout in enumerate(each.layouts):
                if layout not in self.layouts:
                    raise ValueError(f"partners of {between}: there is no layout {layout}")
                named = [pair[side] for pair in each.pairs]
                outside = sorted({i for i in named if not 0 <= i < self.layouts[layout].landmarks})
                twice = sorted({i for i in named if named.count(i) > 1})
                if outside or twice:
                    fault = f"{outside} do not exist" if outside else f"{twice} stand twice"
                    raise ValueError(f"partners of {between}: landmarks {fault} in {layout}")
        return self


# ---- params/datasets/*.yaml


class About(Section):
    """What a reader of the report wants to know of the data."""

    title: str
    licence: str
    citation: str
    homepage: str
    obtain: str  # how a person gets it, said by fetch where it is missing
    share_pictures: bool  # False: no picture of its faces ever goes into git


class DemoForm(Section):
    """Faces drawn by this project."""

    seed: int
    train: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=64, le=1024)]  # px
    landmarks: list[Annotated[int, Field(ge=0, lt=98)]] | None = None  # those kept of the 98 drawn; null: all


class CsvForm(Section):
    """HRNet's CSV files; paths are relative to the root. A subset is a CSV file whose rows are rows of test."""

    images: str  # the folder that image names start from, here and below
    train: str | None
    test: str
    subsets: dict[str, str] = {}


class ListsForm(Section):
    """WFLW's own lists; a subset is an attribute flag of the list, or a list whose rows are rows of test."""

    images: str
    train: str | None
    test: str
    attributes: list[str]  # names of the flags that a list with rectangles has, in their order
    subsets: dict[str, str] = {}


class PtsForm(Section):
    """300W's own form: a .pts file beside every image. A split is some folders, a subset some of test's folders."""

    images: str
    train: list[str]
    test: Annotated[list[str], Field(min_length=1)]
    subsets: dict[str, list[str]] = {}


class MatForm(Section):
    """COFW's own form: MATLAB v7.3 files that hold images and landmarks."""

    train: str | None
    test: str


class Counts(Section):
    """The published numbers of faces, checked by fetch; what is not named is not checked."""

    train: int | None = None
    test: int | None = None
    subsets: dict[str, int] = {}


class Source(Section):
    """Where the faces come from. The environment variable DATA_<NAME> (DATA_WFLW) overrides `root`."""

    root: str | None  # a folder, an archive (zip, tar), or the URL of one
    sha256: Sha256 | None = None  # of the archive
    folder: str | None = None  # looked into where the root itself does not hold the files (HRNet's data/wflw)
    partial: bool = False  # True: part of the data on purpose, so counts that differ are a warning
    instead: str | None = None  # a dataset whose test files the same folder may hold: evaluate --data takes them then
    form: Literal["demo", "csv", "lists", "pts", "mat"]  # which of the sections below is read
    demo: DemoForm | None = None
    csv: CsvForm | None = None
    lists: ListsForm | None = None
    pts: PtsForm | None = None
    mat: MatForm | None = None
    counts: Counts = Counts()
    # What the annotations call the middle of the image's first pixel, in x and in y: 1 where they count from 1. Crops
    # are cut so that landmarks and pixels agree; if they do not, a mirrored face is wrong the other way.
    origin: Annotated[float, Field(ge=-2, le=2)] = 0.0
    # protocol paper: whether its loader's shrinking of big images stretched their contrast too, as it did to the sets
    # read from CSV (floats by then) and not to COFW (still bytes)
    shrink_stretches: bool = True

    @model_validator(mode="after")
    def _form_is_described(self) -> "Source":
        if getattr(self, self.form) is None:
            raise ValueError(f"form is {self.form}, so a section source.{self.form} is needed")
        return self


class Landmarks(Section):
    count: Count
    flip_pairs: list[Annotated[list[int], Field(min_length=2, max_length=2)]]  # 0-based
    groups: dict[str, list[int]]  # name → 0-based landmarks

    @model_validator(mode="after")
    def _indices_exist(self) -> "Landmarks":
        named = [i for pair in self.flip_pairs for i in pair]
        if len(set(named)) != len(named):
            raise ValueError("flip_pairs names a landmark twice")
        outside = sorted({i for i in named + sum(self.groups.values(), []) if not 0 <= i < self.count})
        if outside:
            raise ValueError(f"landmarks {outside} are named, and there are {self.count} (0 to {self.count - 1})")
        return self


class Normalisers(Section):
    """What NME is divided by, each where the landmarks define it. Indices are 0-based."""

    official: Literal["inter_ocular", "inter_pupil", "box_side"]
    inter_ocular: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    inter_pupil: Annotated[list[list[int]], Field(min_length=2, max_length=2)] | None = None
    box_side: Literal["box"] = "box"

    def definitions(self) -> dict[str, object]:
        """Those that are defined, by name."""
        return {name: value for name, value in self.model_dump(exclude={"official"}).items() if value is not None}

    @model_validator(mode="after")
    def _official_is_defined(self) -> "Normalisers":
        if getattr(self, self.official) is None:
            raise ValueError(f"official is {self.official}, which is not defined here")
        return self


class Crops(Section):
    """What preprocess cuts. 256 px at 1.25 boxes is what the network reads; 448 px at 2.1875 boxes has its scale."""

    size: Annotated[int, Field(ge=32, le=2048)]  # px
    context: Annotated[float, Field(ge=1)]  # the crop's side in sides of the face box
    val_share: Annotated[float, Field(ge=0, lt=1)]  # of the training images, chosen by a hash of their names


# ---- params/recipes/*.yaml


class Model(Section):
    """HRNetV2 (stages/model/hrnet.py); the published W18 is 18, 64, 4, [1, 4, 3], 4."""

    width: Count
    stem: Count
    bottlenecks: Count
    modules: Annotated[list[Count], Field(min_length=3, max_length=3)]
    blocks: Count


class Input(Section):
    size: Annotated[int, Field(ge=32, multiple_of=32)]  # px
    box: Annotated[float, Field(ge=1)]  # side of the input in sides of the face box
    stretch: bool  # the published loader's contrast stretch of every window, in training and in evaluation


class Target(Section):
    sigma: Positive  # heat-map cells
    rounding: Literal["exact", "paper"]


class Augment(Section):
    """Drawn anew for each face and epoch. A share is the probability that a face gets it."""

    scale: Annotated[float, Field(ge=0, lt=1)]  # factor from U(1 - scale, 1 + scale)
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees from U(-rotation, rotation) …
    rotation_share: Share  # … with this probability
    shift: Annotated[float, Field(ge=0, lt=1)]  # of the input's side, from U(-shift, shift) in x and in y
    flip: Share
    grey: Share  # colours taken out
    light: Share  # gamma, brightness and contrast
    blur: Share  # Gaussian
    noise: Share  # Gaussian, independent per pixel and channel
    occlusion: Share  # a patch of one colour or of noise over part of the face


class Train(Section):
    loss: Literal["mse", "awing", "smooth_l1"]
    optimizer: Literal["adam", "adamw"]
    weight_decay: Annotated[float, Field(ge=0)]
    lr: Positive
    epochs: Count
    schedule: Literal["steps", "cosine"]
    milestones: list[Count]  # of steps: epochs after which the learning rate is × gamma
    gamma: Positive
    warmup: Annotated[float, Field(ge=0)]  # epochs in which the learning rate rises linearly from 0
    average: Annotated[float, Field(ge=0, lt=1)]  # decay of the weights' exponential moving average; 0: none
    batch: Count  # over all processes
    sync_norm: bool  # batch norm over all processes instead of each alone
    precision: Literal["fp32", "bf16"]  # of the network's forward and backward pass
    compile: bool  # torch.compile on a GPU
    seed: Annotated[int, Field(ge=0)]
    choose: Literal["best", "last"]  # the epoch kept: the best on val, or the last


class Init(Section):
    """The weights that training starts from: a file or a URL of the published ImageNet weights, or of landmarks."""

    weights: str | None  # a path starts from the repository; null: drawn at random
    sha256: Sha256 | None = None  # of the file; without it DVC does not notice that the file has changed

    @model_validator(mode="after")
    def _a_url_is_pinned(self) -> "Init":
        if self.weights and self.weights.startswith(("http://", "https://")) and not self.sha256:
            raise ValueError("sha256 is needed with a URL, so that everyone starts from the same file")
        return self


class Evaluate(Section):
    protocol: Literal["exact", "paper"]
    flip_test: bool
    batch: Count

    @model_validator(mode="after")
    def _the_paper_has_no_flip_test(self) -> "Evaluate":
        if self.protocol == "paper" and self.flip_test:
            raise ValueError("protocol paper has no flip test: set flip_test to false")
        return self


# ---- which models a file holds

DATASET = {
    "about": About,
    "source": Source,
    "landmarks": Landmarks,
    "normalisers": Normalisers,
    "crops": Crops,
}
RECIPE = {
    "model": Model,
    "input": Input,
    "target": Target,
    "augment": Augment,
    "train": Train,
    "init": Init,
    "evaluate": Evaluate,
}
