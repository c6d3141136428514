"""Training batches: shuffled faces, augmented, with their target heat maps.

What is random or small is drawn on the CPU (`Examples.draw`), for a GPU one step ahead; what is large is computed on
the device (`Examples.batch`), which no line of it waits for: no value is read back, and no ordinary memory is copied.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.model import augment, distributed, heatmap, paper, photometric
from stages.model.device import pin
from stages.model.hrnet import STRIDE
from stages.model.predict import Batches
from stages.system.errors import InputError

FAR_AWAY = -1e6  # px


def epoch_batches(
    n: int, batch: int, seed: int, epoch: int, processes: int = 1, full: bool = False
) -> list[np.ndarray]:
    """Indices of an epoch's batches of at most `batch` faces: a new order every epoch, no undersized last batch.

    full: every batch has exactly `batch` faces (n, if there are fewer), and what is left of the order is left out:
    other faces each time. Else every face is in one batch, and the sizes differ by one at most.
    Each of the processes needs a face of every batch: where batches of `batch` faces or one fewer would leave one
    without (16 processes, batches of 15 and 16 faces), they have one more instead. Raises `InputError` where there are
    fewer faces in a batch, or in all, than processes.
    """
    if min(n, batch) < processes:
        raise InputError(
            f"{processes} processes cannot share batches of {batch} of {n} faces: each needs a face. Use "
            f"{min(n, batch)} processes or fewer, or raise train.batch."
        )
    order = np.random.default_rng((seed, epoch)).permutation(n)
    if full:
        size = min(n, batch)
        return np.split(order[: n // size * size], n // size)
    count = math.ceil(n / batch)
    return np.array_split(order, count if n // count >= processes else n // processes)


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The random number generator of one step, which depends on nothing else."""
    state = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def ahead(draw: Callable[[int], "Drawn"], steps: range, device: torch.device) -> Iterator["Drawn"]:
    """`draw` of every step in turn; for a GPU that of the next one in a thread, while the GPU computes."""
    if device.type != "cuda":
        yield from map(draw, steps)
        return
    # a thread has a current GPU of its own, on which it pins memory
    with ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as pool:
        following = pool.submit(draw, steps[0]) if steps else None
        for step in steps:
            current = following.result()
            following = pool.submit(draw, step + 1) if step + 1 in steps else None
            yield current


class Drawn(NamedTuple):
    """What is drawn for a batch, of this process's n faces."""

    faces: Tensor  # (n,) indices
    pixels: Tensor | None  # (n, S, S, 3) uint8, or None where they are on the device already
    windows: Tensor  # (n, 2, 3) float64, input px → crop px
    cells: Tensor  # (n, K, 2) float32 landmarks in heat-map cells
    annotated: Tensor | None  # flat indices of the (n, K) annotated landmarks; None: all are
    photometric: list[tuple[Tensor, Tensor]]  # as of photometric.choose
    seed: int  # of the noise
    share: float  # this process's share of the annotated landmarks of the whole batch

    def map(self, change: Callable[[Tensor], Tensor]) -> "Drawn":
        """The same with every tensor changed."""
        chosen = [(change(faces), change(amount)) for faces, amount in self.photometric]
        rest = {name: change(value) for name, value in self._asdict().items() if isinstance(value, Tensor)}
        return self._replace(photometric=chosen, **rest)


@dataclass
class Examples:
    """Training faces: their pixels, and the landmarks (N, K, 2) float64 in px of `faces.images`, NaN where a landmark
    is not annotated."""

    faces: Batches
    landmarks: Tensor
    face_id: list[str]
    flip_order: Tensor  # (K,)

    def __len__(self) -> int:
        return len(self.face_id)

    def local_share(self, index: np.ndarray) -> float:
        """This process's share of the annotated landmarks of a batch: the weight of its mean loss in the whole one."""
        annotated = self.landmarks[index].isfinite().all(-1).sum(-1)
        total = int(annotated.sum())
        return int(annotated[distributed.local_slice(len(index))].sum()) / total if total else 0.0

    def draw(self, index: np.ndarray, recipe, random: torch.Generator, device: torch.device) -> Drawn:
        """What `batch` needs, on the CPU and, for a GPU, pinned.

        index: the faces of the whole batch; n of them are this process's. recipe: with the sections input and augment.
        Random numbers are drawn for the whole batch, so that they do not depend on the number of processes.
        """
        local = distributed.local_slice(len(index))
        changes, mirrored = augment.draw_changes(len(index), recipe.augment, recipe.input.size, random)
        drawn, seed = photometric.draw(len(index), random)[local], int(torch.randint(2**62, (), generator=random))
        share, index, mirrored = self.local_share(index), index[local], mirrored[local]
        windows = augment.chain(self.faces.windows(len(index)), changes[local])
        points = augment.to_input(windows, self.landmarks[index])
        points = torch.where(mirrored[:, None, None], points[:, self.flip_order], points)
        annotated = points.isfinite().all(-1)
        return Drawn(
            faces=torch.from_numpy(index),
            pixels=None if self.faces.resident_on(device) else self.faces.read(index),
            windows=windows,
            cells=heatmap.to_cells(points.nan_to_num(FAR_AWAY)).float(),  # far away: an empty map, which no loss reads
            annotated=None if annotated.all() else annotated.flatten().nonzero().flatten(),
            photometric=photometric.choose(drawn, recipe.augment),
            seed=seed,
            share=share,
        ).map(lambda tensor: pin(tensor, device))

    def batch(self, drawn: Drawn, recipe, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Augmented, standardised images (n, 3, s, s), their target heat maps (n, K, s/4, s/4), and the flat indices
        (m,) of the maps that are of an annotated landmark, or None where all are; on `device`.

        recipe: with the sections input and target.
        """
        size, drawn = recipe.input.size, drawn.map(lambda tensor: tensor.to(device, non_blocking=True))
        pixels = self.faces.resident[drawn.faces] if drawn.pixels is None else drawn.pixels
        images = augment.warp(pixels, drawn.windows, size)
        images = self.faces.normalise(photometric.apply(images, drawn.photometric, drawn.seed))
        if recipe.target.rounding == "paper":
            maps = paper.targets_at(drawn.cells + 0.5, recipe.target.sigma, size // STRIDE)
        else:
            maps = heatmap.encode(drawn.cells, size // STRIDE, recipe.target.sigma)
        return images, maps, drawn.annotated
