"""The page of one experiment, reports/experiments/<experiment>/README.md: what metrics.json and details.json tell."""

from collections.abc import Mapping

from stages.measure.breakdown import PERCENTILES
from stages.measure.cells import NOTHING, decimals, nme, number, table, with_interval
from stages.measure.results import Metrics, Provenance

NAMES = {
    "inter_ocular": "inter-ocular distance (outer eye corners)", "inter_pupil": "inter-pupil distance (eye centres)",
    "box_side": "side of the face box", "box_sqrt": "√(w·h) of the landmarks' bounding box",
    "box_diagonal": "diagonal of the landmarks' bounding box",
}  # fmt: skip
LISTED = 20  # faces without a prediction

AVERAGES = """\
*Faces*: the mean over a face's landmarks, then over faces. Every face has the same number of landmarks, so this is also
the mean over all landmarks of all faces. *Visible*: the mean over the visible landmarks of all faces. *Pooled*: the sum
of all distances over the sum of all normalisers, both in px, so that large faces weigh more. Figures in different rows
or columns do not compare; published ones are means of faces unless they say otherwise.
"""
CONDITIONS = """\
The turn of the head is estimated from the true landmarks: it is that of the orthographic camera which takes a mean
face's eyes, nose and mouth to those of the face.
"""
VISIBLE = {
    True: "*Landmarks visible*: the share that the data set does not mark as hidden.\n",
    False: "The data set marks no landmark as hidden, so nothing is told of occlusion.\n",
}
ROBUSTNESS = """\
Real boxes come from a face detector, these from the annotation. Each face's box is shifted in a direction of its own
and in the opposite one, by 5, 10 and 15 % of its side, or made 10 and 20 % smaller and larger about its middle.
"""
CALIBRATION = """\
The score is the peak of a landmark's heat map; a face's is the mean of its landmarks'. A rank correlation of 1 would
mean that the score puts the errors in their order, 0 that it says nothing of them.
"""


def plain(value: float | None, places: int = 2) -> str:
    """A figure that a face without a prediction makes infinite."""
    return "∞" if value is None else number(value, places)


def subsets(metrics: Mapping[str, Metrics], percentiles: Mapping[str, Mapping[str, float]]) -> str:
    rows = []
    for name, entry in metrics.items():
        places = decimals(entry.nme_ci95)
        found = percentiles.get(name) or {}
        cells = [plain(found[str(p)], places) if str(p) in found else NOTHING for p in PERCENTILES]
        rows.append((name, entry.n, nme(entry), *cells))
    return table(("subset", "n", "NME [95 %]", *(f"P{p}" for p in PERCENTILES)), rows)


def normalisers(averages: Mapping[str, Mapping[str, float]], official: str) -> str:
    rows = [
        (NAMES.get(name, name) + (" (official)" if name == official else ""), *(plain(each[k]) for k in
         ("faces", "visible", "pooled")))
        for name, each in averages.items()
    ]  # fmt: skip
    return table(("normaliser", "faces", "visible", "pooled"), rows)


def certain(found: Mapping) -> str:
    """The calibration in numbers."""
    left = dict(zip(found["rejected"], found["nme_left"], strict=True))
    best = dict(zip(found["rejected"], found["nme_left_at_best"], strict=True))
    correlations = [number(found[key], 2) for key in ("rank_correlation_faces", "rank_correlation_landmarks")]
    rows = [(f"{100 * share:.0f} %", plain(left[share]), plain(best[share])) for share in (0.0, 0.05, 0.1)]
    return (
        table(("faces put aside", "least certain first", "worst first (best possible)"), rows)
        + f"\nRank correlation of score and error: {correlations[0]} over faces, {correlations[1]} over landmarks.\n"
    )


def render(
    name: str, made: Provenance, metrics: Mapping[str, Metrics], details: Mapping, pictures: Mapping[str, str]
) -> str:
    """The page; pictures: what each figure shows by its file, of those that lie in the experiment's folder."""
    picture = {file: f"![{shown}]({file})\n" for file, shown in pictures.items()}
    outside = details["outside_input"]
    parts = [
        f"# {name}\n",
        f"Dataset {made.dataset}, recipe {made.recipe}, protocol {made.protocol}, {details['n']} test faces.\n"
        f"Where no other normaliser is named, figures are percentages of this one: {NAMES[made.normaliser]}.\n"
        "Brackets hold 95 % intervals. `dvc repro` makes this page; do not edit it. Others: "
        "[results](../../results.md).\n",
        "## Errors\n",
        subsets(metrics, details["percentiles"]),
        "P50 is the median face; 90 % of the faces have an error of at most P90, and so on.\n",
        "## Every normaliser, every average\n",
        normalisers(details["averages"], details["normaliser"]),
        AVERAGES,
        "## Where it fails\n",
        picture.get("details/landmarks.png", ""),
    ]  # fmt: skip
    if "details/conditions.png" in picture:
        told = [CONDITIONS] if "yaw" in details["conditions"] else []
        parts += [picture["details/conditions.png"], *told, VISIBLE["visible" in details["conditions"]]]
    parts.append(
        f"{100 * outside['landmarks']:.2f} % of the landmarks, of {outside['faces']} faces, lie outside of what the "
        "model is shown" + (f"; their mean error is {plain(outside['nme'])} %.\n" if outside["landmarks"] else ".\n")
    )
    lost = details["without_prediction"]
    if lost:
        more = f" and {len(lost) - LISTED} more" if len(lost) > LISTED else ""
        said = (
            "1 face has no prediction and counts"
            if len(lost) == 1
            else f"{len(lost)} faces have no prediction and count"
        )
        parts.append(f"{said} as a failure: {', '.join(lost[:LISTED])}{more}.\n")
    parts += ["## Does the score tell the error?\n", picture["details/calibration.png"], CALIBRATION,
              certain(details["calibration"])]  # fmt: skip
    if "details/robustness.png" in picture:
        mean, plain_box = details["robustness"]["mean"], metrics["test"]
        parts += ["## When the face box is off\n", picture["details/robustness.png"], ROBUSTNESS]
        off = with_interval(mean["nme"], mean["ci95"]) if mean["nme"] else "∞"
        parts.append(f"The mean over these boxes is {off} %, and {nme(plain_box)} % with the boxes as they are.\n")
    if "details/faces.jpg" in picture:
        parts += ["## Twelve worst and twelve median faces\n", picture["details/faces.jpg"]]
    return "\n".join(part for part in parts if part)
