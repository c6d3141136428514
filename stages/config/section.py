"""The base of all parameter sections: strict types, finite numbers, no unknown keys."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _keeps_its_files(name: str) -> str:
    if name.endswith((".", ".tmp", ".pyc", ".dvc")):
        raise ValueError(
            "a name cannot end with a dot, .tmp, .pyc or .dvc: git, DVC or Windows would not keep its files"
        )
    return name


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**6)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every random number generator takes
# Names become folders, DVC stages, MLflow keys and words of a shell command: what all of these can bear
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), AfterValidator(_keeps_its_files)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
