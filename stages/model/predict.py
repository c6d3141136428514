"""Landmark prediction from crops: points in crop px, and scores. The batch size is fixed, so that results are too."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stages.model import augment, heatmap, paper
from stages.model.hrnet import HRNet, fuse_for_inference

Progress = Callable[[list], Iterable]


class Batches:
    """Batches of faces for the network, from crops downsampled once to about the input's scale.

    images: (N, S, S, 3) uint8 crops of `context` face boxes. model_input: size in px, box in face boxes, stretch.
    """

    def __init__(self, images: np.ndarray, context: float, model_input):
        self.factor = augment.pool_factor(images.shape[1], context, model_input.size, model_input.box)
        self.images = augment.pool(images, self.factor)
        self.context = context
        self.size, self.box, self.stretch = model_input.size, model_input.box, model_input.stretch
        self.resident: Tensor | bool | None = None  # all images on the GPU; False where they do not fit

    def __len__(self) -> int:
        return len(self.images)

    def windows(self, n: int) -> Tensor:
        """(n, 2, 3) float64 input px → px of `images`, without augmentation."""
        return augment.plain_windows(n, self.images.shape[1], self.context, self.size, self.box)

    def resident_on(self, device: torch.device) -> bool:
        """Whether all images are on a GPU: the first call copies them there if they fit in half its memory."""
        if device.type == "cuda" and self.resident is None:
            fits = self.images.nbytes < torch.cuda.mem_get_info(device)[0] / 2
            self.resident = torch.from_numpy(np.array(self.images)).to(device) if fits else False
        return isinstance(self.resident, Tensor)

    def read(self, rows: slice | np.ndarray) -> Tensor:
        """(n, S, S, 3) uint8 of some faces, on the CPU."""
        return torch.from_numpy(np.array(self.images[rows]))

    def pixels(self, part: slice, device: torch.device) -> Tensor:
        """(n, S, S, 3) uint8 of some faces, on the device."""
        return self.resident[part] if self.resident_on(device) else self.read(part).to(device)

    def normalise(self, images: Tensor) -> Tensor:
        """Sampled windows (n, 3, size, size) in 0 … 255, stretched if the model needs it, and standardised."""
        images = augment.normalise(paper.stretch(images) if self.stretch else images)
        return images.contiguous(memory_format=torch.channels_last)

    def to_pooled(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks from crop px to px of `images`."""
        return (landmarks - (self.factor - 1) / 2) / self.factor

    def from_pooled(self, points: np.ndarray) -> np.ndarray:
        """Points from px of `images` to crop px."""
        return points * self.factor + (self.factor - 1) / 2


class FusedNetwork:
    """A network ready to predict: batch norms folded into the convolutions, in fp32 or bf16; heat maps are fp32."""

    def __init__(self, model: HRNet, precision: Literal["fp32", "bf16"] = "fp32"):
        self.network = fuse_for_inference(model)
        self.dtype = torch.float32
        if precision == "bf16":
            self.dtype = torch.bfloat16
            self.network = self.network.to(self.dtype, memory_format=torch.channels_last)
        self.device = next(model.parameters()).device

    def __call__(self, images: Tensor) -> Tensor:
        """Heat maps (N, K, S/4, S/4) of normalised input windows (N, 3, S, S)."""
        return self.network(images.to(self.dtype)).float()


def in_batches(
    n: int, batch: int, work: Callable[[slice], tuple], device: torch.device, progress: Progress, few: bool = False
) -> list:
    """The results of `work` on every batch of n faces, in order.

    On the CPU a batch is computed by a single thread: how a sum is split over threads changes its last bits, so this
    way results do not depend on the number of threads. few: all threads share each batch instead, which is sooner done
    where there is but one.
    """
    parts = [slice(start, start + batch) for start in range(0, n, batch)]
    if device.type != "cpu" or few:
        return [work(part) for part in progress(parts)]
    threads = min(torch.get_num_threads(), 8)  # a batch of 32 faces at 256 px takes half a gigabyte
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = [pool.submit(work, part) for part in parts]
        try:
            return [job.result() for job in progress(jobs)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def predict(
    model: HRNet | FusedNetwork,
    faces: Batches,
    *,
    batch: int,
    flip_order: np.ndarray | None = None,
    moves: Tensor | None = None,
    spread: bool = False,
    few: bool = False,
    progress: Progress = iter,
) -> tuple[np.ndarray, ...]:
    """Points (N, K, 2) float64 in crop px and scores (N, K), the heat maps' peaks; with spread also their widths (N, K)
    in cells.

    flip_order: (K,) for the flip test, which averages the heat maps of the face and of its mirror image. moves: (N, 2,
    3) float64 input px → input px of the annotated face box, for a perturbed one. few: as in `in_batches`.
    """
    network = model if isinstance(model, FusedNetwork) else FusedNetwork(model)
    device = network.device
    mirrored = None if flip_order is None else torch.as_tensor(flip_order, device=device)

    @torch.inference_mode()
    def work(part: slice) -> tuple[np.ndarray, ...]:
        pixels = faces.pixels(part, device)
        windows = faces.windows(len(pixels))
        if moves is not None:
            windows = augment.chain(windows, moves[part])
        images = faces.normalise(augment.warp(pixels, windows, faces.size))
        maps = network(images)
        if mirrored is not None:
            maps = (maps + heatmap.flip_maps(network(images.flip(-1)), mirrored)) / 2
        cells, peaks = heatmap.decode(maps)
        points = augment.from_input(windows, heatmap.to_input(cells.double().cpu()))
        widths = (heatmap.spread(maps, cells).cpu().numpy(),) if spread else ()
        return faces.from_pooled(points.numpy()), peaks.double().cpu().numpy(), *widths

    parts = zip(*in_batches(len(faces), batch, work, device, progress, few), strict=True)
    return tuple(np.concatenate(part) for part in parts)
