"""What landmarks are looked for in: images, folders and patterns of them, a video file, a camera."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stages.sources.images.reading import decode, read_bytes
from stages.system.errors import InputError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
CAMERA = "camera:"
GIVE_UP = 100  # frames in a row that cannot be decoded: the rest of the video is lost


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video. image: (H, W, 3) uint8 RGB; None, with why in `fault`, where it is not readable.

    name: the path as it was found. frame: counted from 0, None of an image; seconds: from the video's start.
    """

    name: str
    image: np.ndarray | None
    frame: int | None = None
    seconds: float | None = None
    fault: str = ""


def image_files(inputs: Sequence[str]) -> list[Path]:
    """The images of files, folders (with those within) and patterns, in the order given, sorted within each.

    Raises `InputError` where there is no such file, and where a folder or pattern holds no image.
    """
    files: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES and file.is_file())
        elif path.is_file():
            found = [path]
        else:
            found = [Path(name) for name in sorted(glob.glob(given, recursive=True)) if Path(name).is_file()]
        if not found:
            what = "it holds no image" if path.is_dir() else "there is no such file, and no file of that pattern"
            raise InputError(f"{given}: {what}.")
        files += found
    return list(dict.fromkeys(files))


def is_video(given: str) -> bool:
    return given.startswith(CAMERA) or Path(given).suffix.lower() in VIDEOS


def read_images(files: Sequence[Path]) -> Iterator[Picture]:
    """Each image, turned as its EXIF tag says; one that cannot be read has a fault."""
    for file in files:
        try:
            yield Picture(str(file), decode(read_bytes(file), file, "exif", whole=True))
        except InputError as error:
            yield Picture(str(file), None, fault=str(error).removeprefix(f"{file}: "))
        except OSError as error:
            yield Picture(str(file), None, fault=error.strerror or str(error))


def _is_playlist(path: Path) -> bool:
    """Whether a decoder would take it as text that names other files, or addresses in the network."""
    with open(path, "rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith((b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"[Reference]", b"rtsp", b"http"))


class Video:
    """A video file or `camera:0`. frames: their number, None where it is not known; rate: frames a second."""

    def __init__(self, given: str):
        self.name, self.live = given, given.startswith(CAMERA)
        source = given.removeprefix(CAMERA)
        if self.live and not source.isdigit():
            raise InputError(f"{given}: a camera is named {CAMERA}0, {CAMERA}1, …")
        if not self.live and not Path(given).is_file():
            raise InputError(f"there is no {given}.")
        if not self.live and _is_playlist(Path(given)):
            raise InputError(f"{given}: it is a list of other files, which are not opened. Give the video itself.")
        self.capture = cv2.VideoCapture(int(source) if self.live else given)
        if not self.capture.isOpened():
            raise InputError(f"{given}: it cannot be opened as a {'camera' if self.live else 'video'}.")
        count = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = None if self.live or count <= 0 else count
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else 25.0

    def __iter__(self) -> Iterator[Picture]:
        """Every frame; one that cannot be decoded has a fault, and the next ones are tried."""
        frame = lost = 0
        try:
            while lost < GIVE_UP:
                taken, image = self.capture.read()
                if taken:
                    lost = 0
                    yield Picture(self.name, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), frame, frame / self.rate)
                elif self.frames is None or frame >= self.frames:
                    break
                else:
                    lost += 1
                    yield Picture(self.name, None, frame, frame / self.rate, "the frame cannot be decoded")
                frame += 1
        finally:
            self.capture.release()
