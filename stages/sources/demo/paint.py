"""From patches to pixels: projection, painter's algorithm, materials and shading.

The bytes are the same on every machine: floating-point geometry is rounded to 1/16 px before it is drawn, and
everything after that is integer arithmetic (filled polygons, tables, 8-bit blurs).

The canvas is twice the image's side and has four 8-bit channels: material, shade, depth (larger is nearer) and tint.
"""

import cv2
import numpy as np

from stages.sources.demo.head import COVERING, Material
from stages.sources.demo.mean_face import half_width

OVERSAMPLING = 2
SUBPIXEL = 4  # bits
# Rows of the palette: one per material, then one per level of the skin's tint.
FIRST_LEVEL, LEVELS = 64, 32


def place(landmarks, size, box, offset):
    """Scale (px per unit) and shift (2,) that place the box of the posed `landmarks` (K, 2) in the image."""
    low, high = landmarks.min(0), landmarks.max(0)
    scale = box * size / (high - low).max()
    return scale, (size - 1) / 2 + np.asarray(offset) * size - scale * (low + high) / 2


def _smooth_normals(centres):
    """Normals (n, 3) of a smooth head without features at points (n, 3)."""
    across = centres[:, 0] / np.maximum(half_width(centres[:, 1]), 20)
    normals = np.stack([0.95 * across, 0.006 * (centres[:, 1] - 20), np.sqrt(np.maximum(1.02 - across**2, 0.05))], -1)
    return normals / np.sqrt((normals**2).sum(1, keepdims=True))


def depth_byte(depth):
    """The canvas's value for a depth in units; 0 is the background, 240 and above are for occluders."""
    return np.clip(np.rint(128 + 0.5 * depth), 1, 239)


def draw(canvas, patches, rotate, scale, shift, light):
    """Paint patches onto the canvas, the farthest first.

    `rotate` (3, 3) head to camera frame; `scale`, `shift` (2,) camera frame to image px; `light` (3,) towards the lamp.
    """
    corners = np.concatenate([patch.corners for patch in patches])
    counts = [len(patch.corners) for patch in patches]

    def per_patch(name):  # of attributes with one value per patch
        return np.repeat([getattr(patch, name) for patch in patches], counts)

    def per_quadrilateral(name):  # of attributes with one value per patch or per quadrilateral
        return np.concatenate([np.full(n, getattr(p, name), float) for p, n in zip(patches, counts, strict=True)])

    posed = corners @ rotate.T
    edge_a = posed[:, 1] - posed[:, 0] + posed[:, 2] - posed[:, 3]
    edge_b = posed[:, 3] - posed[:, 0] + posed[:, 2] - posed[:, 1]
    normal = np.cross(edge_a, edge_b)
    front = (
        normal[:, 2] > 1e-6
    )  # rounding must not decide whether a patch without area is drawn (the eyeball behind a closed lid)
    normal /= np.sqrt((normal**2).sum(1, keepdims=True)) + 1e-9
    normal *= np.where(front, 1, -1)[:, None]
    flat = per_patch("flat")
    normal = np.where(flat[:, None], normal, _smooth_normals(corners.mean(1)) @ rotate.T)
    facing = np.clip((normal @ light + 0.35) / 1.35, 0, 1)
    shade = np.clip(235 * facing * per_quadrilateral("gain") + 18, 0, 255)

    depth = posed[..., 2].mean(1)
    key = depth + per_patch("lift")
    group = per_patch("group")
    nearest = posed[..., 2].max(1) + per_patch("lift")
    for name in sorted({patch.group for patch in patches} - {""}):
        key[group == name] = -1e6 if name == "body" else nearest[group == name].max()
    order = np.flatnonzero(front | per_patch("both_sides"))
    order = order[np.argsort(np.round(key[order], 6), kind="stable")]
    # Pixel centres: image px p is at OVERSAMPLING * (p + 1/2) - 1/2 on the canvas.
    px = OVERSAMPLING * (posed[order, :, :2] * scale + shift + 0.5) - 0.5
    px = np.rint(px * 2**SUBPIXEL).astype(np.int32)
    colours = np.stack(
        [per_patch("material"), np.rint(shade), depth_byte(depth), np.rint(per_quadrilateral("tint"))], -1
    )[order].tolist()  # fmt: skip
    for polygon, colour in zip(px, colours, strict=True):
        cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_8, SUBPIXEL)


def visible(canvas, landmarks, depth, slack):
    """(K,) whether the canvas shows each landmark (K, 2; image px) at its own `depth` (K,), within `slack`."""
    pixel = np.rint(OVERSAMPLING * (landmarks + 0.5) - 0.5).astype(int)
    inside = ((pixel >= 0) & (pixel < len(canvas))).all(1)
    x, y = np.clip(pixel, 0, len(canvas) - 1).T
    nearest = canvas[y, x, 2]
    return inside & (nearest <= depth_byte(depth) + 0.5 * slack)


def covered(canvas, landmarks):
    """(K,) whether hair, a hand or an object is painted over each landmark."""
    pixel = np.rint(OVERSAMPLING * (landmarks + 0.5) - 0.5).astype(int)
    x, y = np.clip(pixel, 0, len(canvas) - 1).T
    return canvas[y, x, 0] >= COVERING


def palette(base, ambient, diffuse):
    """(FIRST_LEVEL + LEVELS, 256) packed RGBA: the colour of each material under each shade.

    `base` (FIRST_LEVEL + LEVELS, 3) colours; `ambient`, `diffuse` (3,) light as integers, 256 = 1.
    """
    shade = np.arange(256)[None, :, None]
    light = ambient + diffuse * shade // 255
    colours = np.clip(base[:, None, :] * light // 256, 0, 255)
    rgba = np.concatenate([colours, np.full((*colours.shape[:2], 1), 255)], -1).astype(np.uint8)
    rgba[0] = 0
    return np.ascontiguousarray(rgba).view("<u4")[..., 0]


def skin_levels(skin, blush, beard):
    """(LEVELS, 3) skin colours from blushing to plain to bearded."""
    level = np.arange(LEVELS)[:, None]
    half = LEVELS // 2
    rosy, bearded = np.clip(half - level, 0, half), np.clip(level - half, 0, half)
    skin, blush, beard = (np.array(colour)[None] for colour in (skin, blush, beard))
    return (skin * (20 * half - 11 * rosy - 17 * bearded) + 11 * rosy * blush + 17 * bearded * beard) // (20 * half)


def colour(canvas, table, rng):
    """(size, size, 4) premultiplied RGBA of the canvas: outlines inked, edges smoothed by the oversampling."""
    material, shade, depth, tint = cv2.split(canvas)
    ring = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    jump = cv2.subtract(cv2.dilate(depth, ring), depth)  # large just behind an edge
    kernel = 2 * (len(canvas) // 96) + 1
    shade = cv2.GaussianBlur(shade, (kernel, kernel), 0)
    shade = cv2.subtract(shade, cv2.min(cv2.multiply(cv2.subtract(jump, 7), 12), 110))
    grain = np.frombuffer(rng.bytes(shade.size), np.uint8).reshape(shade.shape)
    shade = cv2.add(shade, grain >> 5)
    tint = cv2.resize(tint, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    tint = cv2.GaussianBlur(tint, (kernel, kernel), 0)
    tint = cv2.resize(tint, shade.shape[::-1], interpolation=cv2.INTER_LINEAR_EXACT)
    row = np.where(material == Material.SKIN, FIRST_LEVEL + (tint >> 3), material)
    rgba = np.take(table.ravel(), row.astype(np.int32) * 256 + shade).view(np.uint8).reshape(canvas.shape)
    return cv2.resize(rgba, None, fx=1 / OVERSAMPLING, fy=1 / OVERSAMPLING, interpolation=cv2.INTER_AREA)


def over(front, back):
    """Premultiplied RGBA `front` composited over the RGB image `back`."""
    clear = 255 - front[..., 3:].astype(np.uint16)
    return (front[..., :3] + ((back * clear + 127) // 255)).astype(np.uint8)
