"""Find faces and their landmarks in images, folders, a video or a camera, with a model that was trained here.

    python -m stages.landmarks models/lfpw-modern-128 photo.jpg holiday/ --out found --draw
    python -m stages.landmarks models/lfpw-quick clip.mp4 --out found --draw --smooth 1
    python -m stages.landmarks models:/landmarks-lfpw@champion photo.jpg --out found

Writes OUT/landmarks.csv and OUT/landmarks.jsonl, a row for every face: image or frame, face box, the detector's score,
and of each landmark x, y, confidence (the heat map's peak) and expected error, which `predict` has fitted on the
model's validation split; in px of the whole image, the centre of the first pixel at 0. Photographs are turned as their
EXIF tag says. Faces come from a detector (YuNet, downloaded once into models/) whose boxes are mapped to those that
networks are trained with, from --boxes, or, with --whole-image, each image is one face. In a video every face keeps its
number from frame to frame (track). After Ctrl-C what was found so far is kept.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.config.schemes import corresponding_landmarks, load_dataset_scheme
from stages.data.geometry import corners
from stages.landmarking import media
from stages.landmarking.detector import SCORE, FaceBoxes
from stages.landmarking.landmarker import Engine, Landmarker, Precision, load
from stages.landmarking.media import Picture
from stages.landmarking.output import Found, Tables
from stages.landmarking.overlay import VideoFile, draw, write_image
from stages.landmarking.tracks import Tracks
from stages.system import errors
from stages.system.errors import InputError
from stages.tracking import registry

EDGES = ["x_min", "y_min", "x_max", "y_max"]
Boxes = tuple[np.ndarray, np.ndarray, list[float | None]]  # centres (n, 2), sides (n,), the detector's scores


class GivenBoxes:
    """Face boxes of a CSV file: image (and frame), x_min, y_min, x_max, y_max in px, the first pixel's centre at 0."""

    def __init__(self, path: Path):
        try:
            table = pd.read_csv(path)
        except (FileNotFoundError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: it is not a CSV file that can be read ({error}).") from None
        missing = [name for name in ("image", *EDGES) if name not in table]
        errors.refuse([f"column {name} is missing" for name in missing], str(path), f"Its columns: {', '.join(table)}.")
        values = table[EDGES].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        wrong = np.flatnonzero(~np.isfinite(values).all(1) | (values[:, 2:] <= values[:, :2]).any(1))
        errors.refuse([f"row {i + 1}: it is no box" for i in wrong], str(path), "x_max > x_min and y_max > y_min.")
        self.keys = [Path(str(name)).name for name in table["image"]]
        self.frames = table["frame"].tolist() if "frame" in table else [None] * len(table)
        self.boxes = values

    def __call__(self, picture: Picture) -> Boxes:
        rows = [
            i for i, key in enumerate(self.keys)
            if key == Path(picture.name).name and (picture.frame is None or self.frames[i] == picture.frame)
        ]  # fmt: skip
        boxes = self.boxes[rows]
        return (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1), [None] * len(rows)


def detected_boxes(landmarker: Landmarker, score: float) -> Callable[[Picture], Boxes]:
    """Those of the detector, mapped to face boxes; says by which map."""
    box_map = landmarker.calibration.boxes
    face_boxes = FaceBoxes(box_map, score)
    how = (
        "by the map that was fitted on the model's training faces" if box_map
        else "by the usual map: none was fitted on the model's own training faces (detector: of params/pipeline.yaml)"
    )  # fmt: skip
    print(f"face boxes: the detector's, {how}", file=sys.stderr)
    return lambda picture: face_boxes(picture.image)


def whole_image(picture: Picture) -> Boxes:
    """One face that fills the image, in the middle of it."""
    height, width = picture.image.shape[:2]
    return np.array([[(width - 1) / 2, (height - 1) / 2]]), np.array([float(min(width, height))]), [None]


class Run:
    """Everything that happens to a picture; counts what happened."""

    def __init__(self, landmarker: Landmarker, boxes, scheme: str | None, tables: Tables, lag: float | None):
        self.landmarker, self.boxes, self.tables = landmarker, boxes, tables
        self.tracks = None if lag is None else Tracks(lag)
        self.columns = columns(landmarker, scheme)[0]
        self.pictures = self.faces = 0
        self.faults: list[str] = []
        self.empty: list[str] = []

    def __call__(self, picture: Picture) -> np.ndarray | None:
        """The picture with what was found drawn over it; None where it cannot be read."""
        self.pictures += 1
        where = picture.name if picture.frame is None else f"frame {picture.frame}"
        if picture.image is None:
            self.faults.append(f"{where}: {picture.fault}")
            return None
        center, side, detected = self.boxes(picture)
        points, scores, expected = self.landmarker.predict(picture.image, center, side)
        boxes = corners(center, side)
        numbers = [None] * len(side)
        if self.tracks is not None:
            numbers = self.tracks.assign(boxes)
            points = self.tracks.smooth(numbers, points)
        points, scores, expected = (values[:, self.columns] for values in (points, scores, expected))
        for i, track in enumerate(numbers):
            self.tables.add(Found(
                picture.name, picture.frame, picture.seconds, i, track, boxes[i], detected[i], points[i], scores[i],
                expected[i],
            ))  # fmt: skip
        self.faces += len(side)
        if not len(side):
            self.empty.append(where)
        return draw(picture.image, boxes, points, ["" if track is None else str(track) for track in numbers])

    def tell(self, seconds: float) -> None:
        """What happened, for the terminal."""
        print(f"{self.faces} faces in {self.pictures} pictures, {1000 * seconds / max(self.pictures, 1):.0f} ms each")
        for lines, what in ((self.empty, "no face was found in"), (self.faults, "not read:")):
            if lines:
                more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
                print(f"warning: {what} {'; '.join(lines[:5])}{more}", file=sys.stderr)


def columns(landmarker: Landmarker, scheme: str | None) -> tuple[list[int], list[int]]:
    """Which of the model's landmarks are written, and their numbers in `scheme`; None: the model's own."""
    own = landmarker.scheme
    if scheme is None:
        return list(range(own.count)), list(range(own.count))
    pairs = corresponding_landmarks(own, load_dataset_scheme(scheme, own.normaliser, scheme))
    return [one for one, _ in pairs], [other for _, other in pairs]


def overlay_path(folder: Path, name: str, taken: set[Path]) -> Path:
    """Where a drawn image goes; images of one name in several folders do not overwrite each other."""
    stem, suffix, number = Path(name).stem, Path(name).suffix.lower(), 1
    suffix = suffix if suffix in (".jpg", ".jpeg", ".png") else ".png"
    while (path := folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}") in taken:
        number += 1
    taken.add(path)
    return path


def of_images(run: Run, inputs: list[str], out: Path, drawn: bool) -> None:
    files, taken = media.image_files(inputs), set()
    for picture in tqdm(media.read_images(files), "landmarks", len(files), unit="image", disable=None):
        canvas = run(picture)
        if drawn and canvas is not None:
            path = overlay_path(out / "overlays", picture.name, taken)
            path.parent.mkdir(exist_ok=True)
            write_image(path, canvas)


def of_video(run: Run, given: str, out: Path, drawn: bool, frames: int | None) -> None:
    video = media.Video(given)
    total = frames if video.frames is None else min(frames or video.frames, video.frames)
    name = given.replace(media.CAMERA, "camera-") if video.live else Path(given).stem

    def taken() -> Iterator[Picture]:
        for picture in video:
            if frames is not None and picture.frame >= frames:
                break
            yield picture

    with VideoFile(out / f"{name}-landmarks.mp4", video.rate) as written:
        for picture in tqdm(taken(), "landmarks", total, unit="frame", disable=None):
            canvas = run(picture)
            if drawn and canvas is not None:
                written.add(canvas)


def main(arguments: argparse.Namespace) -> None:
    videos = [given for given in arguments.inputs if media.is_video(given)]
    if videos and len(arguments.inputs) > 1:
        raise InputError(f"{videos[0]} is a video: give one video, or images.")
    if not videos and (arguments.smooth or arguments.frames):
        raise InputError("--smooth and --frames are for a video.")
    if not videos:
        media.image_files(arguments.inputs)  # before the model is loaded
    with registry.local_model(arguments.model) if registry.is_uri(arguments.model) else nullcontext() as folder:
        landmarker = load(folder or Path(arguments.model), arguments.flip_test, arguments.engine, arguments.precision)
    print(f"{landmarker.name}: {landmarker.engine} in {landmarker.precision}")
    boxes = (
        GivenBoxes(arguments.boxes) if arguments.boxes else whole_image if arguments.whole_image
        else detected_boxes(landmarker, arguments.detector_score)
    )  # fmt: skip
    start = time.perf_counter()
    with Tables(arguments.out, columns(landmarker, arguments.scheme)[1]) as tables:
        run = Run(landmarker, boxes, arguments.scheme, tables, arguments.smooth if videos else None)
        if videos:
            of_video(run, videos[0], arguments.out, arguments.draw, arguments.frames)
        else:
            of_images(run, arguments.inputs, arguments.out, arguments.draw)
    run.tell(time.perf_counter() - start)
    print(f"{arguments.out}: {', '.join(path.name for path in tables.files)}")
    if not run.faces:
        raise InputError("no face was found in any picture.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", metavar="MODEL", help="models/<experiment>, an ONNX file, or models:/NAME@ALIAS in MLflow"
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="images, folders, patterns; or a video, or camera:0")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the results")
    parser.add_argument("--draw", action="store_true", help="write pictures with the landmarks drawn, or an MP4 file")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--boxes", type=Path, metavar="CSV", help="image, x_min, y_min, x_max, y_max instead")
    where.add_argument("--whole-image", action="store_true", help="every image is one face")
    parser.add_argument(
        "--detector-score", type=float, default=SCORE, help="the least of a face (default: %(default)s)"
    )
    parser.add_argument("--scheme", help="convert to the landmarks of params/schemes/SCHEME.yaml that correspond")
    parser.add_argument(
        "--engine", choices=get_args(Engine), default="auto",
        help="pytorch runs a folder, onnxruntime and openvino an ONNX file (default: the fastest that is installed)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="auto",
        help="fp32 gives the benchmark's own numbers (default: bf16 where the processor computes in it)",
    )  # fmt: skip
    parser.add_argument("--flip-test", action="store_true", help="average with the mirrored face, at twice the time")
    parser.add_argument(
        "--smooth", type=float, default=0.0, metavar="LAG", help="in a video: smooth, with a lag of so many frames"
    )
    parser.add_argument("--frames", type=int, help="of a video or camera: at most so many")
    given = parser.parse_args()
    errors.run(lambda: main(given))
