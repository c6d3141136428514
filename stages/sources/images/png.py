"""The structure of a PNG file (ISO/IEC 15948), and whether all of its rows are there."""

import zlib
from dataclasses import dataclass, field

START = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20  # bytes
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples a pixel, by colour type
_WHOLE = ((0, 0, 1, 1),)
# first column, first row, step in x and y of each pass
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass
class Png:
    """What the chunks of a PNG say."""

    size: tuple[int, int]  # width, height in px
    pixel_bits: int
    interlaced: bool
    data: list[bytes] = field(default_factory=list)  # the compressed rows
    ended: bool = False  # whether the end chunk is there

    def bytes_of_rows(self) -> int:
        """The length of all rows, each with the byte that names its filter."""
        total = 0
        for x, y, step_x, step_y in _ADAM7 if self.interlaced else _WHOLE:
            columns, rows = -(-(self.size[0] - x) // step_x), -(-(self.size[1] - y) // step_y)
            total += max(rows, 0) * (1 + -(-columns * self.pixel_bits // 8)) if columns > 0 else 0
        return total


def parse(data: bytes) -> Png | None:
    """The structure up to the end chunk or the first damaged one; None where there is no header.

    A chunk that a decoder may ignore (its name begins in lower case) may be damaged.
    """
    position, png = len(START), None
    while position + 12 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        content, checksum = data[position + 8 : position + 8 + length], data[position + 8 + length :][:4]
        critical = kind[:1].isupper()
        if kind == b"IHDR" and len(content) == 13:
            size = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
            png = Png(size, content[8] * _CHANNELS.get(content[9], 0), content[12] == 1)
        if len(checksum) < 4 or (critical and zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum, "big")):
            break
        if png is None:
            break
        elif kind == b"IDAT":
            png.data.append(content)
        elif kind == b"IEND":
            png.ended = True
            break
        position += 12 + length
    return png


def is_whole(png: Png) -> bool:
    """Whether the compressed rows hold every pixel; keeps none of them."""
    decoder, missing = zlib.decompressobj(), png.bytes_of_rows()
    try:
        for part in png.data:
            while part and missing > 0:
                missing -= len(decoder.decompress(part, _BLOCK))
                part = decoder.unconsumed_tail
    except zlib.error:
        return False
    return missing <= 0
