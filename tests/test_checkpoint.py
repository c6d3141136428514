"""Weights in every form they are found in, and the files that must be refused."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from torch.torch_version import TorchVersion

from stages.errors import InputError
from stages.model import checkpoint
from stages.model.hrnet import HRNet, HRNetConfig
from tests.reference import reference_state

CONFIG = HRNetConfig(width=4, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1)


@pytest.fixture
def model() -> HRNet:
    torch.manual_seed(0)
    return HRNet(landmarks=7, config=CONFIG)


@pytest.fixture
def weights(model) -> dict[str, torch.Tensor]:
    return reference_state((name, tuple(tensor.shape)) for name, tensor in model.state_dict().items())


def same(model: HRNet, weights: dict[str, torch.Tensor]) -> bool:
    state = model.state_dict()
    return list(state) == list(weights) and all(torch.equal(state[name], weights[name]) for name in state)


def with_module(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in weights.items()}


# ---- our own


def test_a_saved_model_comes_back_with_what_was_said_about_it(tmp_path, model, weights):
    model.load_state_dict(weights)
    model.to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path / "model", model, {"input": {"size": 256}, "chosen": {"epoch": 3}})
    loaded, description = checkpoint.load(tmp_path / "model")
    assert same(loaded, weights)
    assert (loaded.landmarks, loaded.config, loaded.training) == (7, CONFIG, False)
    assert (description["input"], description["chosen"]) == ({"size": 256}, {"epoch": 3})
    assert sorted(os.listdir(tmp_path / "model")) == ["model.json", "model.safetensors"]


def test_the_same_model_is_saved_to_the_same_bytes(tmp_path, model):
    for name in ("first", "second"):
        checkpoint.save(tmp_path / name, model, {"input": {"size": 256}})
    for file in ("model.json", "model.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_a_model_folder_that_is_not_whole_is_refused(tmp_path, model, file):
    checkpoint.save(tmp_path, model, {})
    whole = (tmp_path / file).read_bytes()
    for wrong in (whole[: len(whole) // 2], b""):
        (tmp_path / file).write_bytes(wrong)
        with pytest.raises(InputError, match=file):
            checkpoint.load(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=file):
        checkpoint.load(tmp_path)


# ---- the released ones


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "form",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 60, "best_nme": 0.046},
        with_module,
        lambda w: {"state_dict": with_module(w)},
    ],
    ids=["plain", "under state_dict", "with module.", "both"],
)
def test_a_released_checkpoint_is_read_in_every_form(tmp_path, model, weights, form, zipped):
    path = tmp_path / "HR18-WFLW.pth"
    torch.save(form(weights), path, _use_new_zipfile_serialization=zipped)
    assert checkpoint.load_into(model, checkpoint.read_released(path), path=path, part="all") == []
    assert same(model, weights)


def test_safetensors_are_read_too(tmp_path, model, weights):
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    checkpoint.load_into(model, checkpoint.read_released(path), path=path, part="all")
    assert same(model, weights)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_malicious_file_is_refused_and_runs_nothing(tmp_path, weights, zipped):
    path, proof = tmp_path / "free_weights.pth", tmp_path / "executed"
    torch.save(weights | {"extra": Malicious(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"mkdir"):
        checkpoint.read_released(path)
    path.write_bytes(pickle.dumps(Malicious(proof), protocol=2))
    with pytest.raises(InputError, match=re.escape(path.name)):
        checkpoint.read_released(path)
    assert not proof.exists()


@pytest.mark.parametrize("form", [lambda m: m, lambda m: {"state_dict": m, "epoch": 1}], ids=["model", "training"])
def test_a_whole_pickled_model_is_refused_with_a_line_that_mends_it(tmp_path, model, weights, form, monkeypatch):
    path = tmp_path / "checkpoint_59.pth"
    model.load_state_dict(weights)
    torch.save(form(torch.nn.DataParallel(model)), path)
    with pytest.raises(InputError, match="DataParallel.*not read.*state dict") as refused:
        checkpoint.read_released(path)
    monkeypatch.chdir(tmp_path)
    exec(re.search(r'python -c "(.*)"', str(refused.value))[1])  # the advice, taken
    assert list(checkpoint.read_released(tmp_path / "state_dict.pth")) == list(weights)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, weights, zipped, share):
    path = tmp_path / "HR18-300W.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"HR18-300W\.pth.*get the file again"):
        checkpoint.read_released(path)


def test_a_file_with_a_wrong_bit_is_refused(tmp_path, weights):
    path = tmp_path / "HR18-300W.pth"
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        checkpoint.read_released(path)


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", b"PK\x03\x04 not a zip", bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_what_is_no_weights_at_all_is_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        checkpoint.read_released(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"lr": 0.1}}], ids=repr)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth"):
        checkpoint.read_released(tmp_path / "x.pth")


def test_values_that_are_no_numbers_are_refused(tmp_path, weights):
    weights["bn1.weight"][0] = float("nan")
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"bn1\.weight: not all values are finite"):
        checkpoint.read_released(tmp_path / "x.pth")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*x\.pth"):
        checkpoint.read_released(tmp_path / "x.pth")


def test_a_torch_with_the_known_hole_reads_no_pickle(tmp_path, weights, monkeypatch):
    torch.save(weights, tmp_path / "x.pth")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cpu"))
    with pytest.raises(InputError, match="CVE"):
        checkpoint.read_released(tmp_path / "x.pth")


# ---- into a model


def test_all_faults_are_listed_and_the_model_stays_as_it_was(tmp_path, model, weights):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    del weights["bn1.bias"]
    weights["bn9.bias"] = torch.zeros(3)
    weights["bn2.bias"] = torch.zeros(5)
    with pytest.raises(InputError) as refused:
        checkpoint.load_into(model, weights, path=tmp_path / "x.pth", part="all")
    for fault in (
        "3 faults",
        "bn1.bias: missing",
        "bn9.bias: not expected",
        "bn2.bias: its shape is 5, and the model's 8",
    ):
        assert fault in str(refused.value)
    assert same(model, before)


def test_other_landmarks_are_told_apart_from_another_network(tmp_path, model, weights):
    def refusal(landmarks: int, config: HRNetConfig) -> str:
        with pytest.raises(InputError) as refused:
            checkpoint.load_into(HRNet(landmarks, config), weights, path=tmp_path / "x.pth", part="all")
        return str(refused.value).splitlines()[-1]

    assert "The file has 7 landmarks, the model 19" in refusal(19, CONFIG)
    assert re.search(r"variant HRNetConfig\(width=4, .*the model HRNetConfig\(width=18, ", refusal(7, HRNetConfig()))


def imagenet(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    layers = ("incre_modules.0.0.conv1.weight", "downsamp_modules.0.0.bias", "final_layer.0.weight", "classifier.bias")
    return backbone | {name: torch.zeros(3) for name in layers}


def test_the_imagenet_file_gives_the_backbone_and_leaves_the_head(tmp_path, model, weights):
    head = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("head.")}
    new = checkpoint.load_into(model, imagenet(weights), path=tmp_path / "x.pth", part="backbone")
    assert new == list(head)
    assert same(model, weights | head)


def test_a_backbone_that_is_not_whole_is_refused(tmp_path, model, weights):
    tensors = imagenet(weights)
    del tensors["stage4.0.branches.3.0.conv2.weight"]
    tensors["decoder.weight"] = torch.zeros(3)
    with pytest.raises(InputError) as refused:
        checkpoint.load_into(model, tensors, path=tmp_path / "x.pth", part="backbone")
    assert "stage4.0.branches.3.0.conv2.weight: missing" in str(refused.value)
    assert "decoder.weight: not expected" in str(refused.value)


def test_a_model_of_other_landmarks_gives_all_but_the_last_layer(tmp_path, weights):
    other = HRNet(landmarks=19, config=CONFIG)
    new = checkpoint.load_into(other, weights, path=tmp_path / "x.pth", part="backbone")
    assert new == ["head.3.weight", "head.3.bias"]
    assert torch.equal(other.state_dict()["head.1.running_var"], weights["head.1.running_var"])
