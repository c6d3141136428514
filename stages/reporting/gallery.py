"""Galleries: pictures of faces with their true and predicted landmarks.

`evaluate` draws them, since they need the dataset's pictures. This module imports nothing else of this package, so a
change elsewhere in it evaluates nothing again.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox, TransformedBbox

from stages.data.crops import Crops, windows
from stages.data.geometry import apply, invert

TRUTH, PREDICTED = "#FFFFFF", "#FF00A0"  # on photographs: neither is a colour of skin or lips
COLUMNS, CELL = 4, 2.4  # faces in a row, and inches of each
PLAIN, PLAIN_CONTEXT = 256, 1.6  # px and face boxes of a face without an image


def gallery(crops: Crops, chosen: Sequence[tuple[int, str]], predicted: np.ndarray, truth: np.ndarray) -> bytes:
    """A JPEG of the `chosen` (row, caption) of `crops`; predicted, truth: (N, K, 2) image px of all its faces."""
    rows = [row for row, _ in chosen]
    to_image, images = crops.to_image[rows], np.stack([crops.images[row] for row in rows])
    if not crops.size:  # no image is at hand: landmarks alone
        images = np.full((len(rows), PLAIN, PLAIN, 3), 208, np.uint8)
        to_image = windows(crops.faces.where(np.array(rows)), PLAIN, PLAIN_CONTEXT)
    to_crop = invert(to_image)
    points = (apply(to_crop, landmarks[rows]) for landmarks in (predicted, truth))
    return encode(gallery_figure(images, *points, [caption for _, caption in chosen]))


def encode(figure: Figure) -> bytes:
    """The figure as a JPEG, the same bytes whenever it is drawn again."""
    file = io.BytesIO()  # no chroma subsampling, since the dots are small
    figure.savefig(file, format="jpg", dpi=110, pil_kwargs={"quality": 85, "subsampling": 0})
    return file.getvalue()


def gallery_figure(images: np.ndarray, predicted: np.ndarray, truth: np.ndarray, captions: Sequence[str]) -> Figure:
    """Faces four in a row, each with its true and its predicted landmarks and a line from one to the other.

    images: (M, h, w, 3) uint8 RGB. predicted, truth: (M, K, 2) px of these images, pixel centres at integers.
    captions: M short texts, shown above the faces.
    """
    size = np.array(images.shape[2:0:-1])  # width, height
    rows = -(-len(images) // COLUMNS)
    face = CELL * size[1] / size[0]  # inches high
    row, foot = face + 0.24, 0.32  # with its caption; the legend below all
    width, height = COLUMNS * CELL, rows * row + foot
    figure = Figure(figsize=(width, height))
    # One pair of axes in inches for all faces: drawing a pair for each would take most of the time of an evaluation
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for i, (image, points, true, caption) in enumerate(zip(images, predicted, truth, captions, strict=True)):
        low = np.array([i % COLUMNS * CELL, foot + (rows - 1 - i // COLUMNS) * row])
        high = low + (CELL - 0.04, face - 0.04)

        def in_inches(px: np.ndarray, low=low, high=high) -> np.ndarray:
            share = (px + 0.5) / size
            return np.stack([low[0] + share[:, 0] * (high - low)[0], high[1] - share[:, 1] * (high - low)[1]], 1)

        points, true = in_inches(points), in_inches(true)
        axes.imshow(image, extent=(low[0], high[0], low[1], high[1]), aspect="auto", interpolation="antialiased")
        gaps = np.full_like(true, np.nan)  # one line with gaps is drawn many times faster than one for each landmark
        lines = np.stack([true, points, gaps], 1).reshape(-1, 2)
        artists = axes.plot(*lines.T, color=PREDICTED, linewidth=0.6, alpha=0.8)
        artists += axes.plot(*true.T, "o", markersize=2.6, color=TRUTH, markeredgecolor="black", markeredgewidth=0.4)
        artists += axes.plot(*points.T, "o", markersize=2.0, color=PREDICTED, markeredgewidth=0)
        for artist in artists:  # a point outside its image does not show on another one
            artist.set_clip_box(TransformedBbox(Bbox([low, high]), axes.transData))
        axes.text((low + high)[0] / 2, high[1] + 0.045, caption, fontsize=9, ha="center")
    axes.set(xlim=(0, width), ylim=(0, height))  # which the images have changed
    markers = [
        Line2D([], [], linestyle="", marker="o", markersize=6, color=TRUTH, markeredgecolor="black", label="truth"),
        Line2D([], [], linestyle="", marker="o", markersize=5, color=PREDICTED, label="prediction"),
    ]
    figure.legend(handles=markers, loc="lower center", ncols=2, frameon=False, fontsize=9, borderaxespad=0.2)
    return figure
