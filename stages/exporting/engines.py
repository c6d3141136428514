"""What a face costs and what its NME loses by each engine and precision, from input windows to landmarks.

The engines take turns on the same windows, and the least of several passes counts, since other programs only ever add
time. `plain` is the network as the published code runs it: PyTorch in fp32, batch norms apart, channels first.
"""

import time
from pathlib import Path

import numpy as np
import torch

from stages.data.crops import Crops
from stages.exporting.onnx_file import CPU, OnnxFile, input_windows
from stages.exporting.openvino_file import OpenVinoFile, is_installed
from stages.exporting.parity import BATCH, nme_of
from stages.model import heatmap
from stages.model.device import computes_bf16
from stages.model.hrnet import HRNet
from stages.model.predict import Batches, FusedNetwork, predict
from stages.system.processes import cores

PLAIN = "plain"
SIZES = (1, 8)  # faces of a batch
REPEATS = 7


def available() -> list[tuple[str, str]]:
    """The engines and precisions that this machine has; bf16 only where the processor computes in it."""
    both = ["fp32", "bf16"] if computes_bf16(CPU) else ["fp32"]
    pairs = [(PLAIN, "fp32"), *(("pytorch", precision) for precision in both), ("onnxruntime", "fp32")]
    return pairs + [("openvino", precision) for precision in both if is_installed()]


def measure(model: HRNet, path: Path, crops: Crops, flip_order: np.ndarray | None, nme: bool = True) -> list[dict]:
    """A row for each engine and precision: NME on `crops` in percent (but for `plain`, which is PyTorch's), and
    milliseconds a face by threads (one, all cores) and batch size."""
    file = OnnxFile(path)
    faces = Batches(crops.images, crops.context, file.input)
    rows: list[dict] = [
        {"engine": engine, "precision": precision, "milliseconds": []} for engine, precision in available()
    ]
    for row in rows[1:] if nme else ():
        points = _predict(row["engine"], row["precision"], model, path, faces, flip_order)
        row["nme"] = nme_of(crops, file.scheme, points)
    before = torch.get_num_threads()
    try:
        for threads in sorted({1, cores()}):
            torch.set_num_threads(threads)
            works = [_work(row["engine"], row["precision"], model, path, faces, flip_order, threads) for row in rows]
            for batch in SIZES:
                _, windows = input_windows(faces, slice(0, batch))
                windows = np.ascontiguousarray(np.resize(windows, (batch, *windows.shape[1:])))
                for row, least in zip(rows, _least(works, windows), strict=True):
                    row["milliseconds"].append({"threads": threads, "batch": batch, "value": least / batch})
    finally:
        torch.set_num_threads(before)
    return rows


def _least(works: list, windows: np.ndarray) -> list[float]:
    """Milliseconds of each; a first pass, which prepares memory, does not count."""
    least = [float("inf")] * len(works)
    for repeat in range(REPEATS + 1):
        for i, work in enumerate(works):
            start = time.perf_counter()
            work(windows)
            if repeat:
                least[i] = min(least[i], 1000 * (time.perf_counter() - start))
    return least


def _predict(engine: str, precision: str, model: HRNet, path: Path, faces: Batches, flip_order) -> np.ndarray:
    """Points (N, K, 2) in crop px."""
    if engine == "pytorch":
        return predict(FusedNetwork(model, precision), faces, batch=BATCH, flip_order=flip_order)[0]
    return _file(engine, precision, path, None).predict(faces, batch=BATCH)[0]


def _file(engine: str, precision: str, path: Path, threads: int | None) -> OnnxFile | OpenVinoFile:
    return OnnxFile(path, threads) if engine == "onnxruntime" else OpenVinoFile(path, precision, threads)


def _work(engine: str, precision: str, model: HRNet, path: Path, faces: Batches, flip_order, threads: int):
    """Input windows (n, S, S, 3) in 0 … 255 to landmarks and scores."""
    if engine not in (PLAIN, "pytorch"):
        return _file(engine, precision, path, threads).run
    network = (
        model.eval().to(memory_format=torch.contiguous_format) if engine == PLAIN else FusedNetwork(model, precision)
    )
    mirrored = None if flip_order is None else torch.as_tensor(flip_order)

    @torch.inference_mode()
    def work(windows: np.ndarray) -> tuple:
        images = faces.normalise(torch.from_numpy(windows).permute(0, 3, 1, 2))
        images = images.contiguous() if engine == PLAIN else images
        maps = network(images)
        if mirrored is not None:
            maps = (maps + heatmap.flip_maps(network(images.flip(-1)), mirrored)) / 2
        return heatmap.decode(maps)

    return work


def told(rows: list[dict]) -> str:
    """A line an engine, for the terminal."""
    lines = []
    for row in rows:
        nme = f"NME {row['nme']:.4f} %; " if "nme" in row else "as the published code runs it; "
        times = (
            f"{t['value']:.1f} ({t['threads']} thread{'s' * (t['threads'] > 1)}, batch {t['batch']})"
            for t in row["milliseconds"]
        )
        lines.append(f"{row['engine']} {row['precision']}: {nme}ms a face {', '.join(times)}")
    return "\n".join(lines)
