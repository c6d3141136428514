"""The structure of a JPEG file (ITU T.81), and whether all of its pixels are there.

libjpeg replaces missing data by zeros without an error: the rest of the picture becomes grey, or stays coarse where it
is progressive.
"""

import io
import re
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

START, END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that start a frame (table B.1)
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SCAN = 0xDA
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # the first one that is not part of a scan's data
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_NEVER_WRITTEN = 16  # that many zero bytes at the end are space that was allocated for data that never came
_FILL = b"\xb5" * 64


@dataclass
class Jpeg:
    """What the headers of a JPEG say."""

    size: tuple[int, int]  # width, height in px
    components: bytes  # their identifiers: 1 grey, 3 colour, 4 CMYK
    progressive: bool
    # of each its components, its first and last coefficient, and the bits that it leaves to later scans
    scans: list[tuple[bytes, int, int, int]] = field(default_factory=list)
    last_scan: int = 0  # where the data of the last scan start
    stop: int = 0  # and where they end
    ended: bool = False  # whether the end marker is there

    @property
    def complete_scans(self) -> bool:
        """Whether the scans are those of a whole picture: each coefficient of each component to its last bit."""
        missing = np.ones((256, 64), int)  # bits, by component
        for components, first, last, bits in self.scans:
            missing[list(components), first : last + 1] = bits
        return not missing[list(self.components)].any()


def parse(data: bytes) -> Jpeg | None:
    """The structure up to the end marker or the end of the file; None where that comes before the frame header."""
    position, jpeg = 2, None
    while position + 2 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xD9 and jpeg:
            jpeg.ended = True
            break
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD9:  # padding and markers without a length
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        if length < 2 or len(segment) != length - 2:
            break
        position += 2 + length
        if marker in _FRAMES and len(segment) >= 6:
            height, width = (int.from_bytes(segment[i : i + 2], "big") for i in (1, 3))
            jpeg = Jpeg((width, height), segment[6::3][: segment[5]], marker in _PROGRESSIVE)
        elif marker == _SCAN and jpeg and len(segment) >= 4:
            first, last, bits = segment[-3:] if jpeg.progressive else (0, 63, 0)
            jpeg.scans.append((segment[1:-3:2], first, min(last, 63), bits & 15))
            following = _NEXT_MARKER.search(data, position)
            jpeg.last_scan, position = position, following.start() if following else len(data)
            jpeg.stop = position
    return jpeg


def lacks_end(data: bytes) -> bool:
    """Whether a file is a JPEG without its end marker."""
    return data.startswith(START) and not (data.endswith(END) or parse(data).ended)


def is_whole(data: bytes, jpeg: Jpeg) -> bool:
    """Whether no pixel depends on data that are missing, with or without an end marker; decodes the image twice.

    The last scan is followed by nothing the first time and by arbitrary data the second: a decoder that already has
    every pixel reads neither.
    """
    stop = jpeg.stop
    if not jpeg.ended:
        written = data[:stop].rstrip(b"\0")
        stop = len(written) if stop - len(written) >= _NEVER_WRITTEN else stop
    while data[stop - 1] == 0xFF:  # half of a stuffed byte, or padding
        stop -= 1
    if not jpeg.complete_scans or stop <= jpeg.last_scan:
        return False
    restart = bytes([0xFF, 0xD0 + len(_RESTART.findall(data, jpeg.last_scan, stop)) % 8])
    pixels = [_decode(data[:stop] + rest + END) for rest in (b"", _FILL + restart + _FILL)]
    return pixels[0] is not None and pixels[0] == pixels[1]


def _decode(data: bytes) -> bytes | None:
    try:  # not by OpenCV, whose libjpeg prints a warning for each
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return image.tobytes()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
