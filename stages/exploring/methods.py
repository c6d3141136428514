"""The methods that have predictions of a dataset's test faces, their errors and their colours.

Symbols: N faces, K landmarks that a method predicts, which may be fewer than the dataset's.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from stages.data.faces import Faces
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme
from stages.metrics.breakdown import known_mean, landmark_errors
from stages.metrics.details import group_columns
from stages.metrics.results import Result
from stages.predictions.table import Predictions, read_made, read_predictions
from stages.reporting.ced_figures import section_styles
from stages.reporting.entries import group
from stages.reporting.figures import PALETTE
from stages.reporting.results_page import section_key
from stages.system.errors import InputError

GOLDEN_ANGLE = 0.381966  # of a turn: hues that many steps apart never come close soon


@dataclass(frozen=True)
class Method:
    """Predictions of all N faces and their errors in percent of the dataset's normaliser.

    landmarks: the dataset's landmarks that the K predicted ones are. points: (N, K, 2) image px, NaN where there is
    none. nme: (N,), ∞ without a prediction, NaN for a face that cannot be measured. means: (K,) the mean error of each
    landmark over the faces that have it predicted and annotated. groups: (N,) the mean error of the face's landmarks of
    each group. expected: (N, K) the errors that the method itself expects; None where it says none.
    """

    name: str
    landmarks: list[int]
    points: np.ndarray
    nme: np.ndarray
    means: np.ndarray
    groups: Mapping[str, np.ndarray]
    expected: np.ndarray | None


def measure(name: str, predictions: Predictions, scheme: DatasetScheme) -> Method:
    """The errors of a table of predictions that says how it was made."""
    faces, points, truth, landmarks = (
        predictions.faces,
        predictions.points,
        predictions.truth,
        predictions.made.landmarks,
    )
    normaliser = normalisers(faces.landmarks, faces.side, scheme.normalisers())[scheme.normaliser]
    errors = landmark_errors(points, truth, normaliser)
    columns = group_columns(scheme.groups, landmarks)
    return Method(
        name, landmarks, points, 100 * face_errors(points, truth, normaliser),
        means=known_mean(np.where(np.isfinite(errors), errors, np.nan), 0),
        groups={group: known_mean(errors[:, members], 1) for group, members in columns.items()},
        expected=None if predictions.expected is None else 100 * predictions.expected / normaliser[:, None],
    )  # fmt: skip


def read_methods(
    folder: Path, dataset: str, faces: Faces, scheme: DatasetScheme
) -> tuple[list[Method], dict[str, str]]:
    """The methods of <folder>/*.parquet that are of this dataset, lowest NME first; by name why others are left out:
    files that are damaged, or of other faces than these."""
    methods, unread = [], {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            if read_made(path).dataset == dataset:
                methods.append(measure(path.stem, read_predictions(path, faces), scheme))
        except InputError as error:
            unread[path.stem] = str(error)

    return sorted(methods, key=lambda method: np.nan_to_num(known_mean(method.nme), nan=np.inf)), unread


def colours(names: Sequence[str], results: Sequence[Result]) -> dict[str, str]:
    """A colour for each method, no two alike: that which the report's figures give it, where they give it one alone."""
    made = sorted((result for result in results if not result.is_cross_dataset), key=section_key)
    sections = {key: group(list(members)) for key, members in groupby(made, section_key)}
    styles = section_styles(sections)
    reported = {
        result.name: styles[key][entry.name][0]
        for key, entries in sections.items() for entry in entries for result in entry.results
    }  # fmt: skip
    chosen: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name not in reported, name)):
        free = [colour for colour in PALETTE if colour not in chosen.values()]
        wanted = reported.get(name)
        chosen[name] = wanted if wanted in free else (free[0] if free else _further(len(chosen)))
    return chosen


def _further(i: int) -> str:
    """A colour beyond the palette."""
    red, green, blue = colorsys.hls_to_rgb(i * GOLDEN_ANGLE % 1, 0.45, 0.8)
    return "#" + "".join(f"{round(255 * part):02X}" for part in (red, green, blue))
