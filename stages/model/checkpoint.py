"""Reading and writing of weights: our own models, and released files as they are. No pickle is ever executed.

Our own model is a folder with `model.safetensors` and `model.json`, which describes the network and its input.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.torch_version import TorchVersion

from stages.data.scheme import DatasetScheme
from stages.model.hrnet import HRNet, HRNetConfig
from stages.system.errors import InputError, refuse
from stages.system.files import atomic, digest, write_json

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
SHA256 = "weights_sha256"  # its key in model.json: a damaged file of weights would be used silently
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SAFE_SINCE = "2.10"  # before it, weights_only could be bypassed: CVE-2026-24747
HEAD = "head."
# the layers after the backbone in the ImageNet file (Wang et al., section 6.1)
CLASSIFICATION = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


@dataclass(frozen=True)
class ModelInput:
    """The input of a model: squares of `size` px that cover `box` face boxes, with the contrast stretched or not."""

    size: int
    box: float
    stretch: bool


def save(folder: Path, model: HRNet, description: dict) -> None:
    """Write `model` to `folder`, with its network and the caller's `description` (of JSON's types) beside it."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    network = {"landmarks": model.landmarks, "network": asdict(model.config), SHA256: digest(folder / WEIGHTS)}
    write_json(folder / DESCRIPTION, network | description)


def load(folder: Path) -> tuple[HRNet, dict]:
    """A model that `save` wrote, in eval mode, and its description.

    Raises `InputError` where a file is missing or damaged, or the two do not match.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        network = description["network"]
        config = HRNetConfig(**network | {"modules": tuple(network["modules"])})
        model = HRNet(description["landmarks"], config)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run dvc repro (or dvc checkout, where it was made before).") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} does not describe a network ({error!r}): delete {folder}, run dvc repro.") from None
    load_into(model, read_weights(folder), path=folder / WEIGHTS, part="all")
    return model.eval(), description


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model that `save` wrote. Raises `InputError` where the file is missing or was changed since."""
    path = folder / WEIGHTS
    tensors = read_state_dict(path)
    try:
        recorded = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")).get(SHA256)
    except (OSError, ValueError, AttributeError):  # `load` names the fault; a network can start from the weights alone
        recorded = None
    if recorded and recorded != digest(path):  # models of earlier versions have none
        raise InputError(
            f"{path} is damaged (its checksum is not that of {DESCRIPTION}): run dvc checkout {folder}, "
            "or copy the model again."
        )
    return tensors


def input_of(description: dict) -> ModelInput:
    """The input of a loaded model. Raises `InputError` where the description lacks it."""
    try:
        return ModelInput(**description["input"])
    except (KeyError, TypeError):
        raise InputError(f"the model's {DESCRIPTION} does not describe its input: train the model again.") from None


def scheme_of(description: dict) -> DatasetScheme:
    """The landmarks of a loaded model. Raises `InputError` where the description lacks them."""
    try:
        return DatasetScheme(**description["scheme"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"the model's {DESCRIPTION} does not describe its scheme: train the model again.") from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by their published names: a .pth in either of torch's formats, or .safetensors.

    A .pth contains a state dict as it is or under the key `state_dict`, with or without the prefix `module.` of
    DataParallel. Raises `InputError` where the file is missing, damaged, or contains anything but tensors.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: put the weights there, or change the path.")
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a readable safetensors file ({error}): get the file again.") from None
    else:
        tensors = _state_dict(_unpickle(path), path)
    faults = {name: _value_fault(name, tensor) for name, tensor in tensors.items()}
    refuse([f"{name}: {fault}" for name, fault in faults.items() if fault], str(path), "Get the file again.")
    return tensors


def _value_fault(name: str, tensor: Tensor) -> str | None:
    """Why a tensor cannot be one of weights, counts or statistics; its type is judged by `load_into`."""
    if tensor.device.type != "cpu":
        return "it has no values (it is a meta tensor)"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "it is sparse, quantised or nested, and plain numbers are needed"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"it claims {_shape(tensor)} values, and the file does not hold them"
    if tensor.dtype in FLOATS and not tensor.float().isfinite().all():
        return "not all values are finite, as float32"
    if name.endswith("running_var") and tensor.dtype in FLOATS and (tensor < 0).any():
        return "a variance is negative"
    return None


def _unpickle(path: Path) -> object:
    """The content of a file that torch.save wrote, of tensors and plain containers only; nothing in it is executed."""
    if TorchVersion(torch.__version__) < SAFE_SINCE:
        raise InputError(
            f"{path} is not read with torch {torch.__version__}: before {SAFE_SINCE}, a crafted file can bypass "
            "weights_only (CVE-2026-24747). Install a newer torch, or convert the file to .safetensors."
        )
    zipped = zipfile.is_zipfile(path)  # since torch 1.6; before, a sequence of pickles
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch does not verify the checksums
            if damaged:
                raise InputError(f"{path} is damaged (the checksum of {damaged} is wrong): get the file again.")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        global_name = re.search(r"GLOBAL (\S+)", str(error))
        if not global_name:
            raise InputError(_invalid_torch_file(path)) from None
        raise InputError(
            f"{path} contains Python objects ({global_name[1]}), not only tensors: a pickled model or training state. "
            "Reading it would run its author's code, so it is not read. If you trust it, save its state dict where it "
            "was made, and use that file: python -c \"import torch; c = torch.load('"
            f"{path.name}', weights_only=False); c = c['state_dict'] if isinstance(c, dict) else c; "
            f"torch.save(c.state_dict() if hasattr(c, 'state_dict') else c, 'state_dict.pth')\""
        ) from None
    except InputError:
        raise
    except Exception as error:  # for a truncated or arbitrary file torch raises many types
        raise InputError(_invalid_torch_file(path)) from error


def _invalid_torch_file(path: Path) -> str:
    size = path.stat().st_size
    return f"{path} ({size} bytes) is not a file that torch.save wrote, or is incomplete: get the file again."


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} contains no state dict but {type(content).__name__}: give a file of weights.")
    if odd := [name for name in content if not isinstance(name, str) or not (name.isascii() and name.isprintable())]:
        raise InputError(f"{path} contains no state dict: {ascii(odd[0])[:80]} is no name of a tensor.")
    other = [f"{name[:80]}: {type(value).__name__}" for name, value in content.items() if not isinstance(value, Tensor)]
    refuse(other, f"{path} contains more than tensors", "Give a file with only the state dict.")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(content)


def select_landmarks(model: HRNet, tensors: dict[str, Tensor], pairs: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """`tensors` with the head's maps of the model's landmarks: of each pair (own, theirs) theirs, else the model's own.

    A head that is absent or not of this network's shape or kind of numbers is left as it is, for `load_into` to judge.
    """
    selected = dict(tensors)
    own = model.state_dict()
    for name in (f"{HEAD}3.weight", f"{HEAD}3.bias"):
        tensor = tensors.get(name, torch.empty(0))
        if tensor.ndim != own[name].ndim or tensor.shape[1:] != own[name].shape[1:] or _type_fault(tensor, own[name]):
            return tensors
        maps = own[name].clone()
        known = [(ours, theirs) for ours, theirs in pairs if ours < len(maps) and theirs < len(tensors[name])]
        if known:
            ours, theirs = map(list, zip(*known, strict=True))
            maps[ours] = tensors[name][theirs].to(maps)
        selected[name] = maps
    return selected


def load_into(model: HRNet, tensors: dict[str, Tensor], *, path: Path, part: Literal["all", "backbone"]) -> list[str]:
    """Load the weights `tensors` of the file `path` into `model`; returns the names of the tensors left unchanged.

    "all" takes a model of the same landmarks, tensor by tensor. "backbone" takes the published ImageNet weights without
    their classification layers (the head is left unchanged), or a model of other landmarks (the head's last layer is
    left unchanged). Raises `InputError` listing every tensor that is missing, not expected, or of another shape or kind
    of numbers; the model is then unchanged.
    """
    own = model.state_dict()
    faults, matching = [], {}
    for name, tensor in tensors.items():
        optional = part == "backbone" and name.startswith(HEAD)
        if name in own and (fault := _type_fault(tensor, own[name])):
            faults.append(f"{name}: {fault}")
        elif name in own and own[name].shape == tensor.shape:
            matching[name] = tensor
        elif name in own and not optional:
            faults.append(f"{name}: its shape is {_shape(tensor)}, and the model's {_shape(own[name])}")
        elif name not in own and not (part == "backbone" and name.startswith(CLASSIFICATION)):
            faults.append(f"{name[:80]}: not expected")
    unchanged = [name for name in own if name not in matching]
    required = [name for name in unchanged if not (part == "backbone" and name.startswith(HEAD))]
    faults += [f"{name}: missing" for name in required if name not in tensors]
    refuse(faults, f"{path} does not fit the model", _difference(model, tensors))
    model.load_state_dict(matching, strict=False)
    return unchanged


def _type_fault(tensor: Tensor, own: Tensor) -> str | None:
    """Why the numbers of a tensor are not those of the model's: torch would convert, and so change, them silently."""
    if own.is_floating_point() and tensor.dtype not in FLOATS:
        return f"its numbers are {str(tensor.dtype).removeprefix('torch.')}, and a weight is a float of 16 to 64 bits"
    if not own.is_floating_point() and tensor.dtype not in (torch.int32, torch.int64):
        return f"its numbers are {str(tensor.dtype).removeprefix('torch.')}, and a count is an integer"
    return None


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _difference(model: HRNet, tensors: dict[str, Tensor]) -> str:
    """The cause of the faults, and the remedy."""
    config = _config(tensors)
    if config is None:
        return "The file is not of an HRNetV2 with the published names: give another one."
    if config != model.config:
        return f"The file is of the variant {config}, the model {model.config}: change one of them."
    last = tensors.get(f"{HEAD}3.bias")
    if last is not None and last.ndim == 1 and len(last) != model.landmarks:
        return (
            f"The file has {len(last)} landmarks, the model {model.landmarks}: give the file of this dataset, "
            "or start a training from it."
        )
    return "Give a complete file of the same network."


def _config(tensors: dict[str, Tensor]) -> HRNetConfig | None:
    """The variant, inferred from names and shapes, or None where they are not an HRNet's."""

    def count(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)})

    try:
        return HRNetConfig(
            width=len(tensors["stage2.0.branches.0.0.conv1.weight"]),
            stem=len(tensors["conv1.weight"]),
            bottlenecks=count("layer1."),
            modules=(count("stage2."), count("stage3."), count("stage4.")),
            blocks=count("stage2.0.branches.0."),
        )
    except (KeyError, TypeError):  # TypeError: a scalar has no length
        return None
