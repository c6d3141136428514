"""Background, light, occluders held in front of the face, and blur."""

import cv2
import numpy as np

from stages.sources.demo.head import Material
from stages.sources.demo.paint import OVERSAMPLING

# Per kind of light: ambient and diffuse light (256 = 1, RGB), the background's gain (256 = 1).
LIGHTS = {
    "soft": ((130, 130, 134), (150, 148, 142), 256),
    "dark": ((36, 38, 46), (64, 62, 58), 70),
    "bright": ((190, 188, 182), (260, 256, 244), 400),
    "side": ((28, 30, 40), (310, 300, 280), 130),
    "behind": ((56, 52, 54), (48, 48, 52), 400),
}
CASTS = (
    ((60, 76, 150), (110, 135, 255)),
    ((150, 72, 60), (290, 150, 90)),
    ((62, 120, 76), (130, 250, 135)),
    ((120, 62, 132), (250, 115, 235)),
    ((130, 110, 46), (290, 225, 90)),
)


def light(traits, rng):
    """Ambient (3,), diffuse (3,) and the background's gain, in 1/256."""
    if traits.light == "cast":
        ambient, diffuse = CASTS[rng.integers(len(CASTS))]
        return np.array(ambient), np.array(diffuse), 150
    ambient, diffuse, gain = LIGHTS[traits.light]
    return np.array(ambient), np.array(diffuse), gain


def background(size, gain, rng):
    """(size, size, 3) a soft background: a gradient, sometimes with blurred blocks, discs or another head."""
    corners = rng.integers(30, 230, (2, 2, 3)).astype(np.uint8)
    small = cv2.resize(corners, (64, 64), interpolation=cv2.INTER_LINEAR_EXACT)
    kind = rng.integers(4)
    if kind in (1, 2):
        for _ in range(int(rng.integers(4, 10))):
            x, y, w, h = (int(v) for v in rng.integers((-8, -8, 4, 4), (64, 64, 28, 40)))
            tone = [int(v) for v in rng.integers(20, 240, 3)]
            if kind == 1:
                cv2.rectangle(small, (x, y), (x + w, y + h), tone, -1)
            else:
                cv2.circle(small, (x, y), w // 2, tone, -1)
    if rng.random() < 0.15:
        x, y, r = int(rng.choice([6, 58])), int(rng.integers(20, 44)), int(rng.integers(6, 10))
        tone = int(rng.integers(90, 230))
        cv2.rectangle(small, (x - 2 * r, y + 2 * r), (x + 2 * r, 64), [int(v) for v in rng.integers(20, 240, 3)], -1)
        cv2.ellipse(small, (x, y - 2), (r + 2, r + 4), 0, 0, 360, [int(v) for v in rng.integers(10, 90, 3)], -1)
        cv2.ellipse(small, (x, y), (r, r + 4), 0, 0, 360, (tone, tone * 3 // 4, tone * 5 // 8), -1)
    small = cv2.GaussianBlur(small, (5, 5), 0)
    grey = small.astype(np.uint16).sum(2, keepdims=True) // 3
    small = (small * np.uint16(2) + 3 * grey) // 5  # muted, so that the face stands out
    small = np.minimum(small.astype(np.uint32) * gain // 256, 255).astype(np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)


def _line(canvas, points, width, material, shade, depth):
    """A thick line through points (n, 2), rounded by a lighter core; points and `width` in image px."""
    pixels = np.rint((OVERSAMPLING * (points + 0.5) - 0.5) * 16).astype(np.int32)
    for share, gain in ((1.0, 0.72), (0.72, 0.92), (0.4, 1.0)):
        thick = max(1, int(round(OVERSAMPLING * width * share)))
        tone = (int(material), int(shade * gain), depth, 128)
        cv2.polylines(canvas, [pixels], False, tone, thick, cv2.LINE_8, 4)


def _polygon(canvas, points, material, shade, depth):
    pixels = np.rint((OVERSAMPLING * (points + 0.5) - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [pixels], (int(material), shade, depth, 128), cv2.LINE_8, 4)


def draw_occluder(canvas, occluder, landmarks, unit, rng):
    """Paint an occluder over the landmarks that it is meant to hide. `unit`: px per unit of the head frame."""
    side = int(rng.choice([-1, 1]))
    far = landmarks[0 if side < 0 else 32]
    mouth, chin, nose = landmarks[76:88].mean(0), landmarks[16], landmarks[57]
    eye = landmarks[60:68].mean(0) if side < 0 else landmarks[68:76].mean(0)
    if occluder == "hand_mouth":
        _hand(canvas, 0.75 * mouth + 0.25 * nose, side, -0.15, unit, rng)
    elif occluder == "hand_cheek":
        _hand(canvas, 0.45 * far + 0.3 * mouth + 0.25 * chin, side, -1.1, unit, rng)
    elif occluder == "hand_eye":
        _hand(canvas, eye, side, -0.7, unit, rng)
    elif occluder == "cup":
        top, shift = mouth + [0, -6 * unit], rng.uniform(-6, 6) * unit
        outline = np.array([[-34, 0], [34, 0], [27, 88], [-27, 88]]) * unit + top + [shift, 0]
        _line(canvas, top + np.array([[30 * side, 22], [52 * side, 26], [48 * side, 60], [27 * side, 62]]) * unit,
              8 * unit, Material.TRIM, 150, 244)  # fmt: skip
        _polygon(canvas, outline, Material.OBJECT, 190, 248)
        left, right = outline[[0, 3]], outline[[1, 2]]  # top and bottom of each side
        band = np.array([[0.75, 0.25], [0.45, 0.55]])  # shares of top and bottom at the band's upper and lower edge
        _polygon(canvas, np.concatenate([band @ left, (band @ right)[::-1]]), Material.TRIM, 200, 248)
        _polygon(canvas, np.concatenate([left, (0.8 * left + 0.2 * right)[::-1]]), Material.OBJECT, 240, 248)
        _hand(canvas, top + [side * 30 * unit, 52 * unit], side, -0.1, unit * 0.8, rng)
    elif occluder == "microphone":
        head = mouth + np.array([side * rng.uniform(0, 10), rng.uniform(6, 14)]) * unit
        stick = np.stack([head, head + np.array([side * 40, 150]) * unit])
        _line(canvas, stick, 20 * unit, Material.TRIM, 130, 244)
        _line(canvas, np.stack([head, head + [0.01, 0]]), 48 * unit, Material.OBJECT, 170, 248)
        _hand(canvas, stick[1] * 0.55 + stick[0] * 0.45, side, -0.1, unit * 0.8, rng)
    elif occluder == "phone":
        centre = 0.5 * (far + eye) + np.array([0, 24]) * unit
        lean = rng.uniform(-0.3, 0.3)
        across, along = np.array([np.cos(lean), np.sin(lean)]), np.array([-np.sin(lean), np.cos(lean)])
        outline = np.array([[-30, -58], [30, -58], [30, 58], [-30, 58]])
        for share, material in ((1.0, Material.OBJECT), (0.84, Material.TRIM)):
            corners = centre + (outline[:, :1] * across + outline[:, 1:] * along) * unit * share
            _polygon(canvas, corners, material, 150 if share == 1 else 210, 248)
        _hand(canvas, centre + [side * 24 * unit, 36 * unit], side, -0.5, unit * 0.8, rng)


def _hand(canvas, centre, side, lean, unit, rng):
    """A hand from below on the given side (-1: image left), its fingers across `centre`, turned by `lean` (radians)."""
    angle = lean + rng.uniform(-0.2, 0.2)
    along = np.array([-side * np.cos(angle), np.sin(angle)])  # from the knuckles to the finger tips
    across = np.array([along[1], -along[0]]) * side
    across = across if across[1] > 0 else -across
    knuckles = centre - along * 26 * unit
    wrist = knuckles + np.array([side * 45, 95]) * unit
    shade = int(rng.integers(165, 215))
    _line(canvas, np.stack([wrist, wrist + np.array([side * 40, 200]) * unit]), 52 * unit, Material.FABRIC, shade, 240)
    _line(canvas, np.stack([wrist, knuckles + across * 12 * unit]), 46 * unit, Material.HAND, shade - 12, 241)
    palm = np.stack([knuckles - across * 20 * unit, knuckles + across * 24 * unit])
    _line(canvas, palm, 34 * unit, Material.HAND, shade, 242)
    for i, length in enumerate((50, 58, 55, 43)):
        base = knuckles + across * (-25 + 16.5 * i) * unit
        bend = across * rng.uniform(-3, 3) * unit
        finger = np.stack([base, base + along * 0.5 * length * unit + bend, base + along * length * unit])
        _line(canvas, finger, 15 * unit, Material.HAND, shade + 10, 246 + 3 * (i % 2))


def lens(image, blur, amount, rng):
    """Apply defocus blur, motion blur or a low resolution; `amount` 0 to 1."""
    size = len(image)
    if blur == "gaussian":
        kernel = 2 * int(round((5 + 6 * amount) * size / 256)) + 1
        return cv2.GaussianBlur(image, (kernel, kernel), 0)
    if blur == "motion":
        steps = int(round((9 + 9 * amount) * size / 256))
        turn = rng.uniform(0, np.pi)
        along = np.arange(-(steps // 2), steps // 2 + 1)[:, None]
        shifts = np.unique(np.rint(along * [np.cos(turn), np.sin(turn)]).astype(int), axis=0)
        padded = cv2.copyMakeBorder(image, steps, steps, steps, steps, cv2.BORDER_REPLICATE).astype(np.uint16)
        total = sum(padded[steps + dy : steps + dy + size, steps + dx : steps + dx + size] for dx, dy in shifts)
        return (total // len(shifts)).astype(np.uint8)
    if blur == "coarse":
        small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        if amount > 0.5:
            small = cv2.GaussianBlur(small, (3, 3), 0)
        return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)
    return image
