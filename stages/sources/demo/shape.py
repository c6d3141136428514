"""The 3-D shape of a demo face: a linear model around the mean face, and the pose.

C coefficients, V vertices: a face is `MEAN + coefficients @ BASES`, so whatever moves the skin moves its landmarks by
the same amount.
"""

import math

import numpy as np

from stages.sources.demo.mean_face import MEAN, PARTS, bump, half_width, nose, step


def _within(*names):
    mask = np.zeros(len(MEAN))
    for name in names:
        mask[PARTS[name].ravel()] = 1
    return mask


def _vector(dx=0.0, dy=0.0, dz=0.0):
    return np.stack([component + np.zeros(len(MEAN)) for component in (dx, dy, dz)], -1)


def _identity():
    x, y, _ = MEAN.T
    side, far = np.sign(x), np.abs(x)
    eyes, brows = _within("eye_left", "eye_right"), _within("brow_left", "brow_right")
    eye_area = bump(x, y, 35, -1, 26, 13)
    nose_area = bump(x, y, 0, 40, 24, 17) * (y < 62)
    mouth = np.clip(1.3 * bump(x, y, 0, 75, 42, 20), 0, 1)
    outer_upper, outer_lower = np.zeros(len(MEAN)), np.zeros(len(MEAN))
    outer_upper[PARTS["lips"][0]] = outer_lower[PARTS["lips"][3]] = 1 - (np.linspace(-1, 1, 13)) ** 2
    lower_brow = np.zeros(len(MEAN))
    for name in ("brow_left", "brow_right"):
        lower_brow[PARTS[name][1]] = 1 - np.linspace(0, 1, 9) ** 1.6
    pupil_free = _vector(side * (far - 35), y + 1)[:, :2]
    return {
        "width": _vector(0.06 * x),
        "jaw_width": _vector(0.11 * x * step((y - 10) / 90)),
        "length": _vector(dy=0.06 * np.maximum(y, 0) + 0.03 * np.minimum(y, 0)),
        "chin": _vector(dy=6 * step((y - 88) / 38), dz=2 * step((y - 88) / 25)),
        "cheeks": _vector(0.05 * x * bump(x, y, 70, 62, 60, 30), dz=3 * bump(x, y, 45, 55, 20, 25)),
        "eye_size": np.column_stack([0.13 * pupil_free * eyes[:, None], 0 * x]),
        "eye_gap": _vector(2.2 * side * eye_area),
        "eye_tilt": _vector(dy=-2.5 * (far - 33) / 15 * eye_area),
        "brow_height": _vector(dy=-3 * brows),
        "brow_arch": _vector(dy=-3.2 * brows * bump(x, y, 43, -25, 16, 60)),
        "brow_thickness": _vector(dy=2.0 * lower_brow),
        "nose_length": _vector(dy=4.5 * nose_area),
        "nose_width": _vector(0.25 * x * bump(x, y, 0, 42, 30, 14) * (far < 24)),
        "nose_height": _vector(dz=0.25 * nose(x, np.clip(y, -18, 55)) * (far < 24)),
        "mouth_width": _vector(0.14 * x * mouth),
        "mouth_height": _vector(dy=3 * mouth),
        "upper_lip": _vector(dy=-2.6 * outer_upper),
        "lower_lip": _vector(dy=3.2 * outer_lower),
    }


def _expression():
    x, y, _ = MEAN.T
    side, far = np.sign(x), np.abs(x)
    lips = _within("lips")
    across = np.clip(far / 31, 0, 1)
    # Opening the jaw moves the skin below the mouth fully, less towards the ears; each lip has weights of its own.
    aside = np.clip(far / np.maximum(half_width(y), 1), 0, 1)
    start, end = 72 - 62 * aside**1.5, 84 + 26 * aside
    drop = step((y - start) / (end - start))
    upper = np.zeros(len(MEAN))
    upper[PARTS["lips"][:2].ravel()] = 1
    drop = np.where(lips > 0, np.where(upper > 0, 0.42 * across**4, 1 - 0.58 * across**2.5), drop)
    drop[np.concatenate([PARTS[name].ravel() for name in ("ear_left", "ear_right", "back", "nose")])] = 0
    corner = bump(x, y, 31, 71.5, 16, 13)
    corner = np.where(lips > 0, across**1.6, corner)
    cheek = bump(x, y, 44, 45, 16, 16) * (1 - lips)
    middle = np.where(lips > 0, 1 - across**2, bump(x, y, 0, 72, 24, 11))
    result = {
        "jaw_open": _vector(dy=34 * drop, dz=-9 * drop),
        "smile": _vector(8 * side * corner, -6.5 * corner - 2.5 * cheek, -4 * corner + 5 * cheek)
        + _vector(dy=1.5 * middle * lips),
        "sad": _vector(-1.5 * side * corner, 6 * corner),
        "pucker": _vector(-0.42 * x * np.clip(1.2 * bump(x, y, 0, 73, 38, 18), 0, 1), dz=6 * middle),
        "lip_raise": _vector(dy=-6.5 * np.where(lips > 0, upper * (1 - across**3), 0)),
    }
    for name in ("left", "right"):
        brow, eye, pupil = PARTS[f"brow_{name}"], PARTS[f"eye_{name}"], PARTS[f"pupil_{name}"]
        raised, frown, blink = (np.zeros_like(MEAN) for _ in range(3))
        raised[brow, 1] = -9
        inner = (1 - np.linspace(0, 1, 9)) ** 1.2
        frown[brow] = np.stack([-3.5 * np.sign(MEAN[brow[0, 0], 0]) * inner, 6 * inner, 0 * inner], -1)
        closed = MEAN[eye[1]] * 0.8 + MEAN[eye[0]] * 0.2 + [0, 0, 1.0]  # where the lids meet
        blink[eye[0]], blink[eye[1]] = closed - MEAN[eye[0]], closed - MEAN[eye[1]]
        blink[pupil[0, 0]] = np.mean(closed[3:6], 0) - MEAN[pupil[0, 0]]
        result |= {f"brow_raise_{name}": raised, f"brow_frown_{name}": frown, f"blink_{name}": blink}
    gaze = _within("pupil_left", "pupil_right")
    return result | {"gaze_x": _vector(7 * gaze), "gaze_y": _vector(dy=2.6 * gaze)}


_IDENTITY, _EXPRESSION = _identity(), _expression()
IDENTITY, EXPRESSION = tuple(_IDENTITY), tuple(_EXPRESSION)  # names of the coefficients
BASES = np.stack([*_IDENTITY.values(), *_EXPRESSION.values()])  # (C, V, 3)


def deform(coefficients):
    """The vertices (V, 3) of a face in the head frame; `coefficients` maps names to weights, 0 if absent."""
    weights = np.array([coefficients.get(name, 0.0) for name in IDENTITY + EXPRESSION])
    return MEAN + np.tensordot(weights, BASES, 1)


def rotation(yaw, pitch, roll):
    """(3, 3) head frame to camera frame; degrees. Positive: the face turns to the image's right, looks up, tilts
    clockwise."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in (yaw, pitch, roll))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ nod @ turn
