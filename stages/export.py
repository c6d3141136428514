"""Export a model as an ONNX file that gives the same landmarks, measured on its dataset's test faces.

    python -m stages.export models/lfpw-modern-128 --out lfpw-modern-128.onnx
    python -m stages.landmarks lfpw-modern-128.onnx photo.jpg --out found

The graph takes input windows of faces, N×S×S×3 float32 RGB in 0 … 255 (uint8 pixels, cast, do as well), and gives
landmarks (N×K×2, px of the window, pixel centres at integers), confidences (N×K) and the heat maps' spreads (N×K):
normalisation and decoder are inside, N is dynamic. A window is a square of `input.box` face boxes about the box's
centre, which the file's metadata say, with scheme, flip pairs, mean shape, the weights' hashes and the calibration: how
expected errors follow from confidences and spreads, and face boxes from a detector's. ONNX Runtime and PyTorch are
compared on the test crops of the model's dataset: nothing is written where a landmark differs by more than 0.01 px.
The figures are added to reports/experiments/<model>/exports.json where that folder is, for the report. It needs `make
onnx`.
"""

import argparse
import json
import time
import tomllib
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from stages.data.crops import read_crops, read_index
from stages.exporting import engines, graph, parity
from stages.exporting.onnx_file import OnnxFile
from stages.inference import calibration
from stages.metrics.breakdown import mean_face
from stages.model import checkpoint
from stages.system import errors
from stages.system.errors import InputError
from stages.system.files import atomic, digest, write_json
from stages.tracking.provenance import environment

EXPERIMENTS = Path("reports/experiments")
ROOT = Path(__file__).parents[1]


def crops_folder(model: Path, given: Path | None) -> Path:
    """Of --crops, or of the dataset that the model was trained on, as its results say."""
    if given:
        return given
    try:
        made = json.loads((EXPERIMENTS / model.name / "provenance.json").read_text(encoding="utf-8"))
        folder = Path("data/crops") / made["trained_on"]
    except (OSError, ValueError, KeyError):
        raise InputError(f"there are no results of {model.name} to say its dataset: give --crops DIR.") from None
    if not (folder / "test.npy").is_file():
        raise InputError(f"{folder} has no test crops to compare on: run dvc repro (or dvc pull), or give --crops DIR.")
    return folder


def mean_shape(crops: Path, size: int, box: float) -> list | None:
    """(K, 2) input px of the training faces; None where their table is not at hand."""
    if not (crops / "train.parquet").is_file():
        return None
    faces, _ = read_index(crops, "train")
    shape = mean_face(faces.landmarks, faces.center, faces.side)
    return (shape * size / box + (size - 1) / 2).round(3).tolist() if np.isfinite(shape).all() else None


def main(folder: Path, out: Path, crops: Path | None, flip_test: bool) -> None:
    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: an ONNX file is named .onnx.")
    model, description = checkpoint.load(folder)
    model_input = checkpoint.input_of(description)
    scheme = checkpoint.scheme_of(description)
    crops = crops_folder(folder, crops)
    test = read_crops(crops, "test")
    flip_order = scheme.flip_order() if flip_test else None
    weights = folder / checkpoint.WEIGHTS
    facts = {
        "model": folder.name, "scheme": scheme.model_dump(), "landmarks": scheme.count,
        "input": {"size": model_input.size, "box": model_input.box, "stretch": model_input.stretch,
                  "layout": "N×S×S×3 float32 RGB 0…255; normalisation is inside the graph"},
        "flip_test": flip_test, "precision": "fp32", "mean_shape": mean_shape(crops, model_input.size, model_input.box),
        "calibration": calibration.of_model(folder).model_dump(),
        "weights_md5": digest(weights, "md5"), "weights_sha256": digest(weights),
        "version": tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
    }  # fmt: skip
    facts = {name: value for name, value in facts.items() if value is not None}
    start = time.perf_counter()
    with atomic(out) as temporary:
        order = None if flip_order is None else torch.as_tensor(flip_order)
        graph.write(temporary, model, model_input, order, facts)
        seconds = time.perf_counter() - start
        file = OnnxFile(temporary)
        compared = parity.compare(
            model, file, test, flip_order, lambda steps: tqdm(steps, "compare", mininterval=1, disable=None)
        )
        parity.require(compared)
    megabytes = out.stat().st_size / 1e6
    print(f"{out}: {megabytes:.1f} MB, exported in {seconds:.0f} s\n{told(compared)}")
    measured = engines.measure(model, out, test, flip_order)
    print(engines.told(measured))
    row = {
        "file": out.name, "weights_md5": facts["weights_md5"], "flip_test": flip_test, "precision": "fp32",
        "megabytes": megabytes, "crops": crops.name, **parity.record(compared), "engines": measured,
        "cpu": environment()["cpu"], "date": date.today().isoformat(),
    }  # fmt: skip
    if (EXPERIMENTS / folder.name).is_dir():
        add(EXPERIMENTS / folder.name / "exports.json", row)


def told(compared: parity.Parity) -> str:
    """What was compared, for the terminal."""
    flat = ""
    if compared.flat:
        of = len(compared.landmarks_px) * compared.faces
        flat = (
            f"\nwarning: {compared.flat} of {of} landmarks have a confidence below {parity.PEAK}, so no peak, and were "
            f"left out of this (there up to {compared.flat_px:.2g} px): the model is hardly trained"
        )
    return (
        f"on {compared.faces} test faces PyTorch and ONNX Runtime differ by {compared.largest_px:.2g} px at most "
        f"(landmark {compared.landmark}) and {compared.mean_px:.2g} px in the mean, in px of the input window; "
        f"confidences by {compared.confidence:.1g} at most\n"
        f"NME {compared.nme_pytorch:.4f} % (PyTorch), {compared.nme_onnx:.4f} % (ONNX Runtime); with windows rounded "
        f"to uint8 {compared.nme_rounded:.4f} %, the points {compared.rounded_px:.2g} px away in the mean{flat}"
    )


def add(path: Path, row: dict) -> None:
    """The row takes the place of an earlier one of the same kind."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        rows = []
    kind = ("flip_test", "precision")
    write_json(path, [old for old in rows if [old.get(key) for key in kind] != [row[key] for key in kind]] + [row])
    print(f"{path}: run dvc repro report to have it on the results page")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a folder models/<experiment>")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.onnx")
    parser.add_argument("--crops", type=Path, metavar="DIR", help="the crops to compare on (default: of its dataset)")
    parser.add_argument("--flip-test", action="store_true", help="average with the mirrored face inside the graph")
    given = parser.parse_args()
    errors.run(lambda: main(given.model, given.out, given.crops, given.flip_test))
