"""The traits of a demo face, sampled before anything is painted, so that its labels match the image.

Only uniform and integer draws are used: they are the same on every machine, while normal draws depend on the
platform's logarithm.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from stages.sources.demo.shape import EXPRESSION, IDENTITY

SUBSETS = ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")  # in WFLW's order
# Share of each subset in WFLW's 2500 test faces.
SHARES = {"largepose": 0.130, "expression": 0.126, "illumination": 0.279, "makeup": 0.082, "occlusion": 0.294,
          "blur": 0.309}  # fmt: skip
LARGE = {"yaw": 40.0, "pitch": 24.0, "roll": 30.0}  # degrees; a large pose exceeds one of them
WIDER = 1.7  # times the shapes' usual range, for `wide`
EXPRESSIVE = 0.6  # a face with a coefficient of this size is in the expression subset
OCCLUDERS = ("hand_mouth", "hand_cheek", "hand_eye", "cup", "microphone", "sunglasses", "scarf", "strands", "phone")
# Pairs of colours to sample between: black, brown, blond, red, grey, dyed hair; light to dark skin; brown, blue, green.
HAIR = (((16, 13, 12), (52, 36, 28)), ((62, 40, 26), (128, 84, 48)), ((170, 130, 72), (226, 192, 128)),
        ((120, 52, 26), (172, 78, 36)), ((120, 120, 122), (214, 212, 208)),
        ((60, 50, 130), (200, 90, 160)))  # fmt: skip
SKIN = (((250, 214, 190), (226, 176, 140)), ((226, 176, 136), (176, 122, 84)), ((150, 98, 66), (84, 54, 40)))
IRIS = (((40, 24, 14), (96, 62, 34)), ((60, 110, 160), (120, 170, 205)), ((70, 110, 70), (130, 150, 90)))
HAIR_STYLES = ("bald", "buzz", "short", "short", "side", "bob", "long", "long", "bun", "afro", "fringe", "hat")


@dataclass(frozen=True)
class Traits:
    """All parameters of a drawn face; angles in degrees, colours RGB, lengths as fractions of the image's side."""

    yaw: float
    pitch: float
    roll: float
    box: float  # longer side of the landmarks' box
    offset: tuple[float, float]  # of the box's centre from the image's
    identity: dict[str, float]
    expression: dict[str, float]
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    hair_style: str
    beard: float  # 0 none, 1 full
    iris: tuple[int, int, int]
    glasses: bool
    light: str  # "soft", or one of the kinds of the illumination subset
    light_from: tuple[float, float, float]  # unit vector, camera frame
    makeup: bool
    occluder: str | None
    blur: str | None
    blur_size: float  # 0 least, 1 most
    texture: int  # seed of everything else: strands, background, colours of objects


def _bell(rng, width):
    """A value in ±width, small ones more likely: the mean of three uniform draws, scaled up."""
    return float(np.clip(rng.uniform(-1, 1, 3).mean() * 1.6, -1, 1) * width)


def _pose(rng, large):
    yaw, pitch, roll = _bell(rng, LARGE["yaw"] - 3), _bell(rng, LARGE["pitch"] - 3), _bell(rng, LARGE["roll"] - 6)
    if large:
        side = 1 if rng.random() < 0.5 else -1
        kind = rng.random()
        if kind < 0.66:
            yaw = side * rng.uniform(LARGE["yaw"] + 3, 75)
        elif kind < 0.86:
            pitch = side * rng.uniform(LARGE["pitch"] + 2, 38)
        else:
            roll = side * rng.uniform(LARGE["roll"] + 3, 45)
    return yaw, pitch, roll


def _expression(rng, strong):
    """Coefficients: small ones for every face, and if `strong` one strong expression."""
    result = dict.fromkeys(EXPRESSION, 0.0)
    result["gaze_x"], result["gaze_y"] = _bell(rng, 1), _bell(rng, 1)
    result["smile"], result["sad"] = rng.uniform(0, 0.5), rng.uniform(0, 0.25)
    result["jaw_open"] = float(rng.choice([0.0, rng.uniform(0, 0.25)]))
    result["lip_raise"] = rng.uniform(0, 0.25)
    blink, frown, raised = rng.uniform(-0.15, 0.3), rng.uniform(-0.4, 0.1), rng.uniform(0, 0.35)
    kind = rng.choice(["laugh", "shout", "closed", "wink", "angry", "surprise", "kiss", "sad", "grin"])
    if strong:
        result |= {
            "laugh": {"smile": 1.0, "jaw_open": rng.uniform(0.3, 0.8), "lip_raise": 0.4},
            "shout": {"smile": 0.0, "jaw_open": rng.uniform(0.7, 1.15)},
            "closed": {},
            "wink": {"smile": 0.5},
            "angry": {"smile": 0.0, "sad": 0.8, "lip_raise": 0.3},
            "surprise": {"smile": 0.0, "jaw_open": rng.uniform(0.6, 1.0)},
            "kiss": {"pucker": 1.0, "smile": 0.0, "jaw_open": 0.1},
            "sad": {"sad": 1.0, "smile": 0.0},
            "grin": {"smile": 1.0, "lip_raise": 0.8, "jaw_open": 0.25},
        }[kind]
        blink = {"laugh": 0.4, "closed": 1.0, "surprise": -0.3, "grin": 0.35}.get(kind, blink)
        frown = {"angry": 1.0, "sad": -0.4}.get(kind, frown)
        raised = {"surprise": 1.0, "sad": 0.4, "angry": -0.4}.get(kind, raised)
    for side in ("left", "right"):
        result[f"blink_{side}"] = float(blink)
        result[f"brow_frown_{side}"] = float(frown)
        result[f"brow_raise_{side}"] = float(raised + _bell(rng, 0.15))
    if strong and kind == "wink":
        result[f"blink_{rng.choice(['left', 'right'])}"] = 1.0
    return {name: float(value) for name, value in result.items()}


def _everyday(rng):
    """Expressions as people show them to a camera: from a closed mouth to a wide smile, lids at any height."""
    result = _expression(rng, False)
    smile, squint = rng.uniform(0, 1.1), rng.uniform(-0.3, 0.5)
    result |= {
        "smile": smile,
        "lip_raise": rng.uniform(0, 0.9),
        "jaw_open": rng.uniform(0, 0.45) * (rng.random() < 0.7),
    }
    result |= {"pucker": rng.uniform(-0.3, 0.4), "sad": rng.uniform(0, 0.3)}
    for side in ("left", "right"):
        result[f"blink_{side}"] = squint + _bell(rng, 0.1)
        result[f"brow_raise_{side}"] += rng.uniform(-0.3, 0.5)
    return {name: float(value) for name, value in result.items()}


def _colour(rng, low, high):
    """A colour between two colours, with a little noise per channel."""
    t = rng.random()
    return tuple(int(a + (b - a) * t + rng.uniform(-6, 6)) for a, b in zip(low, high, strict=True))


def draw(seed, split, index, wide=False):
    """Sample the traits of one face, a function of the arguments alone; `wide`: shapes that differ more."""
    name = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "little")
    rng = np.random.default_rng([seed, name, index])
    chosen = {name: rng.random() < share for name, share in SHARES.items()}
    yaw, pitch, roll = _pose(rng, chosen["largepose"])
    light = rng.choice(["dark", "bright", "side", "cast", "behind"]) if chosen["illumination"] else "soft"
    aside, above = rng.uniform(-0.5, 0.5), rng.uniform(-0.75, -0.2)
    if light == "side":
        aside, above = float(rng.choice([-1.0, 1.0])), rng.uniform(-0.2, 0.2)
    direction = np.array([aside, above, 0.25 if light == "side" else 0.8])
    direction = direction / np.sqrt((direction**2).sum())
    hair_tones = HAIR[rng.choice(len(HAIR), p=[0.42, 0.26, 0.13, 0.08, 0.08, 0.03])]
    skin_tones = SKIN[rng.choice(len(SKIN), p=[0.5, 0.28, 0.22])]
    iris_tones = IRIS[rng.choice(len(IRIS), p=[0.6, 0.25, 0.15])]
    occluder = str(rng.choice(OCCLUDERS)) if chosen["occlusion"] else None
    makeup = chosen["makeup"]
    styles = [style for style in HAIR_STYLES if occluder != "strands" or style not in ("bald", "buzz", "hat")]
    return Traits(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        box=rng.uniform(0.36, 0.45),
        offset=(rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04)),
        identity={name: _bell(rng, WIDER if wide else 1.0) for name in IDENTITY},
        expression=_everyday(rng) if wide and rng.random() < 0.6 else _expression(rng, chosen["expression"]),
        skin=_colour(rng, *skin_tones),
        hair=_colour(rng, *hair_tones),
        hair_style=str(rng.choice(styles)),
        beard=float(rng.uniform(0.3, 1)) if not makeup and rng.random() < 0.22 else 0.0,
        iris=_colour(rng, *iris_tones),
        glasses=occluder != "sunglasses" and rng.random() < 0.18,
        light=str(light),
        light_from=tuple(float(v) for v in direction),
        makeup=makeup,
        occluder=occluder,
        blur=str(rng.choice(["gaussian", "motion", "coarse"])) if chosen["blur"] else None,
        blur_size=rng.uniform(0.0, 1.0),
        texture=int(rng.integers(2**31)),
    )


def subsets(traits, covered):
    """The names of the WFLW subsets a face belongs to; `covered`: whether it is occluded."""
    expression = [value for name, value in traits.expression.items() if not name.startswith("gaze")]
    belongs = {
        "largepose": any(abs(getattr(traits, name)) > limit for name, limit in LARGE.items()),
        "expression": max(abs(value) for value in expression) >= EXPRESSIVE,
        "illumination": traits.light != "soft",
        "makeup": traits.makeup,
        "occlusion": covered,
        "blur": traits.blur is not None,
    }
    return tuple(name for name in SUBSETS if belongs[name])
