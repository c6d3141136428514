"""Weights from and to files: our own models, and the released ones as they are. No pickle is ever executed.

Ours is a folder with `model.safetensors` and `model.json`, which says what network it is and what it was made for.
"""

import json
import pickle
import re
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.torch_version import TorchVersion

from stages.data.files import atomic
from stages.errors import InputError, refuse
from stages.model.hrnet import HRNet, HRNetConfig

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
SAFE_SINCE = "2.10"  # before it, weights_only could be got around: CVE-2026-24747
HEAD = "head."
CLASSIFICATION = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")  # what follows the ImageNet
# file's backbone (Wang et al., section 6.1)


def save(folder: Path, model: HRNet, description: dict) -> None:
    """Write `model` to `folder`, and beside it what it is and the caller's `description` (of JSON's types)."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    known = {"landmarks": model.landmarks, "network": asdict(model.config)}
    with atomic(folder / DESCRIPTION) as temporary:
        temporary.write_text(json.dumps(known | description, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[HRNet, dict]:
    """The model that `save` wrote, in eval mode, and what it wrote beside it.

    Raises `InputError` where a file is absent or damaged, or the two do not fit each other.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        network = description["network"]
        config = HRNetConfig(**network | {"modules": tuple(network["modules"])})
        model = HRNet(description["landmarks"], config)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run dvc repro (or dvc checkout, where it was made before).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not describe a network ({error!r}): delete {folder}, run dvc repro.") from None
    load_into(model, read_released(folder / WEIGHTS), path=folder / WEIGHTS, part="all")
    return model.eval(), description


def read_released(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by their published names: a released .pth in either of torch's formats, or .safetensors.

    A .pth may hold a state dict as it is or under the key `state_dict`, and `module.` may stand before each name.
    Raises `InputError` where the file is absent, damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: put the weights there, or change the path.")
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is no readable safetensors file ({error}): get the file again.") from None
    else:
        tensors = _state_dict(_unpickle(path), path)
    wrong = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    refuse([f"{name}: not all values are finite" for name in wrong], str(path), "Get the file again.")
    return tensors


def _unpickle(path: Path) -> object:
    """What torch.save wrote, if it is made of tensors and plain containers; nothing in it is executed."""
    if TorchVersion(torch.__version__) < SAFE_SINCE:
        raise InputError(
            f"{path} is not read with torch {torch.__version__}: a crafted file can get around weights_only "
            f"before {SAFE_SINCE} (CVE-2026-24747). Install a newer torch, or convert the file to .safetensors."
        )
    zipped = zipfile.is_zipfile(path)  # torch ≥ 1.6; before, pickles one after the other
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch itself does not look at the checksums
            if damaged:
                raise InputError(f"{path} is damaged (the checksum of {damaged} is wrong): get the file again.")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if not found:
            raise InputError(_no_torch_file(path)) from None
        raise InputError(
            f"{path} holds Python objects ({found[1]}), not only tensors: a whole pickled model or training state. "
            "Reading it would run code of whoever made it, so it is not read. If you trust it, save its state dict "
            "where it was made, and use that file: python -c \"import torch; c = torch.load('"
            f"{path.name}', weights_only=False); c = c['state_dict'] if isinstance(c, dict) else c; "
            f"torch.save(c.state_dict() if hasattr(c, 'state_dict') else c, 'state_dict.pth')\""
        ) from None
    except InputError:
        raise
    except Exception as error:  # a file cut short or made of anything makes torch raise whatever it happens to meet
        raise InputError(_no_torch_file(path)) from error


def _no_torch_file(path: Path) -> str:
    return (
        f"{path} is no file that torch.save wrote, or not all of it ({path.stat().st_size} bytes): get the file again."
    )


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no state dict but {type(content).__name__}: give a file of weights.")
    other = [f"{name}: {type(value).__name__}" for name, value in content.items() if not isinstance(value, Tensor)]
    refuse(other, f"{path} holds more than tensors", "Give a file with the state dict alone.")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(content)


def load_into(model: HRNet, tensors: dict[str, Tensor], *, path: Path, part: Literal["all", "backbone"]) -> list[str]:
    """Give `model` the weights `tensors` of the file `path`; the names of the model's tensors that stay as they were.

    "all" takes a model of the same landmarks, tensor by tensor. "backbone" takes the published ImageNet weights (their
    classification layers are left out, the head stays as it was) or a model of other landmarks (only the head's last
    layer stays). Raises `InputError` that lists every tensor that is missing, not expected, or of another shape;
    then the model is as it was.
    """
    own = model.state_dict()
    faults, taken = [], {}
    for name, tensor in tensors.items():
        free = part == "backbone" and name.startswith(HEAD)
        if name in own and own[name].shape == tensor.shape:
            taken[name] = tensor
        elif name in own and not free:
            faults.append(f"{name}: its shape is {_shape(tensor)}, and the model's {_shape(own[name])}")
        elif name not in own and not (part == "backbone" and name.startswith(CLASSIFICATION)):
            faults.append(f"{name}: not expected")
    new = [name for name in own if name not in taken]
    faults += [f"{n}: missing" for n in new if n not in tensors and not (part == "backbone" and n.startswith(HEAD))]
    refuse(faults, f"{path} does not fit the model", _difference(model, tensors))
    model.load_state_dict(taken, strict=False)
    return new


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"


def _difference(model: HRNet, tensors: dict[str, Tensor]) -> str:
    """What the faults come down to, and what to do."""
    config = _config(tensors)
    if config is None:
        return "The file is none of an HRNetV2 under its published names: give another one."
    if config != model.config:
        return f"The file is of the variant {config}, the model {model.config}: change one of them."
    last = tensors.get(f"{HEAD}3.bias")
    if last is not None and len(last) != model.landmarks:
        return (
            f"The file has {len(last)} landmarks, the model {model.landmarks}: give the file of this dataset, "
            "or start a training from it."
        )
    return "Give a whole file of the same network."


def _config(tensors: dict[str, Tensor]) -> HRNetConfig | None:
    """The variant that the names and shapes tell, or None where they are not an HRNet's."""

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
    except KeyError:
        return None
