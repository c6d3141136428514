"""The surfaces of a head: quadrilaterals in the head frame, each with a material, ready to be projected and painted."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from stages.sources.demo.mean_face import MEAN, PARTS, bump, half_width, step

Material = IntEnum(
    "Material",
    "LIP_UPPER LIP_LOWER MOUTH TEETH TONGUE SCLERA SCLERA_SHADE IRIS PUPIL GLINT INK FOLD BROW EYESHADOW NOSTRIL SKIN "
    "CLOTH FRAME HAIR HAT LENS HAND OBJECT TRIM FABRIC",
)
COVERING = Material.HAIR  # this material and those after it occlude the face; a thin spectacle frame does not


class Patch(NamedTuple):
    """n quadrilaterals of one material; corners clockwise as seen from outside."""

    corners: np.ndarray  # (n, 4, 3) head frame
    material: Material
    group: str = ""  # patches of one group are painted together, in their order, over the skin they are on;
    # "body" before everything else; without a group each quadrilateral is sorted by its own depth
    lift: float = 0.0  # units added to the patch's depth before sorting
    flat: bool = False  # shaded by its own plane; otherwise by the smooth head beneath it
    both_sides: bool = False  # painted even when seen from behind
    tint: np.ndarray | int = 128  # of skin: 128 plain, up to 255 beard, down to 0 blush
    gain: np.ndarray | float = 1.0  # factor of the shade


def grid(points):
    """Quadrilaterals (n, 4, 3) of a grid of points (R, C, 3)."""
    corners = np.stack([points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]], 2)
    return corners.reshape(-1, 4, 3)


def strip(upper, lower):
    """The band between two curves (C, 3)."""
    return grid(np.stack([upper, lower]))


def _centres(name):
    """Mean-face centres (n, 3) of a part's quadrilaterals, for beard, blush and hollows."""
    return grid(MEAN[PARTS[name]]).mean(1)


_X, _Y, _ = _centres("skin").T
_ASIDE = np.abs(_X) / np.maximum(half_width(_Y), 1)
BEARD = np.clip(
    1.25 * step((_Y - 66 + 56 * step((_ASIDE - 0.5) / 0.4)) / 14) - 1.5 * bump(_X, _Y, 0, 78, 32, 12)
    - 0.9 * bump(_X, _Y, 36, 44, 20, 20), 0, 1
)  # fmt: skip
MOUSTACHE = np.clip(1.4 * bump(_X, _Y, 0, 59, 28, 6), 0, 1)
BLUSH = bump(_X, _Y, 46, 36, 19, 15)
HOLLOWS = (
    1 - 0.20 * bump(_X, _Y, 27, -9, 15, 7) - 0.16 * bump(_X, _Y, 0, 95, 16, 4.5) - 0.18 * bump(_X, _Y, 12, 50, 9, 4)
    - 0.10 * bump(_X, _Y, 20, 46, 5, 10) - 0.10 * bump(_X, _Y, 0, 58, 3, 5) + 0.07 * bump(_X, _Y, 0, 20, 4, 22)
)  # fmt: skip


def skin(vertices, traits):
    """Face, back of the head, underside of the jaw and ears."""
    rosy = BLUSH * (0.75 if traits.makeup else 0.25)
    tint = 128 - 120 * rosy
    if traits.beard:
        density = np.maximum(BEARD, MOUSTACHE) * traits.beard
        tint = np.where(density > 0.1, 128 + 126 * density, tint)
    patches = [
        Patch(grid(vertices[PARTS["back"]])[:, ::-1], Material.SKIN, flat=True, both_sides=True, gain=0.9, lift=-14),
        Patch(grid(vertices[PARTS["under_jaw"]]), Material.SKIN, flat=True, both_sides=True, gain=0.62,
              tint=128 + int(100 * traits.beard)),
        Patch(grid(vertices[PARTS["skin"]]), Material.SKIN, flat=True, tint=tint, gain=HOLLOWS),
    ]  # fmt: skip
    for name in ("ear_left", "ear_right"):
        gain = np.repeat([1.0, 0.72, 0.85], 12)
        patches.append(Patch(grid(vertices[PARTS[name]]), Material.SKIN, both_sides=True, gain=gain))
    return patches


def _disc(centre, radius, upper, lower, z):
    """A disc seen between the lids: its upper and lower edge (9, 3) each, cut at the lids' curves."""
    turn = np.linspace(-np.pi / 2, np.pi / 2, 9)
    x = np.clip(centre[0] + radius * np.sin(turn), upper[0, 0], upper[-1, 0])
    top, bottom = np.interp(x, upper[:, 0], upper[:, 1]), np.interp(x, lower[:, 0], lower[:, 1])
    half = radius * np.cos(turn)
    depth = np.interp(x, upper[:, 0], 0.5 * (upper[:, 2] + lower[:, 2])) + z
    bottom = np.maximum(bottom, top)
    edges = [np.clip(centre[1] + sign * half, top, bottom) for sign in (-1, 1)]
    return [np.stack([x, edge, depth], -1) for edge in edges]


def eye(vertices, side, traits):
    """One eye with its lids, back to front."""
    upper, lower = vertices[PARTS[f"eye_{side}"]]
    brow = vertices[PARTS[f"brow_{side}"]]
    outer = np.linspace(0, 1, 9)
    if side == "left":  # in the image from left to right for both eyes
        upper, lower, brow, outer = upper[::-1], lower[::-1], brow[:, ::-1], outer[::-1]
    pupil = vertices[PARTS[f"pupil_{side}"][0, 0]]
    bow = np.sin(np.pi * np.linspace(0, 1, 9))[:, None]
    down, out = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.6])
    patches = []
    if traits.makeup:
        patches.append((strip(upper + (brow[1] - upper) * (0.1 + 0.5 * bow), upper), Material.EYESHADOW))
    crease = upper - down * (1.2 + 3.4 * bow) + out
    patches.append((strip(crease - down * (0.3 + 0.6 * bow), crease), Material.FOLD))
    patches.append((strip(upper, lower), Material.SCLERA))
    for material, radius, z in ((Material.IRIS, 6.6, 0.2), (Material.PUPIL, 3.0, 0.3)):
        patches.append((strip(*_disc(pupil, radius, upper, lower, z)), material))
    patches.append((strip(*_disc(pupil + [2.2, -2.2, 0], 1.3, upper, lower, 0.4)), Material.GLINT))
    shade = np.minimum(upper[:, 1] + 1.8 * bow[:, 0], np.maximum(lower[:, 1], upper[:, 1]))
    patches.append((strip(upper, np.column_stack([upper[:, 0], shade, upper[:, 2]])), Material.SCLERA_SHADE))
    closed = max(traits.expression[f"blink_{side}"], 0)  # the lashes of both lids meet
    thick = (1 + closed) * (1.0 + (1.6 if traits.makeup else 0.7) * outer[:, None]) * (0.45 + 0.55 * bow)
    flick = -down * outer[:, None] ** 6 * (3.5 if traits.makeup else 0.8)
    patches.append((strip(upper - down * thick + out + flick, upper + down * 0.35 + out), Material.INK))
    patches.append((strip(lower - down * 0.2, lower + down * (0.4 + 0.5 * bow)), Material.FOLD))
    return [Patch(corners, material, f"eye_{side}", 1.0) for corners, material in patches]


def brow(vertices, side):
    """One brow, whose outline is that of its landmarks."""
    upper, lower = vertices[PARTS[f"brow_{side}"]]
    corners = strip(upper, lower) if side == "right" else strip(upper[::-1], lower[::-1])
    return [Patch(corners, Material.BROW, f"brow_{side}", 1.0)]


def mouth(vertices):
    """Cavity, teeth, tongue and lips."""
    top, inner_top, inner_bottom, bottom = vertices[PARTS["lips"]]
    gap = np.maximum(inner_bottom[:, 1] - inner_top[:, 1], 0)[:, None]
    down = np.array([0.0, 1.0, 0.0])
    patches = [(strip(inner_top, inner_bottom), Material.MOUTH)]
    if gap.max() > 2.5:
        tongue = inner_bottom - down * 0.4 * gap * np.minimum(gap / 14, 1)
        patches.append((strip(tongue, inner_bottom), Material.TONGUE))
        patches.append((strip(inner_top, inner_top + down * np.minimum(0.62 * gap, 8.5)), Material.TEETH))
    patches += [(strip(top, inner_top), Material.LIP_UPPER), (strip(inner_bottom, bottom), Material.LIP_LOWER)]
    if gap.max() <= 2.5:
        patches.append((strip(inner_top - down * 0.3, inner_bottom + down * 0.5), Material.INK))
    shadow = np.sin(np.pi * np.linspace(0, 1, 13))[3:10, None]
    patches.append((strip(bottom[3:10] + down * 0.2, bottom[3:10] + down * (0.4 + 1.0 * shadow)), Material.FOLD))
    return [Patch(corners, material, "mouth", 1.0) for corners, material in patches]


def nose_lines(vertices, traits):
    """Nostrils, the edges of the nose wings, and the nasolabial folds, which a smile deepens."""
    under = vertices[PARTS["nose"][0, 4:]]
    scale = (under[4, 0] - under[0, 0]) / 35.0
    patches = []
    for base, sign in ((under[0], -1), (under[4], 1)):
        turn = np.linspace(-0.45 * np.pi, 0.5 * np.pi, 8)
        aside = sign * scale * (5.0 * np.cos(turn) - 3.2)
        arc = base + np.stack([aside, 6.4 * np.sin(turn) - 5.4, 3 * np.cos(turn)], -1)
        thin = np.sin(np.linspace(0.25, np.pi, 8))[:, None] * 1.1
        edges = [arc, arc + np.array([sign, 0.4, 0]) * thin][::-sign]
        patches.append(Patch(strip(*edges), Material.FOLD, f"wing_{sign}", 1.5))
        turn = np.linspace(0, np.pi, 7)
        hole = base + np.array([-sign * 8.6 * scale, -0.6, 5.0])
        edges = [np.stack([4.3 * scale * -np.cos(turn), k * np.sin(turn), 0 * turn - k], -1) for k in (-1.9, 1.5)]
        patches.append(Patch(strip(hole + edges[0], hole + edges[1]), Material.NOSTRIL, f"nose_{sign}", 2.0))
        corner = vertices[PARTS["lips"][1, 0 if sign < 0 else 12]]
        t = np.linspace(0.06, 0.85, 7)[:, None]
        fold = base + (corner - base) * t + np.array([sign * 9.0, -2.5, -4.5]) * np.sin(np.pi * (0.2 + 0.8 * t))
        width = np.sin(np.pi * np.linspace(0.1, 1, 7))[:, None] * (0.5 + 1.2 * traits.expression["smile"])
        edges = [fold, fold + np.array([-sign * 1.0, 0.3, 0]) * width][::sign]
        patches.append(Patch(strip(*edges), Material.FOLD, f"fold_{sign}", 1.0))
    return patches


def body(rotate):
    """Shoulders and neck; they follow the head's rotation only partly."""
    turn = np.linspace(np.pi, 2 * np.pi, 13)
    ring = np.stack([np.cos(turn), 0 * turn, -np.sin(turn)], -1)  # image left, front, image right
    base = rotate @ np.array([0.0, 75.0, -100.0]) * [1, 1, 0.6] + [0, 85, -20]
    top = (np.array([0, 62.0, -108.0]) + ring * [47, 0, 44]) @ rotate.T
    neck = np.stack([top, 0.45 * top + 0.55 * (base + ring * [47, 0, 40]), base + ring * [56, 0, 40] + [0, 14, 0]])
    shoulder = np.linspace(-1, 1, 13)[:, None]
    collar = base + ring * [62, 30, 42]
    slope = base + np.concatenate([200 * shoulder, 55 + 45 * shoulder**4, 10 + 0 * shoulder], 1)
    hem = slope * [1.05, 1, 1] + [0, 420, 0]
    cloth = np.stack([collar, slope, hem])
    back = np.stack([collar - [0, 26, 60], collar])
    # The points are in the camera frame; p @ R is R^T p, which maps back to the head frame.
    return [
        Patch(grid(back) @ rotate, Material.CLOTH, "body", both_sides=True, gain=0.6, flat=True),
        Patch(grid(neck) @ rotate, Material.SKIN, "body", flat=True, gain=0.78),
        Patch(grid(cloth) @ rotate, Material.CLOTH, "body", both_sides=True, flat=True),
    ]


def features(vertices, traits):
    """Everything drawn on the skin."""
    patches = []
    if traits.occluder != "scarf":  # which covers nose and mouth
        patches += mouth(vertices) + nose_lines(vertices, traits)
    for side in ("left", "right"):
        patches += eye(vertices, side, traits) + brow(vertices, side)
    return patches
