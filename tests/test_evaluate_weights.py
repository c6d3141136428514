"""One command measures a file of weights, on each benchmark's sample and in every form of a released file."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from reference import reference_state

from stages import evaluate_weights
from stages.config.experiment import load_dataset
from stages.config.schemes import load_dataset_scheme
from stages.model.hrnet import HRNet
from stages.system.errors import InputError

ROOT = Path(__file__).parents[1]
SHARED = ROOT / "../shared"
SAMPLES = SHARED / "data/samples"
LANDMARKS = {"wflw": 98, "300w": 68, "aflw": 19, "cofw": 29}

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no ../shared/data/samples: the benchmarks' sample faces")


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    """Per benchmark a state dict of the published network, by the reference formula."""
    shapes = {
        name: [(k, tuple(v.shape)) for k, v in HRNet(count).state_dict().items()] for name, count in LANDMARKS.items()
    }
    return {name: reference_state(each) for name, each in shapes.items()}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def save(state: dict, path: Path, form: str) -> Path:
    if form == "nested":
        state = {"state_dict": state, "epoch": 60}
    if form == "parallel":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(state, path, _use_new_zipfile_serialization=form != "legacy")
    return path


def measure(name: str, weights: Path, protocol: str, out: Path) -> tuple[dict, pd.DataFrame]:
    evaluate_weights.main(name, weights, protocol, out, str(SAMPLES / name))
    return json.loads((out / "metrics.json").read_text()), pd.read_parquet(out / "predictions.parquet")


@pytest.mark.parametrize(
    ("name", "protocol", "form"),
    [
        ("wflw", "paper", "plain"),
        ("wflw", "exact", "legacy"),
        ("300w", "paper", "parallel"),
        ("aflw", "paper", "nested"),
        ("cofw", "paper", "legacy"),
        ("cofw", "exact", "plain"),
    ],
)
def test_a_released_file_is_measured_on_the_sample(states, tmp_path, capsys, name, protocol, form):
    weights = save(states[name], tmp_path / f"HR18-{name}.pth", form)
    metrics, predictions = measure(name, weights, protocol, tmp_path / "out")
    n, k = {"wflw": 4}.get(name, 2), LANDMARKS[name]
    assert metrics["test"]["n"] == len(predictions) == n
    assert list(predictions.columns[:5]) == ["face_id", "image", "landmarks", "scores", "nme"]
    assert {len(row) for row in predictions["landmarks"]} == {2 * k}
    assert {len(row) for row in predictions["scores"]} == {k}
    assert metrics["test"]["nme"] == pytest.approx(predictions["nme"].mean(), rel=1e-12)
    printed = capsys.readouterr()
    thresholds = {"300w": ("0.08",), "aflw": ("0.07",)}.get(name, ("0.08", "0.10"))  # those of the dataset's papers
    keys = {f"fr_{threshold}{end}" for threshold in thresholds for end in ("", "_ci95")}
    assert {key for key in metrics["test"] if key[:2] == "fr"} == keys
    assert all(f"FR@{100 * float(threshold):.0f}" in printed.out.splitlines()[2] for threshold in thresholds)
    assert f"test has {n} faces" in printed.err
    if name != "300w":  # no figure is published on the private set under this normaliser
        assert "HRNet repository, released model" in printed.out


@pytest.mark.parametrize("name", ["wflw", "300w"])
def test_the_network_sees_the_published_crops_and_its_maps_are_decoded_as_published(
    states, tmp_path, monkeypatch, name
):
    """A network whose output is the published training targets gives the published points and NME."""
    reference = np.load(SHARED / f"reference/paper_protocol/{name}.npz")
    shown = []

    def answer(self, images):
        if not images.any():  # the all-zero image of which the FLOPs are counted
            return images
        start = sum(map(len, shown))
        shown.append(images)
        return torch.from_numpy(reference["target"][start : start + len(images)]).float()

    monkeypatch.setattr(HRNet, "forward", answer)
    weights = save(states[name], tmp_path / "weights.pth", "plain")
    metrics, predictions = measure(name, weights, "paper", tmp_path / "out")
    mean, std = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = torch.cat(shown).permute(0, 2, 3, 1).numpy() * std + mean
    assert np.abs(images * 255 - reference["crop"]).max() < 1.01
    points = np.stack(predictions["landmarks"]).reshape(reference["decoded"].shape)
    np.testing.assert_array_equal(points, reference["decoded"])
    np.testing.assert_allclose(predictions["nme"], 100 * reference["nme"], rtol=1e-6)


@pytest.mark.parametrize("protocol", ["paper", "exact"])
def test_photographs_stored_on_their_side_are_seen_upright_where_orientation_is_exif(
    states, tmp_path, monkeypatch, protocol
):
    shown, load = [], evaluate_weights.load_dataset

    def forward(self, images):
        shown.append(images)
        return torch.zeros(len(images), 68, 64, 64)

    def exif(*names):
        dataset = load(*names)
        dataset.source = dataset.source.model_copy(update={"orientation": "exif"})
        return dataset

    monkeypatch.setattr(HRNet, "forward", forward)
    weights = save(states["300w"], tmp_path / "weights.pth", "plain")
    measure("300w", weights, protocol, tmp_path / "out")
    upright = [images for images in shown if images.any()]
    tags = Image.Exif()
    tags[0x0112] = 8
    shutil.copytree(SAMPLES / "300w", tmp_path / "turned")
    for path in (tmp_path / "turned/images").rglob("*.*"):
        pixels = Image.open(path).convert("RGB").transpose(Image.Transpose.ROTATE_270)
        pixels.save(path, "PNG", exif=tags)
    shown.clear()
    monkeypatch.setattr(evaluate_weights, "load_dataset", exif)
    evaluate_weights.main("300w", weights, protocol, tmp_path / "out", str(tmp_path / "turned"))
    turned = [images for images in shown if images.any()]
    assert len(upright) == len(turned) > 0
    assert all(torch.equal(a, b) for a, b in zip(upright, turned, strict=True))


def test_our_own_model_is_measured_from_its_folder_and_from_its_file(states, tmp_path):
    from stages.model import checkpoint

    model = HRNet(98)
    model.load_state_dict(states["wflw"])
    checkpoint.save(tmp_path / "model", model, {"input": {"size": 256, "box": 1.25, "stretch": True}})
    folder, _ = measure("wflw", tmp_path / "model", "exact", tmp_path / "a")
    file, _ = measure("wflw", tmp_path / "model/model.safetensors", "exact", tmp_path / "b")
    weights = save(states["wflw"], tmp_path / "w.pth", "plain")
    assert folder == file == measure("wflw", weights, "exact", tmp_path / "c")[0]


def test_weights_of_another_number_of_landmarks_are_refused(states, tmp_path):
    weights = save(states["300w"], tmp_path / "w.pth", "plain")
    with pytest.raises(InputError, match="68 landmarks"):
        evaluate_weights.main("wflw", weights, "paper", tmp_path / "out", str(SAMPLES / "wflw"))
    assert not (tmp_path / "out").exists()


def test_a_face_whose_box_is_outside_its_image_is_named(states, tmp_path):
    shutil.copytree(SAMPLES / "wflw", tmp_path / "wflw")
    path = tmp_path / "wflw/face_landmarks_wflw_test.csv"
    table = pd.read_csv(path)
    moved = [name for name in table.columns if name == "center_w" or name.endswith("_x")]
    table[moved] = table[moved].astype(float)
    table.loc[2, moved] += 5000
    table.to_csv(path, index=False)
    weights = save(states["wflw"], tmp_path / "w.pth", "plain")
    with pytest.raises(InputError, match=r"face test/.*: its box is outside its image of .* Correct or leave out"):
        evaluate_weights.main("wflw", weights, "exact", tmp_path / "out", str(tmp_path / "wflw"))


def test_a_pickled_model_is_refused_with_what_to_do(tmp_path):
    torch.save(torch.nn.DataParallel(torch.nn.Linear(1, 1)), tmp_path / "w.pth")
    with pytest.raises(InputError, match="state_dict"):
        evaluate_weights.main("wflw", tmp_path / "w.pth", "paper", tmp_path / "out", str(SAMPLES / "wflw"))


def test_the_evaluate_stage_hands_a_file_of_weights_on(tmp_path):
    """`python -m stages.evaluate --dataset …` is the documented command; an error shows that it arrived."""
    command = [sys.executable, "-m", "stages.evaluate", "--dataset", "wflw", "--weights", str(tmp_path / "none.pth"),
               "--protocol", "paper", "--out", str(tmp_path / "out"), "--data", str(SAMPLES / "wflw")]  # fmt: skip
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "none.pth" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_missing_data_are_asked_for(states, tmp_path):
    weights = save(states["wflw"], tmp_path / "w.pth", "plain")
    with pytest.raises(InputError, match="face_landmarks_wflw_test.csv"):
        evaluate_weights.main("wflw", weights, "paper", tmp_path / "out", str(tmp_path))


def test_the_margin_is_taken_in_the_published_order():
    """scale = the file's × 1.25; side / 200 must give the file's scale back, to the last bit."""
    reference = np.load(SHARED / "reference/paper_protocol/wflw.npz")
    dataset = load_dataset("wflw", "about", "source", "landmarks")
    scheme = load_dataset_scheme(dataset.landmarks.scheme, dataset.landmarks.normaliser, "wflw")
    faces, _ = evaluate_weights.read_test(dataset, scheme, SAMPLES / "wflw", Path("unused"))
    np.testing.assert_array_equal(faces.side / 200 * 1.25, reference["scale"])
