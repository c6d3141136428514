"""Sections of params/submissions/*.yaml: what a reader must know of somebody else's method, and its predictions."""

import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from stages.config.pipeline import PARAMS
from stages.config.reading import parameter_file, read_yaml, validate
from stages.config.section import Name, Section

Form = Literal["csv", "json", "coco", "pts", "parquet", "spiga"]
Origin = Literal[0, 1] | None


class SubmissionAbout(Section):
    """What decides whether its figures compare with those of others."""

    title: str
    """The method's name, as the report shows it."""
    url: str = ""
    """Its paper or repository."""
    licence: str = ""
    """Of its code or its predictions."""
    trained_on: str
    """The training faces, in words."""
    extra_data: str = "none"
    """What else it has learned from: ImageNet, other landmark datasets, image-text pairs; none, or unknown."""
    epoch_chosen_on: Literal["val", "last", "test", "unknown", "not applicable"]
    """The faces by whose error the epoch was chosen; a choice on test makes the figure too low."""
    box: Literal["annotation", "dataset", "detector", "image", "unknown"]
    """The face box it was given: of the annotated landmarks, the dataset's rectangle, a detector's, the whole image."""
    seen_test_faces: bool = False
    """`true`: it was trained on faces of this test split, so its figure is none of its accuracy; the report says so."""


class SubmittedFile(Section):
    """Predictions that exist as a file."""

    path: str
    """The file, or the folder of .pts files: a dependency of the stage that reads it."""
    form: Form | None = None
    """null: recognised from the content."""
    origin: Origin = None
    """What it calls the centre of the first pixel; null: 0, or 1 for .pts, and for parquet as the annotation."""
    coco_images: str | None = None
    """For form coco: the annotation file that names the images of the ids."""


class SubmittedMethod(Section):
    """A Python function that predicts: `function(train, **options)` gives `predict(image, boxes)`."""

    function: str
    """`package.module:function`, found from the repository's root; see docs/methods.md."""
    options: dict[str, Any] = {}
    """Its keyword arguments; an entry's seed is given as `seed`."""

    @field_validator("function")
    @classmethod
    def _module_and_function(cls, function: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", function):
            raise ValueError("it is written package.module:function")
        return function

    @property
    def module_file(self) -> str:
        """Where the module is, if it is one of the repository."""
        return self.function.partition(":")[0].replace(".", "/") + ".py"


class SubmittedCommand(Section):
    """A program, perhaps in an environment of its own, that reads a table of faces and writes predictions."""

    run: str
    """A shell command; {faces}, {train}, {out}, {seed} and {time} stand for files and the seed, see docs/methods.md."""
    code: str
    """The program's file or folder: a dependency of the stage that runs it."""
    form: Form | None = None
    """Of what it writes; null: recognised from the content."""
    origin: Origin = 0
    """What its predictions call the centre of the first pixel; the table of faces counts from 0."""

    @field_validator("run")
    @classmethod
    def _reads_and_writes(cls, run: str) -> str:
        if missing := [name for name in ("{faces}", "{out}") if name not in run]:
            raise ValueError(f"it lacks {' and '.join(missing)}")
        return run


class SubmissionFile(Section):
    """Exactly one of `file`, `method` and `command` says where the predictions come from."""

    about: SubmissionAbout
    """What a reader must know."""
    scheme: Name | None = None
    """The landmarks predicted, a file of params/schemes; null: the dataset's. Others are converted by
    params/correspondence.yaml."""
    file: SubmittedFile | None = None
    """Predictions that exist."""
    method: SubmittedMethod | None = None
    """A Python function."""
    command: SubmittedCommand | None = None
    """A program."""

    @model_validator(mode="after")
    def _one_origin(self) -> "SubmissionFile":
        given = [name for name in ("file", "method", "command") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"one of file, method and command is needed, and there {_are(given)}")
        return self

    @property
    def runs(self) -> bool:
        """Whether its predictions are made here."""
        return self.file is None


def _are(given: list[str]) -> str:
    return f"are {' and '.join(given)}" if given else "is none"


def load_submission_file(name: str) -> SubmissionFile:
    """params/submissions/<name>.yaml. Raises `InputError` for every unknown or wrong key."""
    path = parameter_file(PARAMS / "submissions", name)
    return validate(SubmissionFile, read_yaml(path), path)
