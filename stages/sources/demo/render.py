"""Demo faces: drawn faces with the 98 landmarks of WFLW's scheme, so that the pipeline runs without any benchmark.

A face is drawn from its traits (`traits`): a linear 3-D shape model (`mean_face`, `shape`) is deformed and posed, its
surfaces (`head`, `wear`) are projected and painted (`paint`) on a background, under a light, behind occluders
(`scene`). The landmarks are the projections of vertices of the same model.
"""

from dataclasses import dataclass

import numpy as np

from stages.sources.demo import head, paint, photo, scene, wear
from stages.sources.demo.head import Material
from stages.sources.demo.mean_face import LANDMARKS
from stages.sources.demo.shape import deform, rotation
from stages.sources.demo.traits import Traits, draw, subsets

COVERED = 5  # so many landmarks under hair, a hand or an object put a face into the occlusion subset


@dataclass(frozen=True)
class DemoFace:
    """A drawn face; K = 98 landmarks."""

    image: np.ndarray  # (size, size, 3) uint8 RGB
    landmarks: np.ndarray  # (K, 2) float64 image px, pixel centres at integers
    visible: np.ndarray  # (K,) bool: not hidden by the face itself, hair, a hand or an object
    subsets: tuple[str, ...]  # WFLW's subsets it belongs to


def render(seed: int, split: str, index: int, size: int = 256, wide: bool = False) -> DemoFace:
    """Face number `index` of a split, a function of the arguments alone; `wide`: as varied as photographs."""
    return paint_face(draw(seed, split, index, wide), size, wide)


def paint_face(traits: Traits, size: int = 256, wide: bool = False) -> DemoFace:
    """Draw the face that has these traits."""
    rng = np.random.default_rng(traits.texture)
    vertices = deform(traits.identity | traits.expression)
    rotate = rotation(traits.yaw, traits.pitch, traits.roll)
    posed = vertices[LANDMARKS] @ rotate.T
    scale, shift = paint.place(posed[:, :2], size, traits.box, traits.offset)
    landmarks = np.rint((posed[:, :2] * scale + shift) * 64) / 64

    canvas = np.zeros((paint.OVERSAMPLING * size,) * 2 + (4,), np.uint8)
    patches = head.body(rotate) + head.skin(vertices, traits) + head.features(vertices, traits)
    patches += wear.worn(vertices, traits, rng)
    paint.draw(canvas, patches, rotate, scale, shift, np.array(traits.light_from))
    slack = np.where(np.arange(98) < 33, 26.0, 14.0)  # units; the jaw line is on the head's outline
    visible = paint.visible(canvas, landmarks, posed[:, 2], slack)
    if traits.occluder is not None:
        scene.draw_occluder(canvas, traits.occluder, landmarks, scale, rng)
    hidden = paint.covered(canvas, landmarks)
    for pupil, side in ((96, "left"), (97, "right")):
        visible[pupil] &= traits.expression[f"blink_{side}"] < 0.85  # otherwise under the lid

    ambient, diffuse, gain = scene.light(traits, rng)
    table = paint.palette(_colours(traits, rng, wide), ambient, diffuse)
    if wide:
        photo.texture(canvas, rng)
    image = paint.over(paint.colour(canvas, table, rng), scene.background(size, gain, rng))
    image = scene.lens(image, traits.blur, traits.blur_size, rng)
    if wide:
        image = photo.develop(image, rng)
    return DemoFace(image, landmarks, visible & ~hidden, subsets(traits, int(hidden.sum()) >= COVERED))


def _colours(traits, rng, wide):
    """(FIRST_LEVEL + LEVELS, 3) the colour of each material, then of each level of the skin's tint."""
    skin, hair = np.array(traits.skin), np.array(traits.hair)
    base = np.zeros((paint.FIRST_LEVEL + paint.LEVELS, 3), int)
    lip = (skin * 5 + np.array([190, 80, 90]) * 3) // 8
    made_up = np.array([(190, 20, 45), (150, 20, 90), (225, 70, 90), (110, 20, 40)])[rng.integers(4)]
    lip = made_up if traits.makeup else lip
    shadow = np.array([(70, 90, 170), (120, 60, 130), (60, 120, 110), (130, 80, 50)])[rng.integers(4)]
    other = np.array(draw(traits.texture, "hand", 0).skin) if rng.random() < 0.3 else skin
    tones = {
        "LIP_UPPER": lip * 7 // 8, "LIP_LOWER": lip, "MOUTH": (70, 22, 26), "TEETH": (236, 230, 220),
        "TONGUE": (196, 90, 92), "SCLERA": (238, 236, 232), "SCLERA_SHADE": (176, 170, 172), "IRIS": traits.iris,
        "PUPIL": (14, 12, 14), "GLINT": (255, 255, 255), "INK": (34, 24, 24), "FOLD": skin * 5 // 8,
        "BROW": (hair * 3 + skin) // 5, "EYESHADOW": (shadow * 5 + skin * 3) // 8, "NOSTRIL": skin * 2 // 8,
        "SKIN": skin, "CLOTH": (rng.integers(30, 230, 3) * 2 + 120) // 3, "HAIR": hair, "HAT": rng.integers(30, 220, 3),
        "FRAME": np.array([(24, 22, 24), (96, 54, 30), (150, 20, 30), (120, 120, 126)])[rng.integers(4)],
        "LENS": (26, 26, 32), "HAND": other, "OBJECT": rng.integers(30, 240, 3), "TRIM": rng.integers(30, 240, 3),
        "FABRIC": rng.integers(30, 230, 3),
    }  # fmt: skip
    if wide:
        tones = photo.vary(tones, skin, rng)
    for name, tone in tones.items():
        base[Material[name]] = tone
    blush = np.array([220, 70, 90]) if traits.makeup else (skin * 3 + np.array([210, 90, 90]) * 2) // 5
    base[paint.FIRST_LEVEL :] = paint.skin_levels(skin, blush, np.minimum(hair, skin * 5 // 8))
    return base
