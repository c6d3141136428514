"""Training batches: shuffled faces, augmented, with their target heat maps."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.model import augment, distributed, heatmap, paper, photometric
from stages.model.hrnet import STRIDE
from stages.model.predict import Batches
from stages.system.errors import InputError

FAR_AWAY = -1e6  # px


def epoch_batches(n: int, batch: int, seed: int, epoch: int, processes: int = 1) -> list[np.ndarray]:
    """Indices of an epoch's batches of at most `batch` faces: a new order every epoch, no undersized last batch.

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
    count = math.ceil(n / batch)
    return np.array_split(order, count if n // count >= processes else n // processes)


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The random number generator of one step, which depends on nothing else."""
    state = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


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

    def batch(
        self, index: np.ndarray, recipe, random: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Augmented, standardised images (n, 3, s, s), their target heat maps (n, K, s/4, s/4), and which of the maps
        are of an annotated landmark, (n, K) bool or None where all are; on `device`.

        index: the faces of the whole batch; n of them are this process's. recipe: with the sections input, target and
        augment. Random numbers are drawn for the whole batch, so that they do not depend on the number of processes.
        """
        size, local = recipe.input.size, distributed.local_slice(len(index))
        changes, mirrored = augment.draw_changes(len(index), recipe.augment, size, random)
        drawn, seed = photometric.draw(len(index), random)[local], int(torch.randint(2**62, (), generator=random))
        index, mirrored = index[local], mirrored[local]
        windows = augment.chain(self.faces.windows(len(index)), changes[local])
        points = augment.to_input(windows, self.landmarks[index])
        points = torch.where(mirrored[:, None, None], points[:, self.flip_order], points)

        images = augment.warp(self.faces.pixels(index, device), windows, size)
        images = self.faces.normalise(photometric.apply(images, recipe.augment, drawn, seed))
        annotated = points.isfinite().all(-1)
        mask = None if annotated.all() else annotated.to(device, non_blocking=True)
        points = points.nan_to_num(FAR_AWAY)  # an empty map, which the loss leaves out
        cells = heatmap.to_cells(points).float().to(device, non_blocking=True)
        if recipe.target.rounding == "paper":
            maps = paper.targets_at(cells + 0.5, recipe.target.sigma, size // STRIDE)
        else:
            maps = heatmap.encode(cells, size // STRIDE, recipe.target.sigma)
        return images, maps, mask
