"""The mean demo face: curves for profile, jaw, lids, brows and lips, the skin they are on, and the 98 landmarks.

Head frame: x to the image's right (the subject's left), y down, z towards the camera when the pose is zero; the origin
is between the eyes and the outer eye corners are 100 units apart. V vertices. The face is symmetric. The proportions
are our own design, not taken from any dataset.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

CHIN, EAR = 127.0, -1.0  # y of the chin's lowest point and of the jaw line's upper ends
# Mid-line profile of the face without the nose, and depth of the outline seen from the front, as functions of y.
PROFILE = PchipInterpolator(
    [-117, -108, -92, -70, -40, -22, -5, 20, 45, 60, 74, 92, 109, 120, CHIN],
    [-75, -40, -20, -5, 2, 3, -4, -3, 1, 4, 4, 0, 3, -3, -16],
)
SIDE = PchipInterpolator([-117, -60, -10, 40, 70, 90, 108, 120, CHIN], [-75, -85, -92, -90, -80, -63, -42, -26, -16])
NOSE_HEIGHT = PchipInterpolator(
    [-18, -6, 10, 26, 37, 42, 47, 51, 55], [0, 4, 12, 22, 31, 31, 21, 6, 0], extrapolate=False
)
NOSE_WIDTH = PchipInterpolator([-18, 5, 26, 38, 46, 55], [9, 9, 13, 19, 21, 19])


def half_width(y):
    """Half the width of the head at the height y; zero at the crown (-117) and at the chin."""
    lower = 1 - np.clip(y / CHIN, 0, 1) ** 2.4
    upper = 1 - np.clip(-(y + 15) / 102, 0, 1) ** 2.2
    return 77 * np.sqrt(lower * upper)


def bump(x, y, cx, cy, sx, sy):
    """A Gaussian bump at (±cx, cy), symmetric about the mid-line."""
    return np.exp(-(((np.abs(x) - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def nose(x, y):
    """Height of the nose above the face at (x, y)."""
    ridge = np.nan_to_num(NOSE_HEIGHT(y)) * np.clip(1 - (x / NOSE_WIDTH(y)) ** 2, 0, 1) ** 1.6
    return ridge + 8 * bump(x, y, 14.5, 42, 4.5, 5.5)


def surface(x, y):
    """Depth z of the mean face's skin at (x, y), for |x| <= half_width(y)."""
    across = np.clip(np.abs(x) / np.maximum(half_width(y), 1e-9), 0, 1)
    z = SIDE(y) + (PROFILE(y) - SIDE(y)) * np.sqrt(1 - across**2.2)
    z = z - 6 * bump(x, y, 33, -4, 17, 10) + 4 * bump(x, y, 35, 0, 12, 7)  # socket and eyeball
    z = z + 3 * bump(x, y, 30, -21, 18, 7) + 4 * bump(x, y, 46, 34, 15, 15)  # brow ridge and cheekbone
    z = z + 7 * bump(x, y, 0, 73, 22, 9) - 4 * bump(x, y, 0, 94, 15, 5) + 4 * bump(x, y, 0, 112, 15, 9)  # lips, chin
    return z + nose(x, y)


def step(value):
    """Smooth step from 0 at 0 to 1 at 1."""
    t = np.clip(value, 0, 1)
    return t * t * (3 - 2 * t)


def on_skin(x, y):
    return np.stack([x, y, surface(x, y)], -1)


def mirrored(curve):
    """The same curve on the image's left side, its points in the same order."""
    return curve * [-1, 1, 1]


# --- the parts: each a grid of vertices (rows, columns, 3) ---------------------------------------------
ROWS = np.concatenate(
    [np.linspace(-116.5, -60, 11), np.linspace(-53, -18, 6), np.linspace(-13, 22, 8), np.linspace(26, 54, 11),
     np.linspace(59, 95, 9), np.linspace(100, 121, 6), [124, 126, CHIN]]
)  # fmt: skip
HALF_COLUMNS = np.array(
    [0, 0.045, 0.09, 0.135, 0.18, 0.225, 0.27, 0.33, 0.41, 0.5, 0.6, 0.7, 0.79, 0.87, 0.93, 0.975, 1]
)
COLUMNS = np.concatenate([-HALF_COLUMNS[:0:-1], HALF_COLUMNS])


def _skin():
    y = np.repeat(ROWS[:, None], len(COLUMNS), 1)
    return on_skin(half_width(y) * COLUMNS, y)


def _back():
    """The back of the head, from one side round to the other, open towards the neck."""
    y = np.repeat(np.linspace(-116.5, 62, 14)[:, None], 13, 1)
    turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 13)
    depth = 88 * np.sqrt(1 - np.clip(np.abs(y + 25) / 93, 0, 1) ** 2.2) + 1
    return np.stack([half_width(y) * np.sin(turn), y, SIDE(y) + depth * np.cos(turn)], -1)


def _jaw_line(n):
    """n points at equal arc lengths along the outline, from the image-left ear round the chin to the other ear."""
    turn = np.linspace(0, np.pi / 2, 2001)
    y = EAR + (CHIN - EAR) * np.sin(turn)
    x = half_width(y)
    arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    y = np.interp(np.linspace(0, arc[-1], (n + 1) // 2), arc, y)
    half = np.stack([half_width(y), y, SIDE(y)], -1)
    return np.concatenate([mirrored(half), half[-2::-1]])


def _under_jaw(jaw):
    """From the jaw line back to the throat."""
    along = np.abs(np.linspace(-1, 1, len(jaw)))[:, None]  # 1 at the ears, 0 at the chin
    throat = jaw * [0.62, 0, 0] + np.concatenate([0 * along, 112 - 45 * along**2, -80 - 35 * along], 1)
    return np.stack([jaw, 0.5 * (jaw + throat) + [0, 3, 0], throat])


def _ear():
    turn = np.linspace(0, 2 * np.pi, 13)
    rings = [(1.0, 0.0), (0.72, -2.0), (0.45, -4.0), (0.0, -5.0)]
    outwards, centre = np.array([0.62, 0, -0.78]), np.array([83.0, 20.0, -99.0])
    oval = np.cos(turn)[:, None] * outwards * 14 + np.sin(turn)[:, None] * [0.0, 26.0, 0.0]
    oval = oval * (1 - 0.18 * np.sin(turn)[:, None]) + np.sin(turn)[:, None] * [-2.0, 0.0, 3.0]  # narrow at the lobe
    return np.stack([centre + share * oval + [depth * 0.6, 0, depth * 0.4] for share, depth in rings])


def _brow():
    """Upper and lower edge, inner to outer end; nine points each, the two edges meet at the outer end."""
    u = np.linspace(0, 1, 9)
    x = 14.5 + 46 * u
    upper = -21.0 - 6.0 * np.sin(np.pi * u**1.1) ** 1.2 + 6.0 * u**2.5
    lower = upper + 7.5 * (1 - u**1.6)
    return np.stack([on_skin(x + 0 * lower, upper), on_skin(x, lower)])


def _eye():
    """Upper and lower lid, inner to outer corner; nine points each."""
    s = np.linspace(0, 1, 9)
    x, corner_line = 19.5 + 30.5 * s, 1.2 * (1 - s)
    upper = corner_line - 7.6 * (4 * s * (1 - s)) ** 0.75 * (1.08 - 0.16 * s)
    lower = corner_line + 4.4 * (4 * s * (1 - s)) ** 0.8 * (0.92 + 0.16 * s)
    return np.stack([on_skin(x, upper), on_skin(x, lower)])


def _lips():
    """Outer upper, inner upper, inner lower, outer lower edge, image left to right; 13 points each."""
    half = np.array([0, 0.2, 0.41, 0.52, 0.64, 0.78, 1.0])
    u = np.concatenate([-half[:0:-1], half])
    x, a = 31.0 * u, np.abs(u)
    bow = 71.5 - 8.2 * (1 - a**1.8) + 1.1 * bump(u, 0, 0, 0, 0.12, 1)  # the dip of Cupid's bow
    line = 71.5 + 0.8 * np.cos(np.pi * u) * (1 - a)
    lower = 71.5 + 16.5 * np.sqrt(1 - a**2.4) * (1 - 0.25 * a**2)
    inner_x = 28.4 * u
    return np.stack([on_skin(x, bow), on_skin(inner_x, line - 0.2), on_skin(inner_x, line + 0.4), on_skin(x, lower)])


def _nose_points():
    """Four points down the bridge (51-54), five under the nose (55-59)."""
    bridge = on_skin(np.zeros(4), np.array([-1.0, 12.5, 26.0, 39.5]))
    x = np.array([-17.5, -9.0, 0.0, 9.0, 17.5])
    under = on_skin(x, 50.5 - 3.5 * (np.abs(x) / 17.5) ** 1.5)
    return np.concatenate([bridge, under])


def _pupil():
    return on_skin(np.array([34.5]), np.array([-1.2]))


def _parts():
    jaw, brow, eye, ear, pupil = _jaw_line(33), _brow(), _eye(), _ear(), _pupil()
    return {
        "skin": _skin(), "back": _back(), "under_jaw": _under_jaw(jaw), "jaw": jaw[None], "nose": _nose_points()[None],
        "ear_left": mirrored(ear), "ear_right": ear, "brow_left": mirrored(brow), "brow_right": brow,
        "eye_left": mirrored(eye), "eye_right": eye, "lips": _lips(),
        "pupil_left": mirrored(pupil)[None], "pupil_right": pupil[None],
    }  # fmt: skip


_MEAN_PARTS = _parts()
MEAN = np.concatenate([part.reshape(-1, 3) for part in _MEAN_PARTS.values()])  # (V, 3)
_ENDS = np.cumsum([0] + [part.shape[0] * part.shape[1] for part in _MEAN_PARTS.values()])
# The vertex numbers of every part, as the part's grid (rows, columns); "left" is the image's left.
PARTS = {
    name: np.arange(start, end).reshape(part.shape[:2])
    for (name, part), start, end in zip(_MEAN_PARTS.items(), _ENDS[:-1], _ENDS[1:], strict=True)
}


def _landmark_vertices():
    """(98,) the vertex of each landmark, in WFLW's order (0-based)."""
    left, right, lips = {}, {}, PARTS["lips"]
    for name, side in (("left", left), ("right", right)):
        side["brow"], side["eye"], side["pupil"] = (PARTS[f"{part}_{name}"] for part in ("brow", "eye", "pupil"))
    brow_left = [*left["brow"][0, 8::-2], *left["brow"][1, 0:8:2]]
    brow_right = [*right["brow"][0, 0::2], *right["brow"][1, 6::-2]]
    eye_left = [*left["eye"][0, 8::-2], *left["eye"][1, 2:8:2]]
    eye_right = [*right["eye"][0, 0::2], *right["eye"][1, 6:0:-2]]
    outer = [*lips[0, [0, 2, 5, 6, 7, 10, 12]], *lips[3, [11, 8, 6, 4, 1]]]
    inner = [*lips[1, [0, 3, 6, 9, 12]], *lips[2, [9, 6, 3]]]
    pupils = [left["pupil"][0, 0], right["pupil"][0, 0]]
    groups = [PARTS["jaw"][0], brow_left, brow_right, PARTS["nose"][0], eye_left, eye_right, outer, inner, pupils]
    return np.concatenate(groups)


LANDMARKS = _landmark_vertices()
