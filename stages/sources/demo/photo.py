"""What photographs vary more than drawings: skin, lips, teeth and eyes, uneven light, and what a camera does to them.

For pre-training (`source.demo.variety: wide`). Integer arithmetic alone, as in `paint`.
"""

import cv2
import numpy as np

from stages.sources.demo.head import Material

TEXTURED = (Material.SKIN, Material.LIP_UPPER, Material.LIP_LOWER, Material.HAIR, Material.BROW, Material.CLOTH,
            Material.SCLERA, Material.IRIS, Material.TEETH, Material.MOUTH)  # fmt: skip


def texture(canvas, rng):
    """Mottle the shade of the canvas (in place): wrinkles, pores, stray hair, at all scales."""
    shade = canvas[..., 1].astype(np.int32) + (_noise(len(canvas), rng) * int(rng.integers(10, 60)) >> 7)
    lines = _noise(len(canvas), rng, octaves=(32, 64))  # where it crosses zero: creases
    shade -= int(rng.integers(0, 40)) * np.maximum(8 - np.abs(lines), 0) // 8
    mottled = np.isin(canvas[..., 0], [int(m) for m in TEXTURED])
    canvas[..., 1] = np.where(mottled, np.clip(shade, 0, 255), canvas[..., 1])
    tint = canvas[..., 3].astype(np.int32) + (_noise(len(canvas), rng, octaves=(4, 8, 16)) * 40 >> 7)
    canvas[..., 3] = np.where(canvas[..., 0] == Material.SKIN, np.clip(tint, 0, 255), canvas[..., 3])


def vary(tones, skin, rng):
    """Colours of materials (name to RGB) as photographs have them: pale lips, teeth in shadow, reddish eyes."""

    def mix(a, b, share):
        return (np.array(a) * (256 - share) + np.array(b) * share) >> 8

    pale, shadow = int(rng.integers(0, 230)), int(rng.integers(60, 256))
    varied = {
        "LIP_UPPER": mix(tones["LIP_UPPER"], skin * 7 // 8, pale),
        "LIP_LOWER": mix(tones["LIP_LOWER"], skin, int(pale * rng.uniform(0.5, 1.0))),
        "TEETH": mix((90, 70, 66), (246, 240, 226), shadow),
        "MOUTH": mix((24, 10, 12), (110, 46, 48), int(rng.integers(256))),
        "SCLERA": mix(mix((206, 190, 184), (246, 246, 248), int(rng.integers(256))), skin, int(rng.integers(0, 120))),
        "SCLERA_SHADE": mix((120, 104, 100), (190, 184, 186), int(rng.integers(256))),
        "FOLD": mix(skin * 3 // 8, skin * 7 // 8, int(rng.integers(256))),
        "INK": mix((14, 10, 10), skin * 5 // 8, int(rng.integers(0, 180))),
        "BROW": mix(tones["BROW"], skin, int(rng.integers(0, 150))),
        "NOSTRIL": mix(skin // 6, skin * 5 // 8, int(rng.integers(256))),
        "GLINT": mix(tones["IRIS"], (255, 255, 255), int(rng.integers(256))),
    }
    return tones | varied


def develop(image, rng):
    """The photograph of a drawing (S, S, 3): uneven light, tone and colour, sharpening, sensor noise, JPEG."""
    size = len(image)
    field = cv2.resize(
        rng.integers(150, 300, (3, 3)).astype(np.uint16), (size, size), interpolation=cv2.INTER_LINEAR_EXACT
    )
    image = np.minimum(image.astype(np.uint32) * field[..., None] >> 8, 255).astype(np.uint8)
    image = cv2.LUT(image, np.stack([_curve(rng) for _ in range(3)], -1)[None] if rng.random() < 0.5 else _curve(rng))
    if rng.random() < 0.2:
        image = np.repeat((image.astype(np.uint16) @ np.array([77, 150, 29], np.uint16) >> 8)[..., None], 3, 2)
        image = image.astype(np.uint8)
    if rng.random() < 0.3:  # sharpened
        soft = cv2.GaussianBlur(image, (3, 3), 0).astype(np.int32)
        image = np.clip(image + (image - soft) * int(rng.integers(1, 4)) // 2, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        grain = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape).astype(np.int32) - 128
        image = np.clip(image + (grain * int(rng.integers(2, 20)) >> 7), 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        _, jpeg = cv2.imencode(
            ".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 95))]
        )
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return image


def _noise(size, rng, octaves=(8, 16, 32, 64, 128)):
    """(size, size) int32 in ±128: a sum of smooth noises, the finer the weaker."""
    total = np.zeros((size, size), np.int32)
    for level, cells in enumerate(octaves):
        coarse = rng.integers(0, 256, (cells, cells)).astype(np.uint8)
        total += (cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.int32) - 128) >> (
            level // 2
        )
    return total // 2


def _curve(rng):
    """(256,) uint8: a tone curve through three points, from darker to brighter and from flat to contrasty."""
    black, white = int(rng.integers(0, 40)), int(rng.integers(200, 256))
    middle = int(rng.integers(90, 170))
    return np.interp(np.arange(256), [0, 128, 255], [black, middle, white]).astype(np.uint8)
