"""Image files as RGB arrays. A file's first bytes decide its format, not its extension.

The stored pixel order is kept: an EXIF orientation is ignored, as by the loaders that the published annotations were
made for. Alpha is dropped and 16 bits become 8, as by those loaders. An image that cannot be read in full is refused,
never padded: a truncated JPEG would otherwise become a face with a grey chin.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.system.errors import InputError

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that start a frame (ITU T.81, table B.1)
_EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # Pillow's modes that convert to RGB well


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises `InputError` naming the file where it is empty, truncated, damaged or not an image; `FileNotFoundError`.
    """
    data = Path(path).read_bytes()
    if fault := damage(data):
        raise InputError(f"{path}: {fault}")
    frame = _jpeg_frame(data) if data.startswith(_JPEG) else None
    common = data.startswith(_PNG) or (frame and frame[2] in (1, 3))
    # otherwise CMYK, whose inversion only Pillow handles, or a rarer format
    image = _decode(data) if common else _decode_with_pillow(data)
    if image is None:
        raise InputError(f"{path}: it is damaged and cannot be decoded. Get the file again.")
    return image


def damage(data: bytes) -> str | None:
    """What is wrong with an image file's bytes, judged by header and end, or None; decodes nothing."""
    if not data:
        return "it is empty (0 bytes). Get the file again."
    if data.startswith(_JPEG):
        frame = _jpeg_frame(data)
        if frame is None:
            return "it is a truncated JPEG (it ends within its header). Get the file again."
        start, size, _ = frame
        # the end marker of the image itself: an EXIF thumbnail's comes before the frame
        complete = data.rfind(b"\xff\xd9") > start
    elif data.startswith(_PNG):
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        complete = data.rfind(b"IEND") > 0
    else:
        return _rare_format_damage(data)
    if not complete:
        return f"it is truncated ({len(data)} bytes, and its end is missing). Get the file again."
    if 0 in size:
        return f"it is an image of zero size ({size[0]}×{size[1]} px). Get the file again."
    return None


def _jpeg_frame(data: bytes) -> tuple[int, tuple[int, int], int] | None:
    """(offset, (width, height), components) of a JPEG's frame header; None if there is none."""
    position = 2
    while position + 9 < len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:  # padding and markers without a length
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            return position, (width, height), data[position + 9]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _rare_format_damage(data: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in _EIGHT_BITS:
                return None
            return f"it is a {image.format} of mode {image.mode}, which cannot be read. Save it as 8-bit PNG."
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError):
        return f"it is not a readable image (it begins with {data[:8]!r}). Get the file again."


def _decode(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _decode_with_pillow(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None
