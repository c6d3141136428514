"""Flip pairs that do not fit the faces are refused by name; those of the five schemes fit their faces."""

from pathlib import Path

import numpy as np
import pytest

from stages.config.dataset import DemoForm
from stages.config.schemes import load_scheme
from stages.data.geometry import in_boxes
from stages.data.scheme import DatasetScheme
from stages.sources import csv_files, drawn
from stages.sources.assemble import split_faces
from stages.sources.scheme_checks import scheme_findings
from stages.sources.symmetry import flip_pair_findings

SHARED = Path(__file__).parents[1] / "../shared/data"
needs_samples = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
WFLW = "annotations/wflw/face_landmarks_wflw_test_attributes_union.csv"
FILES = {
    "wflw": WFLW, "300w": "annotations/300w/face_landmarks_300w_valid.csv", "aflw": WFLW, "cofw": WFLW,
    "lfpw": "lfpw/face_landmarks_lfpw_train.csv", "private": "annotations/300w/face_landmarks_300w_test.csv",
}  # fmt: skip
SCHEMES = {"lfpw": "300w", "private": "300w"}
# The landmarks of AFLW and COFW among WFLW's 98, or near them: there are only two faces of each in the samples
OF_WFLW = {
    "aflw": [33, 40, 38, 50, 48, 46, 60, 96, 64, 68, 97, 72, 55, 57, 59, 76, 94, 82, 16],
    "cofw": [33, 46, 38, 50, 35, 40, 44, 48, 60, 72, 64, 68, 62, 66, 70, 74, 96, 97, 55, 59, 54, 57, 76, 82, 79, 90, 94,
             85, 16],
}  # fmt: skip


def real(name, n=None):
    """Shapes of (n) faces of a benchmark in box coordinates, and the pairs of its scheme."""
    scheme = load_scheme(SCHEMES.get(name, name))
    rows = csv_files.read_rows(SHARED / FILES[name], 98 if FILES[name] == WFLW else scheme.count)
    shapes = in_boxes(rows.landmarks, *rows.box)[:, OF_WFLW.get(name, slice(None))]
    chosen = np.random.default_rng(1).permutation(len(shapes))[: n or len(shapes)]
    return shapes[chosen], [list(pair) for pair in scheme.flip_pairs]


def named_pairs(fault):
    """The list that a message proposes."""
    return {frozenset(map(int, pair.split(", "))) for pair in fault.split("it is [[")[1].rstrip("]").split("], [")}


@needs_samples
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("n", [30, 200, None])
def test_the_pairs_of_a_benchmark_fit_its_faces(name, n):
    assert flip_pair_findings(*real(name, n)) == ([], [])


@needs_samples
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mistake", ["empty", "one too many", "one too few"])
def test_a_wrong_list_is_refused_and_the_right_one_named(name, mistake):
    shapes, pairs = real(name)
    step = 1 if mistake == "one too many" else -1
    wrong = [[a + step, b + step] for a, b in pairs if max(a, b) + step < shapes.shape[1] and min(a, b) + step >= 0]
    (fault,), warnings = flip_pair_findings(shapes, [] if mistake == "empty" else wrong)
    assert warnings == []
    assert ("flip_pairs is empty" if mistake == "empty" else "flip_pairs does not fit the landmarks") in fault
    assert named_pairs(fault) == set(
        map(frozenset, pairs if mistake != "one too many" else [[a - 1, b - 1] for a, b in wrong])
    )
    assert ("counted from 1" in fault) == (mistake == "one too many")


@needs_samples
@pytest.mark.parametrize("name", FILES)
def test_two_pairs_that_are_exchanged_are_named(name):
    shapes, pairs = real(name)
    for i in range(len(pairs) - 1):
        (a, b), (c, d) = pairs[i : i + 2]
        faults, _ = flip_pair_findings(shapes, [*pairs[:i], [a, d], [c, b], *pairs[i + 2 :]])
        if "does not fit" in faults[0]:  # of jaw and brows
            assert named_pairs(faults[0]) == set(map(frozenset, pairs))
        else:
            assert [fault.split(" is mirrored")[0] for fault in faults] == [
                f"flip_pairs: landmark {k}" for k in sorted([a, b, c, d])
            ]


@needs_samples
def test_a_pair_that_is_left_out_is_named():
    shapes, pairs = real("300w")
    a, b = pairs.pop(17)
    assert flip_pair_findings(shapes, pairs)[0] == [
        f"flip_pairs: landmark {one} is mirrored to landmark {one}, and in the mean face to {other}"
        for one, other in sorted([(a, b), (b, a)])
    ]


@needs_samples
def test_large_poses_and_few_faces_are_no_reason_to_refuse():
    rows = csv_files.read_rows(SHARED / WFLW, 98)
    shapes, pairs = in_boxes(rows.landmarks, *rows.box), load_scheme("wflw").flip_pairs
    middle = np.abs(shapes[..., 0].mean(1))
    turned = shapes[np.argsort(middle)[-300:]]  # whose landmarks lie on one side of the box
    rng = np.random.default_rng(0)
    for n in (2, 5, 10, 30, 100, 300):
        for _ in range(10):
            assert flip_pair_findings(turned[rng.permutation(300)[:n]], pairs)[0] == []
    faults, (warning,) = flip_pair_findings(shapes[:8], [])
    assert faults == []


@needs_samples
def test_landmarks_that_are_not_annotated_leave_the_judgement_as_it_is():
    shapes, pairs = real("300w", 300)
    shapes[np.random.default_rng(2).random(shapes.shape[:2]) < 0.1] = np.nan
    assert flip_pair_findings(shapes, pairs) == ([], [])
    assert len(flip_pair_findings(shapes, [])[0]) == 1


def test_the_pairs_of_the_drawn_faces_fit_them(tmp_path):
    faces, _ = drawn.read(DemoForm(seed=1, train=40, test=0, size=64), tmp_path, tmp_path, 98, ("train",))
    shapes = in_boxes(faces.landmarks, faces.center, faces.side)
    assert flip_pair_findings(shapes, load_scheme("wflw").flip_pairs) == ([], [])
    assert flip_pair_findings(shapes, []) != ([], [])


def test_landmarks_on_the_midline_need_no_pairs_and_one_landmark_none():
    midline = np.tile([[0.0, -0.3], [0, 0.1], [0, 0.4]], (40, 1, 1)) + np.random.default_rng(0).normal(
        0, 0.01, (40, 3, 2)
    )
    assert flip_pair_findings(midline, []) == ([], [])
    assert flip_pair_findings(midline[:, :1], []) == ([], [])
    eyes = np.array([[-0.4, 0.0], [0.4, 0]]) + np.random.default_rng(0).normal(0, 0.01, (40, 2, 2))
    assert flip_pair_findings(eyes, [[0, 1]]) == ([], [])
    (fault,), _ = flip_pair_findings(eyes, [])
    assert fault.endswith("By the mean face it is [[0, 1]]")


def test_something_that_has_no_mirror_symmetry_is_warned_of_and_not_refused():
    """A spiral, as the outline of an ear: no pairs are right for it."""
    angle = np.linspace(0, 9, 30)
    spiral = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1) / 20
    shapes = spiral + np.random.default_rng(0).normal(0, 0.01, (40, 30, 2))
    faults, warnings = flip_pair_findings(shapes, [])
    assert faults == []
    assert "cannot be confirmed" in warnings[0]


def faces_of_three():
    points = np.tile([[60.0, 80], [100, 80], [80, 120]], (12, 1, 1)) + np.random.default_rng(0).normal(0, 1, (12, 3, 2))
    return split_faces("train", [f"{i}.jpg" for i in range(12)], points)


def scheme_of_three(**fields):
    return DatasetScheme(**{
        "count": 3, "flip_pairs": [[0, 1]], "groups": {"eyes": [0, 1], "mouth": [2]}, "inter_ocular": [0, 1],
        "scheme": "three", "normaliser": "inter_ocular"} | fields)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ({"groups": {"eyes": [0, 1]}}, "groups name 2 of 3 landmarks (2 is in none)"),
        ({"groups": {"eyes": [0], "mouth": [1, 2]}}, "group eyes holds landmark 0 and not 1, which mirrors it"),
        ({"inter_ocular": [0, 2]}, "inter_ocular: by flip_pairs the mirror of [0] is [1], not [2]"),
        ({"inter_pupil": [[0, 2], [1, 2]]}, "inter_pupil: the landmarks [0, 2] are spread 2.0 times as wide as"),
    ],
)
def test_groups_and_eyes_of_another_scheme_are_warned_of(fields, warning):
    assert scheme_findings(faces_of_three(), scheme_of_three()) == ([], [])
    faults, warnings = scheme_findings(faces_of_three(), scheme_of_three(**fields))
    assert faults == []
    assert warnings[0].startswith(f"params/schemes/three.yaml: {warning}")


@pytest.mark.parametrize("name", ["wflw", "300w", "cofw", "aflw"])
@needs_samples
def test_nothing_is_said_of_the_schemes_of_the_benchmarks(name):
    scheme = load_scheme(name)
    shapes, _ = real(name)
    shapes = 100 + 100 * shapes
    faces = split_faces("train", [f"{i}.jpg" for i in range(len(shapes))], shapes)
    content = scheme.model_dump() | {"scheme": name, "normaliser": "box_side"}
    assert scheme_findings(faces, DatasetScheme(**content)) == ([], [])
