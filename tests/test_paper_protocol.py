"""The published protocol against the published code's values, and the round-trip error of either protocol."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.model import heatmap, paper

SHARED = Path(__file__).parents[1] / "../shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the samples and reference values are not available")

SIGMA = {"wflw": 1.5, "300w": 1.0}
EYES = {"wflw": (60, 72), "300w": (36, 45)}


@dataclass
class Rows:
    """A published CSV file: `image` names, `center` (N, 2), `scale` (N,; × 1.25), `landmarks` (N, K, 2)."""

    image: list[str]
    center: Tensor
    scale: Tensor
    landmarks: Tensor

    def batches(self) -> list[slice]:
        return [slice(start, start + 16) for start in range(0, len(self.image), 16)]

    def nme(self, points: Tensor, eyes: tuple[int, int]) -> Tensor:
        """(N,) the NME of `points`, normalised by the distance of the outer eye corners."""
        inter_ocular = (self.landmarks[:, eyes[0]] - self.landmarks[:, eyes[1]]).norm(dim=-1)
        return (points - self.landmarks).norm(dim=-1).mean(1) / inter_ocular


def rows(path: Path) -> Rows:
    table = pd.read_csv(path)
    center, landmarks = table[["center_w", "center_h"]], table.filter(regex="original").to_numpy(np.float64)
    return Rows(
        image=list(table.image_name),
        center=torch.from_numpy(center.to_numpy(np.float64)),
        scale=torch.from_numpy(table.scale.to_numpy(np.float64) * 1.25),
        landmarks=torch.from_numpy(landmarks.reshape(len(table), -1, 2)),
    )


@pytest.fixture(params=["wflw", "300w"])
def name(request) -> str:
    return request.param


@pytest.fixture
def faces(name) -> Rows:
    return rows(SHARED / f"data/samples/{name}/face_landmarks_{name}_test.csv")


@pytest.fixture
def published(name):
    return np.load(SHARED / f"reference/paper_protocol/{name}.npz")


# ---- against the published code's values


@needs_shared
def test_every_pixel_of_a_crop_equals_the_published_one(name, faces, published):
    for file, center, scale, expected in zip(
        faces.image, faces.center.numpy(), faces.scale.tolist(), published["crop"], strict=True
    ):
        image = np.asarray(Image.open(SHARED / f"data/samples/{name}/images/{file}").convert("RGB"))
        assert np.array_equal(paper.crop(image, center, scale, shrink_stretches=True), expected)


@needs_shared
def test_every_target_equals_the_published_one(name, faces, published):
    maps = paper.targets(faces.landmarks, faces.center, faces.scale, SIGMA[name])
    assert maps.dtype == torch.float32
    assert np.array_equal(maps.half().numpy(), published["target"])


@needs_shared
def test_every_decoded_point_and_nme_equals_the_published_one(name, faces, published):
    points, scores = paper.decode(torch.from_numpy(published["target"]), faces.center, faces.scale)
    assert np.array_equal(points.numpy(), published["decoded"])
    assert (scores == 1).all()
    np.testing.assert_allclose(faces.nme(points, EYES[name]).numpy(), published["nme"], atol=1e-6)


# ---- the rules one by one


def test_a_peak_near_the_low_border_is_one_cell_too_far():
    cells = torch.tensor([[[0.9, 30.0], [4.0, 30.0], [5.0, 30.0], [63.9, 30.0]]])
    peaks = paper.targets_at(cells, sigma=1.5).amax(2).argmax(-1)
    assert peaks.tolist() == [[1, 5, 5, 63]]
    peaks = paper.targets_at(cells, sigma=1.0).amax(2).argmax(-1)
    assert peaks.tolist() == [[0, 4, 5, 63]]


def test_a_patch_has_ten_samples_for_sigma_1_5_and_seven_for_1():
    for sigma, samples in ((1.5, range(25, 35)), (1.0, range(27, 34))):
        columns = paper.targets_at(torch.tensor([[[30.7, 30.2]]]), sigma)[0, 0].amax(0).nonzero().flatten()
        assert columns.tolist() == list(samples)


def test_a_landmark_outside_the_map_or_with_y_not_above_zero_has_an_empty_map():
    center, scale = torch.tensor([[10.0, 10.0]], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    landmarks = torch.tensor([[[10.0, 10.0], [10.0, 0.0], [10.0, -3.0], [200.0, 10.0]]], dtype=torch.float64)
    peaks = paper.targets(landmarks, center, scale, sigma=1.5).amax((2, 3))
    assert peaks.tolist() == [[1, 0, 0, 0]]


def decoded(cells: dict[tuple[int, int], float]) -> list[float]:
    """The decoded point of a map with `cells` {(x, y): value}, where a cell is 100 px."""
    maps = torch.zeros(1, 1, 64, 64)
    for (x, y), value in cells.items():
        maps[0, 0, y, x] = value
    return paper.decode(maps, torch.tensor([[3200.0, 3200.0]]), torch.tensor([32.0]))[0][0, 0].tolist()


def test_a_maximum_shifts_a_quarter_cell_towards_its_larger_neighbour():
    assert decoded({(20, 30): 1.0}) == [2051, 3051]  # half a cell is added, then one pixel
    assert decoded({(20, 30): 1.0, (21, 30): 0.2, (20, 29): 0.1}) == [2076, 3026]


def test_a_maximum_at_the_border_does_not_shift():
    assert decoded({(63, 30): 1.0, (63, 31): 0.2}) == [6351, 3051]
    assert decoded({(20, 0): 1.0, (21, 0): 0.2}) == [2051, 51]


def test_a_map_without_a_value_above_zero_decodes_before_the_first_cell():
    assert decoded({}) == [-49, -49]
    assert decoded({(x, y): -1.0 for x in range(64) for y in range(64) if (x, y) != (9, 9)}) == [-49, -49]


def test_a_crop_is_black_outside_the_image_and_stretched_to_the_full_range():
    image = np.full((40, 60, 3), 100, np.uint8)
    image[20:, :] = 60
    crop = paper.crop(image, np.array([0.0, 20.0]), 0.4, shrink_stretches=True)
    assert crop.shape == (256, 256, 3)
    assert (crop[:, :120] == 0).all()
    assert np.unique(crop[100:110, 140:200]).tolist() == [255]
    assert np.unique(crop[150:160, 140:200]).tolist() == [153]  # 60 of 0 … 100


def test_a_crop_outside_the_image_is_black():
    image = np.full((40, 60, 3), 100, np.uint8)
    assert not paper.crop(image, np.array([-500.0, 20.0]), 0.4, shrink_stretches=True).any()


def test_the_contrast_of_each_image_of_a_batch_is_stretched_on_its_own():
    images = torch.stack([torch.linspace(10, 60, 48), torch.linspace(0, 255, 48), torch.full((48,), 7.0)])
    stretched = paper.stretch(images.view(3, 3, 4, 4)).view(3, -1)
    torch.testing.assert_close(stretched[0], torch.linspace(0, 255, 48))
    torch.testing.assert_close(stretched[1], images[1])
    assert (stretched[2] == 0).all()


# ---- encoding and decoding the landmarks of 3255 published faces

ANNOTATIONS = {
    "300w/face_landmarks_300w_valid.csv": 689,
    "300w/face_landmarks_300w_test.csv": 600,
    "wflw/face_landmarks_wflw_test_attributes_union.csv": 1966,
}


@pytest.fixture(params=ANNOTATIONS, ids=lambda path: Path(path).stem)
def annotated(request) -> tuple[str, Rows]:
    faces = rows(SHARED / "data/annotations" / request.param)
    assert len(faces.image) == ANNOTATIONS[request.param]
    return Path(request.param).parent.name, faces


@needs_shared
def test_the_round_trip_error_of_the_exact_protocol_is_negligible(annotated):
    """The goals are an NME of 0.02 % on average and 0.2 % for the worst face; floats reach a thousandth of that."""
    name, faces = annotated
    side = 200 * faces.scale[:, None, None]
    cells = ((faces.landmarks - faces.center[:, None]) / side + 0.5) * 64 - 0.5
    assert ((cells >= -0.5) & (cells <= 63.5)).all()  # no landmark of these faces is outside the input
    peaks = [heatmap.decode(heatmap.encode(cells[batch].float(), 64, SIGMA[name]))[0] for batch in faces.batches()]
    points = ((torch.cat(peaks).double() + 0.5) / 64 - 0.5) * side + faces.center[:, None]
    nme = faces.nme(points, EYES[name])
    assert nme.mean() < 2e-7
    assert nme.max() < 2e-6


@needs_shared
def test_the_round_trip_error_of_the_paper_protocol_is_that_of_its_roundings(annotated):
    """Points and NME equal those of the roundings alone, computed without heat maps."""
    name, faces = annotated
    round_trip = []
    for batch in faces.batches():
        box = faces.center[batch], faces.scale[batch]
        round_trip.append(paper.decode(paper.targets(faces.landmarks[batch], *box, SIGMA[name]), *box)[0])
    points = torch.cat(round_trip)

    p, center, side = faces.landmarks.numpy(), faces.center.numpy()[:, None], 200 * faces.scale.numpy()[:, None, None]
    cell = np.trunc((p - center) * 64 / side + 32)
    rounded = torch.from_numpy(np.trunc((cell + 0.5 - 32) * side / 64 + center) + 1)
    with_map = faces.landmarks[..., 1] > 0  # 58 landmarks of WFLW have empty maps
    assert (~with_map).sum() == {"wflw": 58, "300w": 0}[name]
    assert torch.equal(points[with_map], rounded[with_map])
    nme = faces.nme(torch.where(with_map[..., None], points, rounded), EYES[name])
    assert 100 * nme.mean() == pytest.approx({"wflw": 1.99, "300w": 1.48}[name], abs=0.01)


def test_speed_of_decoding_32_faces_on_one_core(benchmark):
    maps = torch.rand(32, 98, 64, 64, generator=torch.Generator().manual_seed(0))
    center, scale = torch.full((32, 2), 100.0), torch.ones(32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark.pedantic(paper.decode, args=(maps, center, scale), rounds=10, warmup_rounds=2)
    finally:
        torch.set_num_threads(threads)
