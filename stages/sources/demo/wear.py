"""Hair, hats and glasses, and the occluders that move with the head (sunglasses, scarf, strands)."""

import numpy as np

from stages.sources.demo.head import Material, Patch, grid, strip
from stages.sources.demo.mean_face import PARTS

SKULL, RADII = np.array([0.0, -22.0, -82.0]), np.array([77.5, 95.0, 87.0])
# Elevation (degrees) of the hairline as a function of the azimuth, from the front (0) to the nape (180).
HAIRLINE = ([0, 30, 48, 63, 76, 88, 98, 115, 140, 180], [27, 27, 23, 10, -6, -12, 0, -20, -44, -48])
THICKNESS = {"buzz": 0.025, "short": 0.09, "side": 0.10, "bob": 0.13, "long": 0.11, "bun": 0.06, "afro": 0.34,
             "fringe": 0.11}  # fmt: skip


def _cap(line, thickness, rings=9):
    """A shell (rings, 25, 3) over the skull from the hairline `line` (25 elevations in degrees) up to the crown."""
    azimuth = np.linspace(-np.pi, np.pi, 25)
    rise = np.linspace(0, 1, rings)[:, None] ** 0.85
    elevation = np.radians(line + (90 - line) * rise)
    out = 1.0 + np.asarray(thickness) * np.minimum(1, 0.12 + 2.4 * rise)
    direction = np.stack(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], -1
    )
    return SKULL + direction * RADII * out[..., None]


def _lock(root, tip, sway, width, rng):
    """A tapering lock of hair from root to tip, and the gain of its shade."""
    t = np.linspace(0, 1, 7)[:, None]
    middle = root + (tip - root) * t + np.asarray(sway) * np.sin(np.pi * t)
    across = np.asarray(width) * (1 - 0.75 * t**2)
    return strip(middle - across, middle + across), rng.uniform(0.75, 1.1)


def hair(traits, rng):
    """Hair or a hat, by the style of the face."""
    style = traits.hair_style
    patches = []
    azimuth = np.abs(np.linspace(-180, 180, 25))
    line = np.interp(azimuth, *HAIRLINE)
    if style == "hat":
        patches.append(_shell(_cap(line, 0.03)[:4], Material.HAIR, rng))
        height = rng.uniform(0.10, 0.22)
        brim = np.interp(azimuth, [0, 90, 180], [22, 12, -12])
        patches.append(_shell(_cap(brim, height), Material.HAT, rng, 0.06, lift=24))
        patches.append(_shell(_cap(brim, 0.16)[:3], Material.TRIM, rng, 0.12, lift=30))
        return patches
    if style == "bald":
        return patches
    ragged = rng.uniform(-3, 3, 25)
    if style == "fringe":
        line = np.where(azimuth < 50, rng.uniform(7, 16) + 3 * ragged, line + ragged)
    elif style == "side":
        line = np.where(azimuth < 60, line - np.linspace(-1, 1, 25) * rng.choice([-40, 40]) + ragged, line)
    else:
        line = line + ragged
    patches.append(_shell(_cap(line, THICKNESS[style] * (1 + rng.uniform(-0.2, 0.4))), Material.HAIR, rng))
    if style == "bun":
        turn = np.linspace(0, np.pi, 9)
        ball = np.array([0, -125.0, -100.0])
        edges = [np.stack([32 * -np.cos(turn), k * 30 * np.sin(turn), 0 * turn], -1) + ball for k in (-1, 1)]
        patches.append(Patch(strip(*edges), Material.HAIR, both_sides=True, lift=-60, gain=rng.uniform(0.7, 1.1, 8)))
    if style in ("bob", "long", "fringe"):
        patches += _curtain(rng.uniform(95, 125) if style == "bob" else rng.uniform(60, 230), rng)
    return patches


def _shell(cap, material, rng, grain=0.22, lift=14.0):
    """A cap with streaks from the hairline to the crown."""
    streaks = np.tile(rng.uniform(1 - grain, 1 + 0.5 * grain, cap.shape[1] - 1), cap.shape[0] - 1)
    return Patch(grid(cap)[:, ::-1], material, flat=True, gain=streaks, lift=lift)


def _curtain(length, rng):
    """Hair that falls behind the head, and locks in front of each ear."""
    turn = np.radians(np.linspace(78, 282, 15))
    wave = 1 + 0.05 * rng.uniform(-1, 1, 15)
    rows = []
    for y, wide in ((-75, 72), (-35, 84), (20, 91), (20 + 0.5 * (length - 20), 97), (length, 92)):
        rows.append(np.stack([wide * np.sin(turn) * wave, y + 0 * turn, -92 + 88 * np.cos(turn) * wave], -1))
    fall = grid(np.stack(rows))
    gain = np.tile(rng.uniform(0.55, 0.85, 14), 4)
    patches = [Patch(fall, Material.HAIR, both_sides=True, gain=gain)]
    for side in (-1, 1):
        for depth in (-104, -92, -80):
            root = np.array([side * 80, -30, depth])
            tip = np.array([side * 88, length * rng.uniform(0.85, 1), depth - 6])
            corners, gain = _lock(root, tip, [side * 6, 0, 0], [3, 0, 7], rng)
            patches.append(Patch(corners, Material.HAIR, both_sides=True, gain=gain, lift=-2))
    return patches


def glasses(vertices, dark, rng):
    """Spectacles, or sunglasses if `dark`, at the eyes of this face."""
    round_, wide, tall = rng.uniform(2.0, 4.5), rng.uniform(20, 24), rng.uniform(14, 19)
    if dark:
        wide, tall = rng.uniform(24, 27), rng.uniform(18, 23)
    turn = np.linspace(0, 2 * np.pi, 21)
    outline = np.abs(np.stack([np.cos(turn), np.sin(turn)])) ** (2 / round_) * np.sign([np.cos(turn), np.sin(turn)])
    patches = []
    for side, sign in (("left", -1), ("right", 1)):
        centre = vertices[PARTS[f"eye_{side}"]].reshape(-1, 3).mean(0) * [1, 1, 0] + [0, 1, 0]
        x, y = centre[0] + wide * outline[0] * sign, centre[1] + tall * outline[1]
        rim = np.stack([x, y, 3 - 0.0042 * x**2], -1)
        inner = centre + (rim - centre) * [0.88, 0.86, 1]
        if dark:
            half = np.stack([rim[:11], rim[:9:-1]])
            fade = np.linspace(1.15, 0.6, 10)
            patches.append(Patch(strip(*half), Material.LENS, f"glasses_{side}", 4.0, both_sides=True, gain=fade))
        patches.append(Patch(strip(rim, inner), Material.FRAME, f"glasses_{side}", 5.0, both_sides=True))
        hinge = np.array([sign * (abs(centre[0]) + wide), centre[1] - 3, 3 - 0.0042 * (abs(centre[0]) + wide) ** 2])
        ear = np.array([sign * 82.0, centre[1] + 2, -96.0])
        arm = hinge + (ear - hinge) * np.linspace(0, 1, 6)[:, None] ** [0.55, 1, 1]
        patches.append(Patch(strip(arm - [0, 1.4, 0], arm + [0, 1.6, 0]), Material.FRAME, lift=4, both_sides=True))
        bridge = np.array([[sign * (abs(centre[0]) - wide + 1), centre[1] - 4, 5.0], [0, centre[1] - 7, 9.0]])
        corners = strip(bridge - [0, 1.3, 0], bridge + [0, 1.3, 0])
        patches.append(Patch(corners, Material.FRAME, f"glasses_{side}", 5.0, both_sides=True))
    return patches


def scarf(vertices, rng):
    """A cloth over the lower face: the grid of the skin from the bridge of the nose to the chin, offset outwards."""
    rows = vertices[PARTS["skin"]]
    top = int(np.searchsorted(rows[:, 16, 1], rng.choice([20.0, 27.0, 34.0])))
    cloth = rows[top:] * [1.04, 1, 1] + [0, 0, 5]
    folds = np.repeat(1 + 0.18 * np.sin(np.arange(len(cloth) - 1) * rng.uniform(0.8, 1.6)), cloth.shape[1] - 1)
    return [Patch(grid(cloth), Material.FABRIC, flat=True, lift=6, gain=folds)]


def strands(vertices, rng):
    """Locks that fall from the hairline over one side of the face, sometimes over an eye."""
    side = rng.choice([-1, 1])
    parting, spread, drop = rng.uniform(-25, 0), rng.uniform(38, 62), rng.uniform(25, 85)
    patches = []
    n = int(rng.integers(5, 9))
    for i in range(n):
        start, end = parting + 50 * i / n, parting + 12 + spread * (i + rng.uniform(0, 0.6)) / n
        root = np.array([side * start, -78.0, 2.0 - 0.006 * start**2])
        tip = np.array([side * end, drop + rng.uniform(-25, 15), 14.0 - 0.014 * end**2])
        corners, gain = _lock(root, tip, [side * 9, 0, 12], [rng.uniform(4.5, 7.5), 0, 0], rng)
        patches.append(Patch(corners, Material.HAIR, "strands", 8.0, both_sides=True, gain=gain))
    return patches


def worn(vertices, traits, rng):
    """All of these patches of a face."""
    patches = hair(traits, rng)
    if traits.glasses or traits.occluder == "sunglasses":
        patches += glasses(vertices, traits.occluder == "sunglasses", rng)
    if traits.occluder == "scarf":
        patches += scarf(vertices, rng)
    if traits.occluder == "strands":
        patches += strands(vertices, rng)
    return patches
