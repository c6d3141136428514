"""What the explorer's page knows of the faces, as JavaScript that it loads from disk (a page from disk cannot fetch).

data/summary.js has all that the grid is sorted and filtered by. data/truth.js and data/<number>.js have the coordinates
of the annotation and of each method, K·2 whole numbers a face, in hundredths of a window px, and the errors that a
method expects, K a face, in hundredths of a percent. Errors are in percent of the dataset's normaliser, Infinity
without a prediction and NaN where nothing can be measured: both are JavaScript.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from stages.data.nme import normalisers
from stages.data.scheme import DatasetScheme
from stages.exploring.methods import Method
from stages.exploring.pictures import COLUMNS, THUMB, thumb_window
from stages.exploring.windows import Windows
from stages.metrics.breakdown import yaw
from stages.reporting.experiment_page import NORMALISERS

STEPS = 100  # in a px or a percent: a step is less than a hundredth of a percent of the eyes' distance


def _rounded(values: np.ndarray, digits: int) -> list[float]:
    return np.round(np.asarray(values, float), digits).tolist()


def summary(
    title: str, dataset: str, scheme: DatasetScheme, threshold: float, shown: Windows, methods: Sequence[Method],
    colours: Mapping[str, str], suspects: Mapping[int, Sequence[Sequence[float]]] | None,
) -> dict:  # fmt: skip
    """The content of data/summary.js. threshold: the NME above which a face is a failure, in percent."""
    faces = shown.faces
    subsets = sorted({name for names in faces.subsets for name in names})
    degrees = yaw(faces.landmarks, scheme.groups, scheme.flip_pairs)
    normaliser = normalisers(faces.landmarks, faces.side, scheme.normalisers())[scheme.normaliser]
    first, side = thumb_window(shown.size, shown.context)
    hidden = faces.annotated & ~faces.visible
    return {
        "title": title, "dataset": dataset, "scheme": scheme.scheme, "landmarks": scheme.count,
        "groups": scheme.groups, "normaliser": NORMALISERS[scheme.normaliser], "threshold": threshold,
        "steps": STEPS, "size": shown.size, "pictures": shown.images is not None,
        "thumb": {"first": first, "side": side, "px": THUMB, "columns": COLUMNS},
        "subsets": subsets,
        "faces": {
            "id": list(faces.face_id), "image": list(faces.image),
            "subsets": [[subsets.index(name) for name in sorted(names)] for names in faces.subsets],
            "yaw": None if degrees is None else _rounded(degrees, 1),
            "side": _rounded(faces.side, 1),
            "scale": _rounded(shown.scale, 6), "normaliser": _rounded(normaliser, 3),
        },
        "hidden": {int(i): np.flatnonzero(hidden[i]).tolist() for i in np.flatnonzero(hidden.any(1))},
        "methods": [
            {
                "name": method.name, "colour": colours[method.name], "landmarks": method.landmarks,
                "nme": _rounded(method.nme, 4), "means": _rounded(method.means, 4),
                "groups": {name: _rounded(errors, 2) for name, errors in method.groups.items()},
            }
            for method in methods
        ],
        "suspects": suspects,
    }  # fmt: skip


def summary_script(content: Mapping) -> str:
    return f"window.EXPLORER = {json.dumps(content, separators=(',', ':'))};\n"


def _whole(values: np.ndarray) -> list[int | None]:
    """`values` in hundredths, one after another; None for NaN."""
    steps = np.rint(STEPS * np.asarray(values)).ravel()
    known = np.isfinite(steps)
    numbers = np.where(known, steps, 0).astype(np.int64).tolist()
    if known.all():
        return numbers
    return [number if present else None for number, present in zip(numbers, known.tolist(), strict=True)]


def points_script(name: str, points: np.ndarray, shown: Windows, expected: np.ndarray | None = None) -> str:
    """Coordinates (N, K, 2), image px, and expected errors (N, K) as a script that gives them to the page."""
    values = [_whole(shown.to_window(points))] + ([] if expected is None else [_whole(expected)])
    # JSON.parse is several times faster than a literal of half a million numbers
    lists = ", ".join(f"JSON.parse('{json.dumps(numbers, separators=(',', ':'))}')" for numbers in values)
    return f"window.EXPLORER.receive({json.dumps(name)}, {lists});\n"
