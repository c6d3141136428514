"""The demo faces: positions of their landmarks, their labels, and the same bytes on every machine."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.sources.demo import mean_face, render, traits

ROOT = Path(__file__).parents[1]
# WFLW's flip pairs (0-based); 16, 51-54, 57, 79, 85, 90 and 94 are on the mid-line.
PAIRS = [(i, 32 - i) for i in range(16)] + [
    (33, 46), (34, 45), (35, 44), (36, 43), (37, 42), (38, 50), (39, 49), (40, 48), (41, 47),
    (60, 72), (61, 71), (62, 70), (63, 69), (64, 68), (65, 75), (66, 74), (67, 73), (55, 59), (56, 58),
    (76, 82), (77, 81), (78, 80), (87, 83), (86, 84), (88, 92), (89, 91), (95, 93), (96, 97),
]  # fmt: skip
N = 300  # faces in the statistics below


@cache
def _plain():
    """A neutral frontal face under soft light without an occluder."""
    sampled = traits.draw(0, "train", 0)
    return dataclasses.replace(
        sampled, yaw=0.0, pitch=0.0, roll=0.0, box=0.5, offset=(0.0, 0.0), identity={}, beard=0.0, hair_style="short",
        expression=dict.fromkeys(sampled.expression, 0.0), skin=(226, 176, 140), hair=(40, 28, 22), glasses=False,
        light="soft", light_from=(0.0, -0.6, 0.8), makeup=False, occluder=None, blur=None,
    )  # fmt: skip


def _face(**changes):
    plain = _plain()
    changes["expression"] = plain.expression | changes.get("expression", {})
    return render.paint_face(dataclasses.replace(plain, **changes))


@cache
def _sample(n=N):
    return [(traits.draw(2, "test", i), render.render(2, "test", i)) for i in range(n)]


def test_the_mean_shape_is_its_own_mirror_image_under_the_flip_pairs():
    mean = mean_face.MEAN[mean_face.LANDMARKS]
    flipped = np.arange(98)
    for a, b in PAIRS:
        flipped[a], flipped[b] = b, a
    np.testing.assert_array_equal(mean, mean[flipped] * [-1, 1, 1])
    middle = np.flatnonzero(flipped == np.arange(98))
    np.testing.assert_array_equal(middle, [16, 51, 52, 53, 54, 57, 79, 85, 90, 94])
    np.testing.assert_array_equal(mean[middle, 0], 0)


def test_the_proportions_are_those_of_real_faces():
    path = ROOT / "../shared/data/annotations/wflw/face_landmarks_wflw_test_attributes_union.csv"
    if not path.exists():
        pytest.skip("../shared/data is absent")
    real = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(4, 200)).reshape(-1, 98, 2)
    real = real[..., 0] + 1j * real[..., 1]
    real = (real - (real[:, [60]] + real[:, [72]]) / 2) / (real[:, [72]] - real[:, [60]]) * 100
    flipped = np.arange(98)
    for a, b in PAIRS:
        flipped[a], flipped[b] = b, a
    skew = np.abs(real + real.conj()[:, flipped]).mean(1)
    frontal = real[skew < np.quantile(skew, 0.25)].mean(0)
    ours = mean_face.MEAN[mean_face.LANDMARKS, 0] + 1j * mean_face.MEAN[mean_face.LANDMARKS, 1]
    distance = np.abs(ours - frontal)  # percent of the inter-ocular distance
    assert distance.mean() < 2.5
    assert distance.max() < 9  # at the lower inner lip: WFLW's mean mouth is slightly open


def test_landmarks_follow_wflws_order():
    points = _face().landmarks
    x, y = points.T
    rightwards = [range(33), range(33, 38), range(42, 47), range(55, 60), range(60, 65), range(68, 73), range(76, 83),
                  range(88, 93), [60, 96, 64], [68, 97, 72]]  # fmt: skip
    leftwards = [range(38, 42), range(47, 51), range(64, 68), range(72, 76), range(82, 88), range(92, 96)]
    downwards = [range(51, 55), [54, 57], [79, 90, 94, 85], [57, 79], [85, 16]]
    downwards += [(34, 41), (35, 40), (36, 39), (37, 38), (42, 50), (43, 49), (44, 48), (45, 47)]  # across the brows
    downwards += [(61, 67), (62, 66), (63, 65), (69, 75), (70, 74), (71, 73)]  # upper to lower lid
    for chain in rightwards:
        assert (np.diff(x[list(chain)]) > 0).all(), chain
    for chain in leftwards:
        assert (np.diff(x[list(chain)]) < 0).all(), chain
    for chain in downwards:
        assert (np.diff(y[list(chain)]) > 0).all(), chain
    assert y[:33].argmax() == 16


def _changed(before, after):
    """Bounding box (x0, y0, x1, y1) of the pixels that differ between two images."""
    y, x = np.nonzero(np.abs(before.astype(int) - after).max(2) > 24)
    return x.min(), y.min(), x.max(), y.max()


@pytest.mark.parametrize("yaw", [0, -25, 25])
def test_landmarks_are_on_the_features_they_name(monkeypatch, yaw):
    """A feature painted in another colour changes the pixels inside its landmarks' outline and no others."""
    outlines = {"BROW": [range(33, 42), range(42, 51)], "LIP_UPPER": [[76, 77, 78, 79, 80, 81, 82, 88, 89, 90, 91, 92]],
                "LIP_LOWER": [[76, 82, 83, 84, 85, 86, 87, 88, 92, 93, 94, 95]]}  # fmt: skip
    original = render._colours
    plain = _face(yaw=yaw)
    for name, parts in outlines.items():

        def colours(*args, name=name):
            base = original(*args)
            base[render.Material[name]] = (0, 255, 0)
            return base

        monkeypatch.setattr(render, "_colours", colours)
        repainted = _face(yaw=yaw)
        monkeypatch.setattr(render, "_colours", original)
        points = repainted.landmarks[np.concatenate([list(part) for part in parts])]
        expected = [*points.min(0), *points.max(0)]
        np.testing.assert_allclose(_changed(plain.image, repainted.image), expected, atol=1.6)


def test_pupils_are_the_darkest_spots_between_the_lids():
    for gaze in (-1.0, 0.0, 1.0):
        face = _face(expression={"gaze_x": gaze})
        grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
        for pupil, lids in ((96, range(60, 68)), (97, range(68, 76))):
            x, y = np.rint(face.landmarks[pupil]).astype(int)
            corners = np.rint(face.landmarks[[lids[0], lids[4]], 0]).astype(int)
            row = grey[y, corners[0] + 3 : corners[1] - 2].astype(int)
            dark = corners[0] + 3 + np.flatnonzero(row < 60)
            assert abs(dark.mean() - x) <= 2


def test_the_far_side_of_a_turned_face_is_hidden_and_the_near_side_is_not():
    for sign, near, far in ((1, range(0, 12), range(20, 30)), (-1, range(20, 32), range(3, 12))):
        visible = _face(yaw=sign * 60.0, hair_style="bald").visible
        assert visible[list(near)].all()
        assert not visible[list(far)].any()
    assert _face(hair_style="bald").visible.all()


def test_a_closed_eye_hides_its_pupil_only():
    face = _face(expression={"blink_left": 1.0}, hair_style="bald")
    assert np.flatnonzero(~face.visible).tolist() == [96]


@pytest.mark.parametrize("occluder", traits.OCCLUDERS)
def test_every_occluder_hides_landmarks(occluder):
    for texture in range(3):
        face = _face(occluder=occluder, texture=texture)
        assert "occlusion" in face.subsets
        assert (~face.visible).sum() >= render.COVERED
        np.testing.assert_array_equal(face.landmarks, _face(texture=texture).landmarks)


def test_the_subsets_have_wflws_shares():
    published = {"largepose": 326, "expression": 314, "illumination": 698, "makeup": 206, "occlusion": 736, "blur": 773}
    for name, count in published.items():
        share = np.mean([name in face.subsets for _, face in _sample()])
        assert abs(share - count / 2500) < 0.08  # three standard deviations of 300 draws at a share of 0.3


def test_labels_match_the_image():
    for sampled, face in _sample():
        large = abs(sampled.yaw) > 40 or abs(sampled.pitch) > 24 or abs(sampled.roll) > 30
        assert ("largepose" in face.subsets) == large
        covered = (~face.visible).sum()
        if "occlusion" in face.subsets:
            assert covered >= render.COVERED


def _skin(face):
    """Mean colour (3,) of the left and of the right cheek."""
    spots = (face.landmarks[[4, 28]] * 0.4 + face.landmarks[[55, 59]] * 0.6).astype(int)
    return np.array([face.image[y - 4 : y + 5, x - 4 : x + 5].mean((0, 1)) for x, y in spots])


def test_the_kinds_of_light_are_visible_on_the_skin():
    soft = _skin(_face())
    assert _skin(_face(light="dark")).mean() < 0.6 * soft.mean()
    assert _skin(_face(light="bright")).mean() > 1.2 * soft.mean()
    behind = _face(light="behind")
    assert _skin(behind).mean() < 0.6 * soft.mean()
    assert behind.image[:60, :40].mean() > _skin(behind).mean()
    left, right = _skin(_face(light="side", light_from=(-0.97, 0.0, 0.24))).mean(1)
    assert left > 1.8 * right
    for texture in range(5):
        cast = _skin(_face(light="cast", texture=texture)).mean(0) / soft.mean(0)
        assert cast.max() > 1.3 * cast.min()


def test_make_up_is_visible_on_lips_lids_and_cheeks():
    plain, made_up = _face(), _face(makeup=True)
    for indices in ([84, 85, 86, 94], [61, 62, 63, 34, 35, 36], [69, 70, 71, 43, 44, 45]):
        x, y = np.rint(plain.landmarks[indices].mean(0)).astype(int)
        area = np.s_[y - 1 : y + 2, x - 1 : x + 2]
        assert np.abs(made_up.image[area].mean((0, 1)) - plain.image[area].mean((0, 1))).max() > 20
    assert np.abs(_skin(made_up) - _skin(plain)).max() > 8


def _sharpness(face):
    """Laplacian energy within the landmarks' box, over the box's contrast."""
    (x0, y0), (x1, y1) = np.floor(face.landmarks.min(0)).astype(int), np.ceil(face.landmarks.max(0)).astype(int)
    grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)[y0:y1, x0:x1].astype(float)
    return cv2.Laplacian(grey, cv2.CV_64F).var() / grey.var()


def test_blurred_faces_are_less_sharp_than_all_others():
    blurred = [_sharpness(face) for _, face in _sample() if "blur" in face.subsets]
    others = [_sharpness(face) for _, face in _sample() if "blur" not in face.subsets]
    assert np.quantile(blurred, 0.95) < np.quantile(others, 0.05)


def test_the_crop_around_a_face_is_mostly_inside_the_image():
    for _, face in _sample():
        low, high = face.landmarks.min(0), face.landmarks.max(0)
        assert 0.35 * 256 < (high - low).max() < 256 / 2.1875
        assert (np.abs((low + high) / 2 - 127.5) < 0.05 * 256).all()
        assert face.image.shape == (256, 256, 3)
        assert face.image.dtype == np.uint8


def test_a_face_depends_only_on_its_seed_split_and_number():
    first = render.render(7, "train", 3)
    render.render(7, "test", 3)
    again = render.render(7, "train", 3)
    np.testing.assert_array_equal(first.image, again.image)
    for other in (render.render(8, "train", 3), render.render(7, "test", 3), render.render(7, "train", 4)):
        assert (first.image != other.image).any()


def test_wide_variety_widens_shapes_and_pictures_and_keeps_landmarks_on_the_features():
    plain, wide = ([render.render(11, "train", i, wide=wide) for i in range(60)] for wide in (False, True))

    def openings(faces):
        """Height of the mouth by its width."""
        points = np.array([face.landmarks for face in faces])
        return np.linalg.norm(points[:, 90] - points[:, 94], axis=1) / np.linalg.norm(
            points[:, 76] - points[:, 82], axis=1
        )

    def grain(face):
        """What a median filter takes from the background's corner."""
        corner = np.ascontiguousarray(face.image[:40, :40])
        return np.abs(corner.astype(int) - cv2.medianBlur(corner, 3)).mean()

    assert (openings(wide) > 0.1).mean() > 1.5 * (openings(plain) > 0.1).mean()  # more show their teeth
    assert np.mean([grain(face) for face in wide]) > 3 * np.mean([grain(face) for face in plain])
    frontal = traits.draw(0, "train", 0)
    face = render.paint_face(dataclasses.replace(_plain(), texture=frontal.texture), wide=True)
    untouched = render.paint_face(dataclasses.replace(_plain(), texture=frontal.texture))
    np.testing.assert_array_equal(face.landmarks, untouched.landmarks)


def test_landmarks_scale_with_the_image():
    small, large = render.render(1, "train", 5, size=128), render.render(1, "train", 5, size=256)
    np.testing.assert_allclose((small.landmarks + 0.5) * 2, large.landmarks + 0.5, atol=0.05)


def _digest(n=20):
    faces = [render.render(11, split, i) for split in ("train", "test") for i in range(n // 2)]
    faces += [render.render(11, "train", i, wide=True) for i in range(n // 2)]
    parts = [part.tobytes() for face in faces for part in (face.image, face.landmarks, face.visible)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize(
    "environment",
    [
        {"OMP_NUM_THREADS": "2", "OPENCV_FOR_THREADS_NUM": "2"},
        {"OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,AVX,FP16,SSE4.2,SSE4.1", "OPENCV_IPP": "disabled",
         "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR,X86_V3",
          "OPENBLAS_CORETYPE": "Nehalem", "JSIMD_FORCENONE": "1"},
    ],
    ids=["two threads", "an old processor"],
)  # fmt: skip
def test_the_bytes_depend_neither_on_the_processor_nor_on_threads(environment):
    code = "import tests.test_demo_faces as t; print(t._digest())"
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=os.environ | environment, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    assert process.stdout.strip() == _digest()
