"""The weights that a training starts from, where they are not drawn at random."""

import hashlib
import os
from pathlib import Path

from stages.data.download import download, is_url
from stages.errors import InputError
from stages.model.checkpoint import WEIGHTS, load_into, read_released
from stages.model.hrnet import HRNet

IMAGENET = (
    "The published ImageNet weights, hrnetv2_w18_imagenet_pretrained.pth, are linked from "
    "https://github.com/HRNet/HRNet-Image-Classification (HRNet-W18-C); init.weights: null starts from random ones."
)


def start_from(model: HRNet, init) -> str | None:
    """Give `model` the weights that a recipe's section `init` names; the file's SHA-256, None where it names none.

    A file of ours or a released one, of landmarks or of ImageNet: what of the head does not fit stays as it was.
    Raises `InputError` where the file is missing, is not the one that init.sha256 names, or is of another network.
    """
    if init.weights is None:
        return None
    root = Path(os.environ.get("DVC_ROOT", ""))  # in dvc exp run --temp the files lie in the parent repository
    if is_url(init.weights):
        store = root / "data/downloads/weights" / f"{init.sha256[:16]}{Path(init.weights).suffix}"
        path = download(init.weights, init.sha256, store)
    else:
        path = root / Path(init.weights).expanduser()
        path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"init.weights: there is no {path}. {IMAGENET}")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if init.sha256 and digest != init.sha256:
        raise InputError(f"{path}: its SHA-256 is {digest}, and init.sha256 is {init.sha256}. It was not used.")
    new = load_into(model, read_released(path), path=path, part="backbone")
    print(f"starting from {path}" + (f"; new: {', '.join(new)}" if new else ""), flush=True)
    return digest
