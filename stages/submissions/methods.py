"""Run a method over a dataset's faces: a Python function, or a program that reads a table of faces.

Methods count pixels from 0, as arrays do: box and landmarks of an annotation that counts from 1 are moved by one.

Symbols: n faces of an image, K landmarks of the method.
"""

import csv
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stages.data.faces import Faces
from stages.sources.images import jpeg, png
from stages.sources.images.reading import orientation, read_bytes, read_image
from stages.submissions import reading
from stages.submissions.submission import Submission
from stages.system.errors import InputError

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray | tuple[np.ndarray, np.ndarray]]
CORNERS = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True)
class ImageFaces:
    """Faces and their images, grouped by image; iterating reads every image once.

    images: the folder that the faces' image names start from. orientation: config.dataset.Source.orientation. origin:
    what the annotation calls the centre of the first pixel, 0 or 1.
    """

    faces: Faces
    images: Path
    orientation: str
    origin: int

    def rows(self) -> dict[str, list[int]]:
        """The faces of every image, in the order of the table."""
        rows: dict[str, list[int]] = {}
        for row, image in enumerate(self.faces.image):
            rows.setdefault(image, []).append(row)
        return rows

    def __len__(self) -> int:
        """The number of images."""
        return len(self.rows())

    def read(self, image: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB"""
        return read_image(self.images / image, self.orientation)

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) x_min, y_min, x_max, y_max of the square face boxes, px."""
        half = self.faces.side[:, None] / 2
        return np.concatenate([self.faces.center - half, self.faces.center + half], 1) - self.origin

    @property
    def landmarks(self) -> np.ndarray:
        """(N, K, 2) px, NaN where not annotated."""
        return self.faces.landmarks - self.origin

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Image (H, W, 3), boxes (n, 4) and landmarks (n, K, 2) of every image."""
        boxes, landmarks = self.boxes, self.landmarks
        for image, rows in self.rows().items():
            yield self.read(image), boxes[rows], landmarks[rows]


def run_function(predict: Predict, test: ImageFaces, name: str, progress: Callable) -> tuple[Submission, float]:
    """What `predict` gives for all faces, and its own time in milliseconds a face; reading images is not included.

    progress: wraps the images, as tqdm does. Raises `InputError` where it returns arrays of another shape.
    """
    points: list[np.ndarray] = [None] * len(test.faces)
    scores: list[np.ndarray | None] = [None] * len(test.faces)
    seconds, boxes = 0.0, test.boxes
    for image, rows in progress(test.rows().items()):
        pixels, start = test.read(image), time.perf_counter()
        try:
            result = predict(pixels, boxes[rows])
        except Exception as error:
            error.add_note(f"in {name}, on image {image}")
            raise
        seconds += time.perf_counter() - start
        predicted, certain = result if isinstance(result, tuple) else (result, None)
        predicted = np.asarray(predicted, np.float64)
        if predicted.ndim != 3 or predicted.shape[0] != len(rows) or predicted.shape[2] != 2:
            raise InputError(
                f"{name}: for the {len(rows)} boxes of {image} it returns an array of shape {predicted.shape}; "
                f"({len(rows)}, K, 2) is needed: x and y of K landmarks for each box, NaN for a face not found."
            )
        if certain is not None and np.shape(certain) != predicted.shape[:2]:
            raise InputError(f"{name}: its scores have shape {np.shape(certain)}, its landmarks {predicted.shape}.")
        for i, row in enumerate(rows):
            points[row], scores[row] = predicted[i], None if certain is None else certain[i]
    submission = Submission(
        "function", test.faces.image, np.array(points), test.faces.face_id, face_ids=test.faces.face_id,
        scores=None if any(score is None for score in scores) else np.array(scores, np.float64),
    )  # fmt: skip
    return submission, 1000 * seconds / len(test.faces)


def write_table(path: Path, faces: ImageFaces, copies: Path, landmarks: bool) -> None:
    """Write the table that a program reads: face_id, image (its whole path), the box, and, of training faces, x0, y0, …

    Images that programs decode in different ways (turned by EXIF, CMYK, rare formats) are written as PNG into `copies`.
    """
    where = {image: str(_plain(faces, image, copies).resolve()) for image in faces.rows()}
    points = faces.landmarks.reshape(len(faces.faces), -1)
    names = [f"{axis}{k}" for k in range(faces.faces.landmarks.shape[1]) for axis in "xy"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("face_id", "image", *CORNERS, *(names if landmarks else ())))
        for row, (face, image) in enumerate(zip(faces.faces.face_id, faces.faces.image, strict=True)):
            values = [*faces.boxes[row], *(points[row] if landmarks else ())]
            writer.writerow((face, where[image], *("" if np.isnan(value) else f"{value:.6g}" for value in values)))


def _plain(faces: ImageFaces, image: str, copies: Path) -> Path:
    data = read_bytes(faces.images / image)
    structure = jpeg.parse(data) if data.startswith(jpeg.START) else None
    common = data.startswith(png.START) or (structure and len(structure.components) in (1, 3))
    if common and orientation(data) == 1:
        return faces.images / image
    copy = copies / f"{image}.png"
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(copy), faces.read(image)[..., ::-1]):
        raise OSError(f"{copy} cannot be written")
    return copy


def run_program(
    command: str, values: Mapping[str, object], out: Path, form: str | None, what: str
) -> tuple[Submission, float | None]:
    """What a program writes to `out`, and the milliseconds a face that it says in the file `values["time"]`.

    command: with {faces}, {train}, {out}, {seed} and {time}, which `values` has. Raises `InputError` where it fails,
    writes nothing, or writes what is none of the forms.
    """
    words = [_filled(word, values) for word in shlex.split(command)]
    try:
        done = subprocess.run(words)
    except OSError as error:
        raise InputError(
            f"{what}: {words[0]} cannot be started ({error.strerror}). Install the program's environment first."
        ) from None
    if done.returncode:
        raise InputError(f"{what}: the program ended with exit status {done.returncode}: {shlex.join(words)}")
    if not out.exists():
        raise InputError(f"{what}: the program wrote nothing to {{out}} ({shlex.join(words)}).")
    told = Path(str(values["time"]))
    try:
        milliseconds = float(told.read_text(encoding="utf-8")) if told.exists() else None
    except ValueError:
        raise InputError(
            f"{what}: {{time}} holds {told.read_text(encoding='utf-8')[:40]!r}, not a number of milliseconds."
        ) from None
    return reading.read(out, form), milliseconds


def _filled(word: str, values: Mapping[str, object]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", str(value))
    return word
