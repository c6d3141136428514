"""The initial weights of a training: random ones, or those of a file."""

from collections.abc import Sequence
from pathlib import Path

from stages.model.checkpoint import WEIGHTS, load_into, read_state_dict, read_weights, select_landmarks
from stages.model.hrnet import HRNet
from stages.system.errors import InputError

RANDOM = "random"  # models/random is a text file that represents the weights drawn at random
IMAGENET = (
    "Train the experiment of that name first, or put a file of weights there. The published ImageNet weights, "
    "hrnetv2_w18_imagenet_pretrained.pth (models/imagenet.pth), are linked from "
    "https://github.com/HRNet/HRNet-Image-Classification (HRNet-W18-C). `init: random` needs no file."
)


def load_initial_weights(model: HRNet, path: Path, landmarks: Sequence[tuple[int, int]] | None = None) -> list[str]:
    """Load the initial weights `path` (models/<init>) into `model`, whose weights are random.

    path: a model folder of ours, a file of landmark or ImageNet weights, or models/random, which loads nothing.
    landmarks: where the file has another landmark scheme, pairs (own, theirs) of landmarks that correspond: their heat
    maps are kept, those of the other landmarks stay random.
    Returns the names of the tensors that are missing in the file and stay random (parts of the head); none for
    models/random, where all do. Raises `InputError` where `path` is missing, damaged, or of another network.
    """
    if path.name == RANDOM:
        return []
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"the initial weights {file} are missing. {IMAGENET}")
    tensors = read_weights(path) if path.is_dir() else read_state_dict(file)
    if landmarks is not None:
        tensors = select_landmarks(model, tensors, landmarks)
    return load_into(model, tensors, path=file, part="backbone")
