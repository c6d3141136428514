"""Weights in every file format they come in, the files that must be refused, and initial weights."""

import json
import os
import pickle
import re
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.torch_version import TorchVersion

from stages.model import checkpoint
from stages.model.hrnet import HRNet, HRNetConfig
from stages.model.initialisation import load_initial_weights
from stages.system.errors import InputError
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


def test_a_saved_model_is_loaded_with_its_description(tmp_path, model, weights):
    model.load_state_dict(weights)
    model.to(memory_format=torch.channels_last)
    description = {"input": {"size": 256, "box": 1.25, "stretch": True}, "scheme": {"count": 7}}
    checkpoint.save(tmp_path / "model", model, description)
    loaded, read = checkpoint.load(tmp_path / "model")
    assert same(loaded, weights)
    assert (loaded.landmarks, loaded.config, loaded.training) == (7, CONFIG, False)
    assert {name: read[name] for name in description} == description
    assert checkpoint.input_of(read) == checkpoint.ModelInput(size=256, box=1.25, stretch=True)
    assert sorted(os.listdir(tmp_path / "model")) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("description", [{}, {"input": None}, {"input": {"size": 256}}, {"input": {"height": 256}}])
def test_a_description_without_an_input_is_refused(description):
    with pytest.raises(InputError, match=r"model\.json does not describe its input"):
        checkpoint.input_of(description)


def test_the_same_model_is_saved_to_the_same_bytes(tmp_path, model):
    for name in ("first", "second"):
        checkpoint.save(tmp_path / name, model, {"input": {"size": 256}})
    for file in ("model.json", "model.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("scheme", [{}, {"scheme": {"count": 7}}, {"scheme": 3}, {"scheme": None}])
def test_a_description_without_a_scheme_is_refused(scheme):
    with pytest.raises(InputError, match=r"model\.json does not describe its scheme"):
        checkpoint.scheme_of(scheme)


def test_a_changed_bit_of_the_weights_is_refused(tmp_path, model):
    """It would be used silently: the format has no checksum."""
    checkpoint.save(tmp_path, model, {})
    whole = (tmp_path / "model.safetensors").read_bytes()
    for place in (-1, -100, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / "model.safetensors").write_bytes(damaged)
        for use in (checkpoint.load, lambda folder: load_initial_weights(model, folder)):
            with pytest.raises(InputError, match=r"model\.safetensors is damaged \(its checksum"):
                use(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(whole)
    description = json.loads((tmp_path / "model.json").read_text())
    del description["weights_sha256"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    checkpoint.load(tmp_path)  # as of models of earlier versions


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_an_incomplete_model_folder_is_refused(tmp_path, model, file):
    checkpoint.save(tmp_path, model, {})
    content = (tmp_path / file).read_bytes()
    for damaged in (content[: len(content) // 2], b""):
        (tmp_path / file).write_bytes(damaged)
        with pytest.raises(InputError, match=file):
            checkpoint.load(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=file):
        checkpoint.load(tmp_path)


# ---- released files


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
def test_a_released_checkpoint_is_read_in_every_format(tmp_path, model, weights, form, zipped):
    path = tmp_path / "HR18-WFLW.pth"
    torch.save(form(weights), path, _use_new_zipfile_serialization=zipped)
    assert checkpoint.load_into(model, checkpoint.read_state_dict(path), path=path, part="all") == []
    assert same(model, weights)


def test_a_safetensors_file_is_read(tmp_path, model, weights):
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    checkpoint.load_into(model, checkpoint.read_state_dict(path), path=path, part="all")
    assert same(model, weights)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_malicious_file_is_refused_without_running_its_code(tmp_path, weights, zipped):
    path, proof = tmp_path / "free_weights.pth", tmp_path / "executed"
    torch.save(weights | {"extra": Malicious(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"mkdir"):
        checkpoint.read_state_dict(path)
    path.write_bytes(pickle.dumps(Malicious(proof), protocol=2))
    with pytest.raises(InputError, match=re.escape(path.name)):
        checkpoint.read_state_dict(path)
    assert not proof.exists()


@pytest.mark.parametrize("form", [lambda m: m, lambda m: {"state_dict": m, "epoch": 1}], ids=["model", "training"])
def test_a_pickled_model_is_refused_with_a_command_that_converts_it(tmp_path, model, weights, form, monkeypatch):
    path = tmp_path / "checkpoint_59.pth"
    model.load_state_dict(weights)
    torch.save(form(torch.nn.DataParallel(model)), path)
    with pytest.raises(InputError, match="DataParallel.*not read.*state dict") as refused:
        checkpoint.read_state_dict(path)
    monkeypatch.chdir(tmp_path)
    exec(re.search(r'python -c "(.*)"', str(refused.value))[1])  # the command in the message
    assert list(checkpoint.read_state_dict(tmp_path / "state_dict.pth")) == list(weights)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, weights, zipped, share):
    path = tmp_path / "HR18-300W.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"HR18-300W\.pth.*get the file again"):
        checkpoint.read_state_dict(path)


def test_a_file_with_a_flipped_bit_is_refused(tmp_path, weights):
    path = tmp_path / "HR18-300W.pth"
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        checkpoint.read_state_dict(path)


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", b"PK\x03\x04 not a zip", bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_of_anything_but_weights_is_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        checkpoint.read_state_dict(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"lr": 0.1}}], ids=repr)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth"):
        checkpoint.read_state_dict(tmp_path / "x.pth")


def test_weights_that_are_not_finite_are_refused(tmp_path, weights):
    weights["bn1.weight"][0] = float("nan")
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"bn1\.weight: not all values are finite"):
        checkpoint.read_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_that_are_no_floats_are_refused(tmp_path, model, weights, kind):
    """torch would convert them: a mask, an index or the real part as weights."""
    torch.save(weights | {"conv1.weight": weights["conv1.weight"].to(kind)}, tmp_path / "w.pth")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        InputError, match=r"conv1\.weight: its numbers are .*, and a weight is a float of 16 to 64 bits"
    ):
        checkpoint.load_into(model, checkpoint.read_state_dict(tmp_path / "w.pth"), path=tmp_path / "w.pth", part="all")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_precision_are_read(tmp_path, model, weights, kind):
    torch.save(weights | {"conv1.weight": weights["conv1.weight"].to(kind)}, tmp_path / "w.pth")
    assert not checkpoint.load_into(
        model, checkpoint.read_state_dict(tmp_path / "w.pth"), path=tmp_path / "w.pth", part="all"
    )
    assert torch.equal(model.state_dict()["conv1.weight"], weights["conv1.weight"].to(kind).float())


def test_a_count_that_is_no_integer_is_refused(tmp_path, model, weights):
    changed = {"bn1.num_batches_tracked": torch.tensor(1.5)}
    with pytest.raises(InputError, match="bn1.num_batches_tracked: its numbers are float32, and a count is an integer"):
        checkpoint.load_into(model, weights | changed, path=tmp_path / "w.pth", part="all")


NAME = "conv1.weight"
NOT_PLAIN = "conv1.weight: it is sparse, quantised or nested, and plain numbers are needed"
HOSTILE = {
    "a number as a name": (lambda w: w | {3: w[NAME]}, "3 is no name of a tensor"),
    "names that are all numbers": (lambda w: dict(enumerate(w.values())), "0 is no name of a tensor"),
    "a tuple as a name": (lambda w: w | {("a", 1): w[NAME]}, "('a', 1) is no name of a tensor"),
    "bytes as a name": (lambda w: w | {b"x": w[NAME]}, "b'x' is no name of a tensor"),
    "a name of two lines": (lambda w: w | {"a\nb": w[NAME]}, r"'a\nb' is no name of a tensor"),
    "a name that is no text": (lambda w: w | {"a\ud800": w[NAME]}, r"'a\ud800' is no name of a tensor"),
    "a scalar": (lambda w: w | {NAME: torch.tensor(1.0)}, "conv1.weight: its shape is scalar, and the model's"),
    "only scalars": (lambda w: dict.fromkeys(w, torch.tensor(1.0)), "conv1.weight: its shape is scalar"),
    "a scalar of the head": (lambda w: w | {"head.3.bias": torch.tensor(1.0)}, "head.3.bias: its shape is scalar"),
    "a sparse tensor": (lambda w: w | {NAME: w[NAME].to_sparse()}, NOT_PLAIN),
    "a compressed sparse tensor": (lambda w: w | {NAME: torch.eye(3).to_sparse_csr()}, NOT_PLAIN),
    "a quantised tensor": (lambda w: w | {NAME: torch.quantize_per_tensor(w[NAME], 0.1, 0, torch.qint8)}, NOT_PLAIN),
    "a nested tensor": (lambda w: w | {NAME: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}, ""),
    "a meta tensor": (lambda w: w | {NAME: w[NAME].to("meta")}, "conv1.weight: it has no values (it is a meta tensor)"),
    "only meta tensors": (lambda w: {name: tensor.to("meta") for name, tensor in w.items()}, "it is a meta tensor"),
    "a tensor that claims a petabyte": (
        lambda w: w | {NAME: torch.zeros(1).expand(10**9, 10**6)},
        "conv1.weight: it claims 1000000000×1000000 values, and the file does not hold them",
    ),
    "a negative variance": (
        lambda w: w | {"bn1.running_var": -w["bn1.running_var"].abs() - 1},
        "bn1.running_var: a variance is negative",
    ),
    "a state dict in a state dict": (lambda w: {"state_dict": {"state_dict": w}}, "state_dict: dict"),
    "a list of tensors": (lambda w: w | {"more": [w[NAME]]}, "more: list"),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.filterwarnings("ignore")  # torch says which of these kinds are in beta
def test_what_is_no_plain_named_tensor_is_refused_and_the_model_unchanged(tmp_path, model, weights, case, zipped):
    change, fault = HOSTILE[case]
    path, before = tmp_path / "w.pth", {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(change(weights), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError) as refused:
        checkpoint.load_into(model, checkpoint.read_state_dict(path), path=path, part="all")
    assert fault in str(refused.value)
    assert str(path) in str(refused.value)
    str(refused.value).encode()  # so that it can be printed
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_safetensors_file_of_such_values_is_refused_too(tmp_path, weights):
    save_file(weights | {"bn1.running_var": -weights["bn1.running_var"].abs() - 1}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w\.safetensors(.|\n)*bn1\.running_var: a variance is negative"):
        checkpoint.read_state_dict(tmp_path / "w.safetensors")


def test_checkpoints_with_arbitrary_damage_are_refused_or_read_and_end_in_no_other_error(tmp_path, model, weights):
    path, rng, refused = tmp_path / "w.pth", np.random.default_rng(0), 0
    for zipped in (True, False):
        torch.save(weights, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for i in range(60):
            damaged = bytearray(whole)
            reach = len(whole) if i % 2 else 3000  # where names, types and shapes are
            start, length = int(rng.integers(0, reach)), int(rng.integers(1, 9))
            damaged[start : start + length] = rng.integers(0, 256, length, np.uint8).tobytes()
            path.write_bytes(damaged)
            with suppress(InputError):
                checkpoint.load_into(model, checkpoint.read_state_dict(path), path=path, part="all")
                refused -= 1
            refused += 1
    assert refused > 80


def test_a_double_that_no_float_can_hold_is_refused(tmp_path, weights):
    torch.save(weights | {"bn1.bias": weights["bn1.bias"].double() + 1e300}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"bn1\.bias: not all values are finite, as float32"):
        checkpoint.read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("change", [lambda head: torch.tensor(1.0), lambda head: head.to(torch.int64)])
def test_the_maps_of_other_landmarks_are_taken_from_plain_numbers_alone(model, weights, change):
    """They would be converted before anything is compared with the model."""
    for name in ("head.3.weight", "head.3.bias"):
        tensors = weights | {name: change(weights[name])}
        assert checkpoint.select_landmarks(model, tensors, [(0, 1)]) is tensors


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*x\.pth"):
        checkpoint.read_state_dict(tmp_path / "x.pth")


def test_a_vulnerable_torch_version_reads_no_pickle(tmp_path, weights, monkeypatch):
    torch.save(weights, tmp_path / "x.pth")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cpu"))
    with pytest.raises(InputError, match="CVE"):
        checkpoint.read_state_dict(tmp_path / "x.pth")


# ---- loading into a model


def test_all_faults_are_listed_and_the_model_is_unchanged(tmp_path, model, weights):
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


def test_the_message_distinguishes_other_landmarks_from_another_network(tmp_path, model, weights):
    def message(landmarks: int, config: HRNetConfig) -> str:
        with pytest.raises(InputError) as refused:
            checkpoint.load_into(HRNet(landmarks, config), weights, path=tmp_path / "x.pth", part="all")
        return str(refused.value).splitlines()[-1]

    assert "The file has 7 landmarks, the model 19" in message(19, CONFIG)
    assert re.search(r"variant HRNetConfig\(width=4, .*the model HRNetConfig\(width=18, ", message(7, HRNetConfig()))


def imagenet(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    layers = ("incre_modules.0.0.conv1.weight", "downsamp_modules.0.0.bias", "final_layer.0.weight", "classifier.bias")
    return backbone | {name: torch.zeros(3) for name in layers}


def test_the_imagenet_file_gives_the_backbone_and_leaves_the_head_unchanged(tmp_path, model, weights):
    head = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("head.")}
    unchanged = checkpoint.load_into(model, imagenet(weights), path=tmp_path / "x.pth", part="backbone")
    assert unchanged == list(head)
    assert same(model, weights | head)


def test_an_incomplete_backbone_is_refused(tmp_path, model, weights):
    tensors = imagenet(weights)
    del tensors["stage4.0.branches.3.0.conv2.weight"]
    tensors["decoder.weight"] = torch.zeros(3)
    with pytest.raises(InputError) as refused:
        checkpoint.load_into(model, tensors, path=tmp_path / "x.pth", part="backbone")
    assert "stage4.0.branches.3.0.conv2.weight: missing" in str(refused.value)
    assert "decoder.weight: not expected" in str(refused.value)


def test_a_model_of_other_landmarks_gives_all_but_the_last_layer(tmp_path, weights):
    other = HRNet(landmarks=19, config=CONFIG)
    unchanged = checkpoint.load_into(other, weights, path=tmp_path / "x.pth", part="backbone")
    assert unchanged == ["head.3.weight", "head.3.bias"]
    assert torch.equal(other.state_dict()["head.1.running_var"], weights["head.1.running_var"])


# ---- initial weights


def test_random_initial_weights_load_nothing(tmp_path, model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert load_initial_weights(model, tmp_path / "random") == []
    assert same(model, before)


def test_initial_weights_are_loaded_from_a_model_folder_and_from_a_file(tmp_path, model, weights):
    model.load_state_dict(weights)
    checkpoint.save(tmp_path / "demo-quick", model, {})
    torch.save(imagenet(weights), tmp_path / "imagenet.pth")
    own, released = HRNet(7, CONFIG), HRNet(7, CONFIG)
    head = {name: tensor.clone() for name, tensor in released.state_dict().items() if name.startswith("head.")}
    assert load_initial_weights(own, tmp_path / "demo-quick") == []
    assert same(own, weights)
    assert load_initial_weights(released, tmp_path / "imagenet.pth") == list(head)
    assert same(released, weights | head)


def test_of_initial_weights_with_another_scheme_the_maps_of_corresponding_landmarks_are_kept(tmp_path, model, weights):
    model.load_state_dict(weights)
    checkpoint.save(tmp_path / "drawn", model, {})
    count = len(weights["head.3.bias"])
    other = HRNet(5, CONFIG)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    assert load_initial_weights(other, tmp_path / "drawn", [(0, count - 1), (3, 1)]) == []
    for name in ("head.3.weight", "head.3.bias"):
        own = other.state_dict()[name]
        assert torch.equal(own[[0, 3]], weights[name][[count - 1, 1]])
        assert torch.equal(own[[1, 2, 4]], before[name][[1, 2, 4]])
    assert torch.equal(other.state_dict()["conv1.weight"], weights["conv1.weight"])


def test_a_scheme_of_as_many_landmarks_that_corresponds_to_none_keeps_no_map(tmp_path, model, weights):
    model.load_state_dict(weights)
    checkpoint.save(tmp_path / "other", model, {})
    own = HRNet(len(weights["head.3.bias"]), CONFIG)
    before = own.state_dict()["head.3.weight"].clone()
    load_initial_weights(own, tmp_path / "other", [])
    assert torch.equal(own.state_dict()["head.3.weight"], before)


@pytest.mark.parametrize("name", ["imagenet.pth", "demo-quick"])
def test_missing_initial_weights_are_refused_with_where_to_get_them(tmp_path, model, name):
    with pytest.raises(InputError, match=f"{name} are missing.*HRNet-Image-Classification"):
        load_initial_weights(model, tmp_path / name)
