"""The page of one set of predictions, reports/pages/<name>.md: of an experiment, a cross-dataset evaluation or a
submission."""

from collections.abc import Collection, Sequence

from stages.metrics.remarks import CAUSES, remarks
from stages.metrics.results import REMEDY, Result
from stages.metrics.schema import Details
from stages.reporting import experiment_facts
from stages.reporting.page_tables import (
    NORMALISERS,
    landmark_index,
    normaliser_table,
    risk_coverage_table,
    subset_table,
)
from stages.reporting.tables import (
    at,
    at_threshold,
    correlation,
    difference,
    error,
    folded,
    mean_error,
    nme,
    share,
)

FIGURES = {
    "landmarks": "Error by landmark and group",
    "numbers": "The number of every landmark",
    "conditions": "Error by yaw, size and visibility",
    "calibration": "Reliability curve and risk–coverage curve",
    "expected": "Expected error against error, and coverage of the 90 % bound by group",
    "robustness": "Error by perturbation of the face box",
    "training": "Training loss, validation NME and learning rate",
}
PICTURES = {
    "faces.jpg": "Random, best and worst faces",
    "failures.jpg": "The twelve worst faces, and twelve about the median",
}
LISTED = 20  # faces without a prediction

AVERAGES = """\
*Faces*: the mean over a face's landmarks, then over faces. {count}
*Visible*: the mean over the visible landmarks of all faces. *Pooled*: the sum of the faces' mean distances over that of
their normalisers, both in px, so that large faces have more weight. Figures in different rows or columns do not
compare; published ones are means of faces unless they say otherwise.
"""
COUNT = {
    True: "Every face has the same number of landmarks, so this is also\nthe mean over all landmarks of all faces.",
    False: "Faces differ in their number of annotated landmarks,\nand each face counts alike.",
}
YAW = """\
The yaw of the head is estimated from the true landmarks: it is that of the orthographic camera that maps a mean face's
eyes, nose and mouth to those of the face{partly}.
"""
VISIBLE = {
    True: "*Landmarks visible*: the share that the dataset does not mark as occluded.\n",
    False: "The dataset marks no landmark as occluded, so there is no analysis of occlusion.\n",
}
PERTURBED = """\
In use, boxes come from a face detector; these come from the annotation. Each face's box is shifted in a direction of
its own and in the opposite one, by 5, 10 and 15 % of its side, or scaled by 10 and 20 % down and up about its centre.
"""
EXPECTED = """\
The expected error of a landmark follows from the height and the width of its heat map's peak, by a fit on the
validation split. Left: landmarks in tenths by their expected error. Right: the share of errors below a bound that holds
for 90 % of the validation errors; here it holds for {covered} of all.
"""
DETECTOR = """\
YuNet's boxes, mapped to face boxes by what was fitted on the training faces: {found} of {n} test faces are found. On
these, NME {nme} %, and {annotated} % from the annotated boxes; paired difference {difference}. Faces that are not found
are failures: {rates} % of all faces.
"""
CONFIDENCE = """\
The score of a landmark is the peak of its heat map; the confidence of a face is the mean of its landmarks' scores.
Spearman ρ has its sign turned: 1 where the confidence ranks the errors perfectly, 0 where the two are unrelated.
"""


def introduction(result: Result) -> str:
    made, details = result.provenance, result.details
    if made.submission:
        subject = f"Predictions of {made.submission.title} on dataset {made.dataset}"
    elif result.is_experiment:
        subject = f"Dataset {made.dataset}, recipe {made.recipe}, protocol {made.protocol}"
    else:
        # its training was read where the experiment has results, and so a page
        model = made.experiment if result.training is None else f"[{made.experiment}]({made.experiment}.md)"
        subject = (
            f"Cross-dataset evaluation: the model of {model} (trained on {made.trained_on}) on {made.dataset}, by "
            f"{len(made.landmarks)} of {made.landmark_count} landmarks,\nprotocol {made.protocol}"
        )
    return (
        f"# {result.name}\n\n{subject}, {details.n} test faces.\n"
        f"Where no other normaliser is named, figures are percentages of this one: {NORMALISERS[made.normaliser]}.\n"
        "Brackets are 95 % intervals. All results: [results](../results.md).\n"
        "`python -m stages.report` makes this page; do not edit it.\n"
    )


def missing_predictions(details: Details) -> str:
    missing = details.without_prediction
    if not missing:
        return ""
    more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
    subject = "1 face has no prediction and counts" if len(missing) == 1 else (
        f"{len(missing)} faces have no prediction and count"
    )  # fmt: skip
    return f"{subject} as a failure: {', '.join(missing[:LISTED])}{more}.\n"


def outside_input(details: Details) -> str:
    outside = details.outside_input
    if outside is None:
        return ""
    error = f"; their mean error is {mean_error(outside.nme)} %" if outside.landmarks else ""
    return (
        f"{share(outside.landmarks, 2)} of the landmarks, of {outside.faces} faces, are outside the model's input"
        f"{error}.\n"
    )


def detector(details: Details) -> str:
    """The error from detected boxes, beside that from annotated ones on the same faces."""
    measured = details.detector
    if measured.nme is None:
        return f"The detector found none of the {measured.n} faces.\n"
    rates = ", ".join(f"{at_threshold('fr', t)} {at('fr', rate)}" for t, rate in measured.fr.items())
    return DETECTOR.format(
        found=measured.found, n=measured.n, nme=mean_error(measured.nme, measured.ci95),
        annotated=error(measured.annotated_boxes), difference=difference(measured.difference, measured.difference_ci95),
        rates=rates,
    )  # fmt: skip


def yaw(details: Details) -> str:
    """How it is estimated, and for how many faces where not for all."""
    if "yaw" not in details.conditions:
        return ""
    n = sum(bin.n for bin in details.conditions["yaw"])
    partly = f", for the {n} of {details.n} faces that have all of these annotated"
    return YAW.format(partly=partly if n < details.n else "")


def annotation(details: Details) -> str:
    """How many landmarks are not annotated or hidden, where there are any."""
    counts, parts = details.annotation, []
    if counts and counts.not_annotated:
        parts.append(
            f"{counts.not_annotated} {'is' if counts.not_annotated == 1 else 'are'} not annotated, so not measured"
        )
    if counts and counts.hidden:
        parts.append(f"{counts.hidden} {'is' if counts.hidden == 1 else 'are'} marked as hidden")
    return f"Of the {counts.landmarks} landmarks of the test faces, {', and '.join(parts)}.\n" if parts else ""


def damaged(name: str, faults: Sequence[str]) -> str:
    """The page of results that are not shown."""
    listed = "\n".join(f"- {fault}" for fault in faults)
    return (
        f"# {name}\n\nThese results are damaged or contradict each other, so their figures are shown nowhere:\n\n"
        f"{listed}\n\nA file was edited, is incomplete, or is of another run.\n{REMEDY.replace('<name>', name)}\n"
        "All results: [results](../results.md).\n"
    )


def training(result: Result) -> str:
    """The epoch that was kept."""
    checkpoint, epochs = result.training.checkpoint, result.training.epochs
    val = "" if checkpoint.val_nme is None else f", with a validation NME of {error(checkpoint.val_nme)} %"
    return f"The checkpoint is that of epoch {checkpoint.epoch} of {epochs}{val}.\n"


def mean_shape(details: Details) -> str:
    """The model against the mean-shape baseline, where that was recorded."""
    if details.mean_shape is None or details.mean_shape.difference is None:
        return ""
    compared = details.mean_shape
    return (
        "*Mean shape*: the NME of predicting the mean shape of the training faces in every face box. The model's "
        f"difference\nfrom it is {difference(compared.difference, compared.ci95)}: {compared.verdict}.\n"
    )


def render(result: Result, figures: Collection[str]) -> str:
    """The page; figures: the names of those that were drawn of it."""
    details, calibration, folder = result.details, result.details.calibration, f"../figures/{result.name}"
    figure = {name: f"![{FIGURES[name]}]({folder}/{name}.png)\n" for name in figures}
    picture = {
        name: f"![{caption}](../experiments/{result.name}/pictures/{name})\n"
        for name, caption in PICTURES.items()
        if name in result.pictures
    }
    parts = [
        introduction(result),
        *(f"**Note**: {remark}.\n" for remark in remarks(result)),
        CAUSES + "\n" if any("mean-shape" in remark for remark in remarks(result)) else "",
        experiment_facts.section(result),
        "## Errors\n",
        subset_table(result.metrics, details.percentiles),
        "P50 is the median face; 90 % of the faces have an error of at most P90, and so on.\n",
        mean_shape(details),
        "## Normalisers and averages\n",
        normaliser_table(details.averages, details.normaliser),
        AVERAGES.format(count=COUNT[not (details.annotation and details.annotation.not_annotated)]),
        "## Error analysis\n",
        figure["landmarks"],
        folded(
            "All landmarks by number",
            f"{figure['numbers']}\n{landmark_index(details, result.provenance.landmarks)}",
        ),
    ]
    if "conditions" in figure:
        parts += [
            figure["conditions"],
            yaw(details),
            VISIBLE["visible" in details.conditions],
        ]
    parts += [annotation(details), outside_input(details), missing_predictions(details)]
    if calibration:
        faces, landmarks = (
            correlation(rho) for rho in (calibration.rank_correlation_faces, calibration.rank_correlation_landmarks)
        )
        parts += ["## Confidence and error (risk–coverage)\n", figure["calibration"], CONFIDENCE,
                  risk_coverage_table(calibration),
                  f"Spearman ρ (confidence, error): {faces} over faces, {landmarks} over landmarks.\n"]  # fmt: skip
    if "expected" in figure:
        parts += [
            "## Expected error\n",
            figure["expected"],
            EXPECTED.format(covered=share(details.expected.covered, 1)),
        ]
    if "robustness" in figure:
        mean = details.robustness.mean
        perturbed = mean_error(mean.nme, mean.ci95)
        parts += [
            "## Robustness to perturbed boxes\n",
            figure["robustness"],
            PERTURBED,
            f"NME, perturbed boxes: {perturbed} %; with the boxes as they are {nme(result.metrics['test'])} %.\n",
        ]
    if details.detector:
        parts += ["## From a detector's face boxes\n", detector(details)]
    if "faces.jpg" in picture:
        parts += ["## Faces\n", picture["faces.jpg"]]
    if "failures.jpg" in picture:
        parts += ["## Failure cases: twelve worst and twelve median faces\n", picture["failures.jpg"]]
    if "training" in figure:
        parts += ["## Training\n", figure["training"], training(result)]
    return "\n".join(part for part in parts if part)
