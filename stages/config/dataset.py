"""Sections of params/datasets/*.yaml, one model each."""

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from stages.config.section import Name, Section, Seed, Sha256
from stages.system.errors import InputError


def _not_taken(name: str) -> str:
    if name == "test":
        raise ValueError("a subset cannot be named test, which is the whole test split")
    if name.startswith("on_"):
        raise ValueError("a subset's name cannot begin with on_, as the metrics of cross-dataset evaluations do")
    return name


def _captures(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"it is no regular expression ({error})") from None
    if not groups:
        raise ValueError("it has no group in parentheses, which is to find the key")
    return pattern


Subset = Annotated[Name, AfterValidator(_not_taken)]
T = TypeVar("T")
Subsets = dict[Subset, T]
Published = Annotated[int, Field(ge=0, le=10**8)]


class About(Section):
    """What a reader of the report wants to know about the data."""

    title: str
    """As the report shows it."""
    licence: str
    """Its terms in a few words."""
    citation: str
    """The paper to cite."""
    homepage: str
    """Its page; "" for none."""
    obtain: str
    """How a person gets the files; shown where they are missing."""
    share_pictures: bool
    """`false`: no picture of its faces ever goes into git."""


class DemoForm(Section):
    """Faces drawn by this project."""

    seed: Seed
    """Of everything that is drawn."""
    train: Annotated[int, Field(ge=0, le=10**6)]
    """Faces of train, val included."""
    test: Annotated[int, Field(ge=0, le=10**6)]
    """Faces of test."""
    size: Annotated[int, Field(ge=64, le=1024)]
    """Side of a drawn image in px."""
    landmarks: list[Annotated[int, Field(ge=0, lt=98)]] | None = None
    """Those kept of the 98 drawn; null: all."""
    variety: Literal["plain", "wide"] = "plain"
    """`wide`: shapes, expressions, skin, colours and cameras differ more, for weights that real faces start from."""


class CsvForm(Section):
    """HRNet's CSV files; paths are relative to the root.

    Where there is no test file, `source.test_share` cuts test from train. Columns visible_0, visible_1, … (2 visible,
    1 hidden, 0 not annotated) and group are read where they are there.
    """

    images: str
    """The folder that image names start from."""
    train: str | None
    """The file of the training faces; null: none."""
    test: str | None
    """The file of the test faces; null: none."""
    subsets: Subsets[str] = {}
    """Files whose rows are rows of test."""


class ListsForm(Section):
    """WFLW's own lists; a subset is an attribute flag of the list, or a list whose rows are rows of test."""

    images: str
    """The folder that image names start from."""
    train: str | None
    """The list of the training faces; null: none."""
    test: str | None
    """The list of the test faces; null: none."""
    attributes: list[Subset]
    """Names of the flags that a list with rectangles has, in their order."""
    subsets: Subsets[str] = {}
    """Lists whose rows are rows of test."""


class PtsForm(Section):
    """300W's own form: a .pts file beside every image. A split is some folders, a subset some of test's folders."""

    images: str
    """The folder that the others are in."""
    train: list[str]
    """Folders of training images."""
    test: list[str]
    """Folders of test images."""
    subsets: Subsets[list[str]] = {}
    """Some of test's folders each."""
    hidden: Literal["none", "negative"] = "none"
    """`negative`: the signs of a landmark's coordinates say what is hidden, as in AFLW-68 and MERL-RAV: both are
    negative where it is hidden (its position is theirs without the sign), -1 -1 where it is not annotated. `none`:
    all are positions."""


class MatForm(Section):
    """COFW's own form: MATLAB v7.3 files that hold images and landmarks."""

    train: str | None
    """The file of the training faces; null: none."""
    test: str
    """The file of the test faces."""


class Counts(Section):
    """The published numbers of faces, checked by fetch; what is not named is not checked."""

    train: Published | None = None
    test: Published | None = None
    subsets: Subsets[Published] = {}


class Source(Section):
    """What the dataset's files are. Where they are is said by params/pipeline.yaml."""

    url: Annotated[str, Field(pattern="^https?://")] | None = None
    """Of an archive, which obtain downloads once."""
    sha256: Sha256 | None = None
    """Of that archive."""
    folder: str | None = None
    """For evaluate --data ROOT: used where ROOT itself does not hold the files."""
    partial: bool = False
    """`true`: part of the data on purpose, so counts that differ are a warning."""
    instead: str | None = None
    """A dataset whose test files the same folder may hold: evaluate --data uses them then."""
    form: Literal["demo", "csv", "lists", "pts", "mat"]
    """Which of the sections below is read."""
    demo: DemoForm | None = None
    csv: CsvForm | None = None
    lists: ListsForm | None = None
    pts: PtsForm | None = None
    mat: MatForm | None = None
    counts: Counts = Counts()
    group: Annotated[str, AfterValidator(_captures)] | None = None
    r"""A regular expression that is searched for in an image's name; its first group is the key of the person or video,
    whose faces are all put into one split: "^(\d+)_" for 17_03.jpg. A column group of the CSV files says the same."""
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that become test images, chosen by a hash of their content, where there are no test
    files. A face keeps its id, train/…, which says where it was read."""
    origin: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """What the annotations call the centre of the image's first pixel, in x and in y: 1 where they count from 1. Crops
    are cut so that landmarks and pixels agree; if they do not, a mirrored face is off in the other direction."""
    orientation: Literal["ignore", "exif"] = "ignore"
    """`exif` turns a photograph as its EXIF tag says, as the viewers do that annotations are made in; `ignore` keeps
    the stored pixels, as the loaders of the published benchmarks do."""
    shrink_stretches: bool = True
    """Under protocol `paper`: whether its loader's shrinking of big images stretched their contrast too, as it did to
    the sets read from CSV (floats by then) and not to COFW (still bytes)."""

    @model_validator(mode="after")
    def _form_is_described(self) -> "Source":
        if getattr(self, self.form) is None:
            raise ValueError(f"form is {self.form}, so a section source.{self.form} is needed")
        return self

    @model_validator(mode="after")
    def _there_is_a_test_split(self) -> "Source":
        if self.form == "demo":
            if self.test_share is not None:
                raise ValueError("test_share is for data without test files, and source.demo.test draws test faces")
            return self
        if self.files.test and self.test_share is not None:
            raise ValueError(f"test_share is for data without test files, and source.{self.form}.test names some")
        if not self.files.test and self.test_share is None:
            raise ValueError(f"source.{self.form}.test is empty: name the test files, or set source.test_share")
        if not self.files.test and not self.files.train:
            raise ValueError(f"source.{self.form} names no files")
        if not self.files.test and getattr(self.files, "subsets", None):
            raise ValueError(f"source.{self.form}.subsets are faces of test files, and there are none")
        return self

    @model_validator(mode="after")
    def _a_url_is_pinned(self) -> "Source":
        if self.url and not self.sha256:
            raise ValueError("sha256 is needed with url, so that everyone gets the same file")
        return self

    @property
    def files(self) -> "DemoForm | CsvForm | ListsForm | PtsForm | MatForm":
        """The section of the form in use."""
        return getattr(self, self.form)


class Landmarks(Section):
    scheme: Name
    """A file of params/schemes."""
    normaliser: Literal["inter_ocular", "inter_pupil", "box_side"]
    """The official one, of those the scheme defines."""


class Crops(Section):
    """What preprocess cuts. 256 px at 1.25 boxes is what the network reads; 448 px at 2.1875 boxes has its scale."""

    size: Annotated[int, Field(ge=32, le=2048)]
    """Side of a crop in px."""
    context: Annotated[float, Field(ge=1, le=20)]
    """The crop's side in sides of the face box."""
    val_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of the training images that become val, chosen by a hash of their content."""


class Evaluation(Section):
    """What evaluate measures besides the NME."""

    thresholds: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1, max_length=4)]
    """FR and AUC are given at each: fractions of the official normaliser, ascending; those of the dataset's papers."""

    @field_validator("thresholds")
    @classmethod
    def _ascending_percent(cls, thresholds: list[float]) -> list[float]:
        if any(round(t, 2) != t for t in thresholds):
            raise ValueError("two decimals at most (0.08 is 8 % of the normaliser)")
        if any(one >= other for one, other in zip(thresholds, thresholds[1:], strict=False)):
            raise ValueError("each must be larger than the one before it")
        return thresholds


DATASET: dict[str, type[Section]] = {
    "about": About, "source": Source, "landmarks": Landmarks, "crops": Crops, "evaluation": Evaluation
}  # fmt: skip


class Dataset:
    """The sections of a dataset that were asked for, as attributes, and where its files are."""

    about: About
    source: Source
    landmarks: Landmarks
    crops: Crops
    evaluation: Evaluation

    def __init__(self, name: str, location: Path | None, **sections: Section):
        self.name, self._location = name, location
        self.__dict__.update(sections)

    @property
    def location(self) -> Path:
        """Where params/pipeline.yaml says that its files are. Raises `InputError` where it is not listed there."""
        if self._location is None:
            raise InputError(
                f"dataset {self.name!r} is not listed under datasets in params/pipeline.yaml. Add a line such as "
                f"{self.name}: {{source: data/{self.name}}}"
            )
        return self._location
