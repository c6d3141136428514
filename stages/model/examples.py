"""Training batches: shuffled faces, augmented, with their target heat maps."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.model import augment, distributed, heatmap, paper, photometric
from stages.model.hrnet import STRIDE
from stages.model.predict import Batches


def epoch_batches(n: int, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Indices of an epoch's batches of at most `batch` faces: a new order every epoch, no undersized last batch."""
    order = np.random.default_rng((seed, epoch)).permutation(n)
    return np.array_split(order, math.ceil(n / batch))


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The random number generator of one step, which depends on nothing else."""
    state = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


@dataclass
class Examples:
    """Training faces: their pixels, and the landmarks (N, K, 2) float64 in px of `faces.images`."""

    faces: Batches
    landmarks: Tensor
    face_id: list[str]
    flip_order: Tensor  # (K,)

    def __len__(self) -> int:
        return len(self.face_id)

    def batch(self, index: np.ndarray, recipe, random: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Augmented, standardised images (n, 3, s, s) and their target heat maps (n, K, s/4, s/4), on `device`.

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
        cells = heatmap.to_cells(points).float().to(device, non_blocking=True)
        if recipe.target.rounding == "paper":
            maps = paper.targets_at(cells + 0.5, recipe.target.sigma, size // STRIDE)
        else:
            maps = heatmap.encode(cells, size // STRIDE, recipe.target.sigma)
        return images, maps
