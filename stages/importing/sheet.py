"""The contact sheet: some faces with numbered landmarks, and the mean face with its pairs, for a person to approve."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.data.faces import Faces
from stages.data.geometry import flip_order, landmark_box
from stages.sources.images.reading import read_image
from stages.system.files import atomic

TILE, COLUMNS, FACES = 780, 3, 5  # px; the mean face is the sixth
MARGIN = 1.25  # the tile's side in sides of the landmarks' box
LEFT, RIGHT, MIDDLE, PAPER = (255, 166, 77), (77, 210, 255), (255, 255, 255), (24, 24, 24)


def choose(faces: Faces) -> list[int]:
    """Rows of faces with most landmarks annotated and large enough to see, evenly over the dataset; one an image."""
    number, size = faces.annotated.sum(1), landmark_box(faces.landmarks)[1]
    good = np.flatnonzero((number >= np.median(number)) & (size >= np.median(size)))
    _, first = np.unique([faces.image[i] for i in good], return_index=True)
    good = good[np.sort(first)]
    return [int(good[i]) for i in np.unique(np.linspace(0, len(good) - 1, FACES).round().astype(int))]


def draw(
    faces: Faces, rows: Sequence[int], images: Path, orientation: str, pairs: Sequence[Sequence[int]], mean: np.ndarray
) -> Image.Image:
    """The sheet of the faces in `rows`; mean: (K,) complex.

    Orange is the left of a pair in the image, blue the right, white a landmark in no pair.
    """
    count = faces.landmarks.shape[1]
    order = flip_order(pairs, count)
    colours = [MIDDLE if k == j else LEFT if mean[k].real < mean[j].real else RIGHT for k, j in enumerate(order)]
    tiles = [_mean_face(mean, pairs, colours)]
    for row in rows:
        tiles.append(_face(read_image(images / faces.image[row], orientation), faces, row, colours))
    height = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (TILE * min(COLUMNS, len(tiles)), TILE * height), PAPER)
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (TILE * (i % COLUMNS), TILE * (i // COLUMNS)))
    return sheet


def write(sheet: Image.Image, path: Path) -> None:
    with atomic(path) as temporary:
        sheet.save(temporary, format="JPEG", quality=88)


def _face(pixels: np.ndarray, faces: Faces, row: int, colours: Sequence) -> Image.Image:
    """A face cut out of its image, with its landmarks; a hollow dot is a hidden one."""
    points = faces.landmarks[row]
    center, side = (value[0] for value in landmark_box(points[None]))
    reach = max(side, 1) * MARGIN / 2
    corner = center - reach
    window = (corner[0], corner[1], corner[0] + 2 * reach, corner[1] + 2 * reach)
    tile = Image.fromarray(pixels).transform((TILE, TILE), Image.Transform.EXTENT, window, Image.Resampling.BICUBIC)
    tile = tile.point(lambda value: int(value * 0.72))  # darker, for the numbers
    _marks(tile, (points - corner + 0.5) * TILE / (2 * reach), colours, faces.visible[row])
    return _captioned(tile, faces.image[row])


def _mean_face(mean: np.ndarray, pairs: Sequence[Sequence[int]], colours: Sequence) -> Image.Image:
    """The mean face with a line between the landmarks of each pair."""
    points = np.stack([mean.real, mean.imag], -1)
    known = np.isfinite(points).all(1)
    low, high = (points[known].min(0), points[known].max(0)) if known.any() else (np.zeros(2), np.ones(2))
    points = (points - (low + high) / 2) * TILE / (max((high - low).max(), 1e-6) * MARGIN) + TILE / 2
    tile = Image.new("RGB", (TILE, TILE), PAPER)
    pencil = ImageDraw.Draw(tile)
    for a, b in pairs:
        if known[a] and known[b]:
            pencil.line([tuple(points[a]), tuple(points[b])], fill=(90, 90, 90), width=1)
    _marks(tile, points, colours, known)
    return _captioned(tile, "mean face: a line joins the landmarks that swap in a mirror")


def _marks(tile: Image.Image, points: np.ndarray, colours: Sequence, visible: np.ndarray) -> None:
    """Dots and numbers; a number is on the side of its dot where it has most room."""
    pencil = ImageDraw.Draw(tile)
    size = 22 if len(points) <= 30 else 17 if len(points) <= 70 else 14
    font, radius = ImageFont.load_default(size), 4 if len(points) <= 70 else 3
    known = np.flatnonzero(np.isfinite(points).all(1))
    taken = points[known]
    for k in known:
        x, y = points[k]
        box = (x - radius, y - radius, x + radius, y + radius)
        pencil.ellipse(box, fill=colours[k] if visible[k] else None, outline=colours[k], width=2)
    for k in known:
        text = str(k)
        half = np.array([pencil.textlength(text, font) / 2, size / 2])
        around = [points[k] + (half + radius + 1) * (np.cos(a), np.sin(a)) for a in np.arange(16) * np.pi / 8]
        around = [place for place in around if (place > half).all() and (place < TILE - half).all()] or around
        place = max(around, key=lambda place: _room(place, taken, half))
        taken = np.concatenate([taken, place[None]])
        pencil.text(tuple(place), text, fill=colours[k], font=font, anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0))


def _room(place: np.ndarray, taken: np.ndarray, half: np.ndarray) -> float:
    """How far, in half sizes of the text, the nearest dots and numbers are."""
    apart = np.sort(np.abs((taken - place) / half).max(1))[:4]
    return float(np.minimum(apart, 3) @ (8, 4, 2, 1)[: len(apart)])


def _captioned(tile: Image.Image, text: str) -> Image.Image:
    pencil, font = ImageDraw.Draw(tile), ImageFont.load_default(18)
    text = text if len(text) <= 70 else f"…{text[-69:]}"
    pencil.rectangle((0, TILE - 28, TILE, TILE), fill=(0, 0, 0))
    pencil.text((8, TILE - 24), text, fill=MIDDLE, font=font)
    return tile
