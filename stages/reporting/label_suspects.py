"""The page and the gallery of doubtful labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stages.data.crops import Crops, windows
from stages.data.geometry import apply, invert
from stages.metrics.moved_labels import Found
from stages.reporting.gallery import PLAIN, PLAIN_CONTEXT, TRUTH, encode
from stages.reporting.tables import NOTHING, difference, error, markdown_table, normaliser_name, share

COLOURS = ("#FF00A0", "#00D0FF", "#A0FF00", "#FF9000", "#B080FF")  # of the methods
RING = "#FFFF00"
SHOWN = 20  # suspects in the page's table
FACES = 24  # in the gallery, 4 to a sheet
CLOSE = 0.12  # of the crop's side: what is at least shown about a suspect


def sheets(crops: Crops, table: pd.DataFrame, points: Mapping[str, np.ndarray], truth: np.ndarray) -> dict[str, bytes]:
    """JPEGs by file name of the faces with the highest suspects: the face, and below it the part with its suspects.

    points: by method (N, K, 2), truth: (N, K, 2), image px. The number beside a landmark is its place in the table.
    """
    row = {face: i for i, face in enumerate(crops.faces.face_id)}
    faces = list(dict.fromkeys(table["face_id"]))[:FACES]
    pictures = {}
    for sheet, start in enumerate(range(0, len(faces), 4), 1):
        figure = Figure(figsize=(20, 10.7))
        for column, face in enumerate(faces[start : start + 4]):
            ranks = {int(k): int(i) + 1 for i, k in table.loc[table["face_id"] == face, "landmark"].items()}
            image, to_crop = _picture(crops, row[face])
            true, *predicted = (apply(to_crop, p[row[face]]) for p in (truth, *points.values()))
            about = np.concatenate([p[list(ranks)] for p in (true, *predicted)])
            for whole, bottom in ((True, 0.5), (False, 0.03)):
                axes = figure.add_axes((column / 4, bottom, 0.248, 0.455))
                axes.imshow(image)
                _draw(axes, true, predicted, ranks, large=not whole)
                _limit(axes, true if whole else about, len(image))
                if whole:
                    axes.set_title(
                        f"{face}\n{', '.join(f'{rank}: {k}' for k, rank in list(ranks.items())[:8])}", fontsize=9
                    )
        colours = [
            (TRUTH, "annotation"),
            *zip(COLOURS, points, strict=False),
            (RING, "suspect, place in the list: landmark"),
        ]
        handles = [
            Line2D([], [], ls="", marker="o", color=c, markeredgecolor="black", label=name) for c, name in colours
        ]
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=11)
        pictures[f"suspects-{sheet}.jpg"] = encode(figure)
    return pictures


def _picture(crops: Crops, row: int) -> tuple[np.ndarray, np.ndarray]:
    """A face's crop and image px → crop px; grey where no image is at hand."""
    if crops.size:
        return crops.images[row], invert(crops.to_image[row])
    plain = np.full((PLAIN, PLAIN, 3), 128, np.uint8)
    return plain, invert(windows(crops.faces.where(np.array([row])), PLAIN, PLAIN_CONTEXT)[0])


def _draw(
    axes: Axes, true: np.ndarray, predicted: Sequence[np.ndarray], ranks: Mapping[int, int], *, large: bool
) -> None:
    size = 6 if large else 3.5
    axes.plot(*true.T, "o", markersize=size, color=TRUTH, markeredgecolor="black", markeredgewidth=0.7)
    for points, colour in zip(predicted, COLOURS, strict=False):
        for k in ranks:
            axes.plot(*np.stack([true[k], points[k]]).T, color=colour, linewidth=1, alpha=0.8)
        axes.plot(*points.T, "o", markersize=0.7 * size, color=colour, markeredgewidth=0)
    for k, rank in ranks.items():
        axes.plot(*true[k], "o", markersize=3 * size, markerfacecolor="none", markeredgecolor=RING)
        if large:
            axes.annotate(f"{rank}: {k}", true[k], (8, 8), textcoords="offset points", color=RING, clip_on=True)


def _limit(axes: Axes, points: np.ndarray, side: int) -> None:
    """A square about what is to be seen."""
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    middle, reach = (low + high) / 2, max((high - low).max() * 0.6, CLOSE * side)
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
    axes.set_axis_off()


def page(
    dataset: str, title: str, normaliser: str, table: pd.DataFrame, labels: int, false_alarms: float,
    kinds: Mapping[str, str], found: Sequence[Found], nmes: Mapping[str, Sequence], pictures: Sequence[str],
    gallery: Path,
) -> str:  # fmt: skip
    """kinds: the method that votes, by kind. nmes: by method the NME of all labels and without the suspects, each with
    its interval. pictures: those beside the page; gallery: where all are."""
    name = normaliser_name(normaliser)
    voters = ", ".join(f"{method} ({kind})" for kind, method in kinds.items())
    limit = f" ≥ {table['score'].min():.2f}" if len(table) else ""
    agree = (
        f"{voters} agree with each other and not with the annotation. At most {share(false_alarms)} of them are "
        f"expected to be false alarms (score{limit}): right labels, if the errors that the methods share have the tail "
        "of those that they do not share. Methods that learned from the same annotators can err alike, so look"
        if len(kinds) > 1
        else f"{voters}, trained without these faces, is far from the annotation, farther than its residuals usually "
        f"reach (score{limit}; a smooth tail would have {share(false_alarms)} of them). One method cannot tell whether "
        "the annotation is wrong or itself: a weak one has such a list where all labels are right. So look"
    )
    parts = [
        f"# Doubtful labels of {title}",
        f"{len(table)} of {labels} annotated landmarks, on {table['face_id'].nunique()} faces, are doubtful: {agree} "
        "before correcting.",
        f"The list is [{dataset}.csv]({dataset}.csv), distance and spread of the methods in percent of {name}. "
        f"Pictures are in `{gallery}`.",
        *(f"![suspects]({picture})" for picture in pictures),
        "## The first suspects",
        "Expected false: of the list down to this row. Group: neighbours that were moved together.",
        _first_rows(table) if len(table) else "None.",
        "## How many wrong labels are found",
        f"Measured with {found[0].moved} labels moved on purpose, in random directions, among labels that are right by "
        "construction, with the same threshold.",
        markdown_table(
            (f"moved by, % of {name}", "found", "suspects that were not moved"),
            [
                (f"{f.by:g}", share(f.recall), NOTHING if np.isnan(f.false_alarms) else share(f.false_alarms))
                for f in found
            ],
        ),
        "## NME without the suspects",
        "A sensitivity figure, not a result: labels are left out where methods disagree with them, so it is lower for "
        "any method.",
        markdown_table(
            ("method", "NME [95 %]", "without suspects", "difference"),
            [
                (method, error(*nme), error(*without), difference(without[0] - nme[0]))
                for method, (nme, without) in nmes.items()
            ],
        ),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _first_rows(table: pd.DataFrame) -> str:
    header = ("", "face", "landmark", "distance, px", "%", "spread, %", "score", "expected false", "group")
    rows = [
        (
            place, row.face_id, f"{row.landmark} {row.part}".strip(), f"{row.distance_px:.1f}",
            f"{row.distance_percent:.1f}", f"{row.spread_percent:.1f}", f"{row.score:.2f}",
            share(row.expected_false_share, 1), row.group,
        )
        for place, row in enumerate(table.head(SHOWN).itertuples(), 1)
    ]  # fmt: skip
    return markdown_table(header, rows, 3)
