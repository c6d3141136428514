"""Image files as RGB arrays. A file's first bytes decide its format, not its extension.

The stored pixel order is kept, as by the loaders that the published annotations were made for, unless the dataset's
`source.orientation` is exif. Alpha is dropped and 16 bits become 8, as by those loaders. An image that cannot be read
in full is refused, never padded: a truncated JPEG would otherwise become a face with a grey chin.
"""

import errno
import io
import os
import stat
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.sources.images import jpeg, png
from stages.system.errors import InputError

MAX_PIXELS = 1 << 28  # of an image: 0.8 GB as RGB, more than any camera's
# Pillow opens these and nothing else: others start programs (EPS: Ghostscript)
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF")
_EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # Pillow's modes that convert to RGB well
_OPENING = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError)
_HEIC, _AVIF = {b"heic", b"heix", b"heim", b"hevc", b"hevx", b"mif1", b"msf1"}, {b"avif", b"avis"}
_OTHERS = {  # formats that are not read, by first bytes
    b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"8BPS": "PSD", b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL", b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
}  # fmt: skip
_ORIENTATION = 0x0112  # the EXIF tag


def read_bytes(path: Path) -> bytes:
    """The content of a regular file, also through a link.

    Raises `OSError` for anything else: reading from a FIFO or a device may never end.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return Path(path).read_bytes()


def read_image(path: Path, orientation: str = "ignore") -> np.ndarray:
    """(H, W, 3) uint8 RGB. orientation: `source.orientation`; exif turns the image as its EXIF tag says.

    Raises `InputError` naming the file where it is empty, truncated, damaged or not an image; `FileNotFoundError`.
    """
    return decode(read_bytes(path), path, orientation)


def decode(data: bytes, path: Path, orientation: str = "ignore", *, whole: bool = False) -> np.ndarray:
    """The same of a file's content; `path` is named in the error.

    whole: refuse what lacks pixels too, where no checksum vouches for the file, as fetch's does for a dataset's.
    """
    if fault := damage(data) or (lacks_pixels(data) if whole else None):
        raise InputError(f"{path}: {fault}")
    structure = jpeg.parse(data) if data.startswith(jpeg.START) else None
    # CMYK is left to Pillow, which alone handles its inversion, and so are rarer formats
    common = data.startswith(png.START) or (structure and len(structure.components) in (1, 3))
    if structure and not structure.ended:
        data = data[: structure.stop] + jpeg.END
    image = _decode(data) if common else _decode_with_pillow(data)
    if image is None:
        raise InputError(f"{path}: it is damaged and cannot be decoded. Get the file again.")
    return _upright(image, data) if orientation == "exif" else image


def damage(data: bytes) -> str | None:
    """What is wrong with an image file's bytes, judged by header and end, or None.

    Decodes nothing but a JPEG without its end marker, to see whether it lacks more than that.
    """
    if not data:
        return "it is empty (0 bytes). Get the file again."
    if data.startswith(jpeg.START):
        structure = jpeg.parse(data)
        if structure is None:
            return "it is a truncated JPEG (it ends within its header). Get the file again."
    elif data.startswith(png.START):
        structure = png.parse(data)
        if structure is None:
            return "it is a damaged PNG (its header is not whole). Get the file again."
    else:
        return _rare_format_damage(data)
    if fault := _size_fault(structure.size):
        return fault
    if not structure.ended and (data.startswith(png.START) or not jpeg.is_whole(data, structure)):
        return f"it is truncated or damaged ({len(data)} bytes, and its end is missing). Get the file again."
    return None


def lacks_pixels(data: bytes) -> str | None:
    """What is wrong with the pixels of an image file whose header and end are sound, or None; decodes it.

    A file that was cut and got an end marker passes `damage`, and decoders fill in what is missing without an error.
    """
    if data.startswith(jpeg.START):
        whole = jpeg.is_whole(data, jpeg.parse(data))
    elif data.startswith(png.START):
        whole = png.is_whole(png.parse(data))
    else:
        whole = _decode_with_pillow(data) is not None
    if whole:
        return None
    return f"it is truncated or damaged (of its pixels a part is missing; {len(data)} bytes). Get the file again."


def orientation(data: bytes) -> int:
    """The EXIF orientation of an image file, 1 (upright) … 8; 1 where it says none, or one that does not exist."""
    if data.startswith((jpeg.START, png.START)) and not (b"Exif\0" in data[: 1 << 16] or b"eXIf" in data):
        return 1  # opening it would take longer
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            value = image.getexif().get(_ORIENTATION, 1)
    except _OPENING:
        return 1
    return value if value in range(1, 9) else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, …) or, from orientation 5 on, (W, H, …): the stored pixels as a viewer shows them."""
    if orientation >= 5:  # the stored rows are columns
        pixels = pixels.swapaxes(0, 1)
    vertical = orientation in (3, 4, 7, 8)
    horizontal = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1])


def _upright(pixels: np.ndarray, data: bytes) -> np.ndarray:
    return turned(pixels, orientation(data))


def _size_fault(size: tuple[int, int]) -> str | None:
    width, height = size
    if 0 in size:
        return f"it is an image of zero size ({width}×{height} px). Get the file again."
    if width * height > MAX_PIXELS:
        return f"it claims {width}×{height} px, more than a photograph has. Get the file again, or reduce the image."
    return None


def _rare_format_damage(data: bytes) -> str | None:
    if name := _other_format(data):
        return f"it is a file of format {name}, which is not read. Convert it to JPEG or PNG."
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.mode not in _EIGHT_BITS:
                return f"it is a {image.format} of mode {image.mode}, which cannot be read. Save it as 8-bit PNG."
            return _size_fault(image.size)
    except Image.DecompressionBombError:
        return "it claims more pixels than a photograph has. Get the file again, or reduce the image."
    except _OPENING:
        return f"it is not a readable image (it begins with {data[:8]!r}). Get the file again."


def _other_format(data: bytes) -> str | None:
    """The name of a known image format that is not read."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC | _AVIF:
        return "AVIF" if data[8:12] in _AVIF else "HEIC"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if b"<svg" in data[:1000].lower():
        return "SVG"
    return next((name for start, name in _OTHERS.items() if data.startswith(start)), None)


def _decode(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _decode_with_pillow(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            stored = orientation(data) if image.format == "TIFF" else 1  # which Pillow turns by itself
            pixels = np.array(image.convert("RGB"))
    except _OPENING:
        return None
    return turned(pixels, {6: 8, 8: 6}.get(stored, stored))
