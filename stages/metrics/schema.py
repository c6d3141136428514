"""The JSON files under reports/experiments/<name>/, one model each. Unknown keys are ignored.

Figures are percentages. A value that is not finite (a face without a prediction) is null in JSON and None here.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, model_validator

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Error = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # an NME in percent, which may exceed 100
Normaliser = Literal["inter_ocular", "inter_pupil", "box_side"]  # an official one


_AT_THRESHOLD = re.compile(r"(fr|auc)_([01]\.\d\d)(_ci95)?")
_FIGURES = TypeAdapter(dict[str, Percent | None])
_INTERVALS = TypeAdapter(dict[str, tuple[Percent, Percent] | None])


class AtThreshold(BaseModel):
    """Failure rate and AUC at one threshold."""

    fr: Percent | None
    fr_ci95: tuple[Percent, Percent] | None
    auc: Percent | None
    auc_ci95: tuple[Percent, Percent] | None


class Metrics(BaseModel):
    """One subset's entry of metrics.json; what its n does not define is None.

    at: by threshold as metrics.json writes it ("0.08", a fraction of the normaliser), ascending; its keys there are
    fr_0.08, fr_0.08_ci95, auc_0.08 and auc_0.08_ci95.
    """

    n: Annotated[int, Field(ge=0)]
    nme: Error | None
    nme_ci95: tuple[Error, Error] | None
    at: dict[str, AtThreshold]
    nme_mean_shape: Error | None = None  # the mean-shape baseline

    @model_validator(mode="before")
    @classmethod
    def _gather_thresholds(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        matches = {key: match for key in content if (match := _AT_THRESHOLD.fullmatch(key))}
        # validated here, so that a fault is reported under the file's own key
        figures = _FIGURES.validate_python({key: content[key] for key, match in matches.items() if not match[3]})
        intervals = _INTERVALS.validate_python({key: content[key] for key, match in matches.items() if match[3]})
        at: dict[str, dict] = {}
        for threshold in sorted({match[2] for match in matches.values()}):
            keys = {f"{name}{end}": f"{name}_{threshold}{end}" for name in ("fr", "auc") for end in ("", "_ci95")}
            missing = [key for key in keys.values() if key not in matches]
            if missing:
                raise ValueError(f"{', '.join(missing)}: missing")
            at[threshold] = {field: (figures | intervals)[key] for field, key in keys.items()}
        if not at:
            raise ValueError("FR and AUC at no threshold (fr_0.08, auc_0.08, …): missing")
        return {**content, "at": at}


class Mean(BaseModel):
    """A mean error and its interval."""

    nme: Error | None
    ci95: tuple[Error, Error] | None


class Bin(Mean):
    """The n faces between two values of a condition."""

    low: float
    high: float | None  # None: no limit
    n: int


class Averages(BaseModel):
    """By one normaliser, over the n faces that have it; see breakdown.averages. None where there are none."""

    n: int | None = None  # None: not recorded, all faces
    faces: Error | None
    visible: Error | None
    pooled: Error | None


class ReliabilityBin(BaseModel):
    n: int
    score: float
    error: Error | None
    median: Error | None


class Calibration(BaseModel):
    rank_correlation_faces: float | None
    rank_correlation_landmarks: float | None
    reliability: list[ReliabilityBin]
    rejected: list[Share]  # of the faces, lowest confidence first …
    nme_left: list[Error | None]  # … and the NME of the others
    nme_left_at_best: list[Error | None]  # the same, worst faces first

    @model_validator(mode="after")
    def _one_value_for_each_share(self) -> "Calibration":
        if not len(self.rejected) == len(self.nme_left) == len(self.nme_left_at_best):
            raise ValueError("rejected, nme_left and nme_left_at_best differ in their length")
        return self


class Perturbation(Mean):
    by: int  # percent of the box's side


class Robustness(BaseModel):
    shift: list[Perturbation]
    scale: list[Perturbation]
    mean: Mean  # over all perturbations of the face box


class ExpectedBin(BaseModel):
    n: int
    expected: Error
    error: Error


class ExpectedErrors(BaseModel):
    """The expected error of landmarks against their error; see metrics.expected."""

    bins: list[ExpectedBin]
    covered: Share
    groups: dict[str, Share]


class DetectorErrors(BaseModel):
    """From a detector's boxes; see metrics.detected."""

    n: int
    found: int
    nme: Error | None
    ci95: tuple[Error, Error] | None
    annotated_boxes: Error | None
    difference: float | None
    difference_ci95: tuple[float, float] | None
    fr: dict[str, Percent]


class OutsideInput(BaseModel):
    landmarks: Share
    faces: int
    nme: Error | None


class Annotation(BaseModel):
    """Numbers of landmarks of the faces measured, of those that were predicted."""

    landmarks: int
    not_annotated: int
    hidden: int


class AgainstBaseline(BaseModel):
    """The model against the mean-shape baseline on the same faces; see remarks.against_baseline."""

    difference: float | None
    ci95: tuple[float, float] | None
    verdict: Literal["better", "not significantly better", "worse"]


class Details(BaseModel):
    """details.json: the error analysis of the whole test split; landmarks and groups are those that were predicted."""

    n: int
    normaliser: Normaliser
    without_prediction: list[str]
    averages: dict[str, Averages]  # by normaliser
    percentiles: dict[str, dict[str, Error | None]]  # per subset
    landmarks: list[Error | None]  # (K,)
    mean_face: list[tuple[float, float] | None]  # (K, 2) from the centre of the face box, in its sides
    groups: dict[str, Mean]
    group_sizes: dict[str, int]
    conditions: dict[str, list[Bin]]  # by yaw (degrees), side (px) and visible (share of the landmarks)
    robustness: Robustness | None
    detector: DetectorErrors | None = None  # None: no detector was run
    expected: ExpectedErrors | None = None  # None: the method expects no errors
    calibration: Calibration | None  # None: the method gives no scores
    outside_input: OutsideInput | None  # None: the method's input is not known
    annotation: Annotation | None = None  # None: not recorded
    left_out: list[str] = []  # faces of the test split that cannot be measured
    mean_shape: AgainstBaseline | None = None
