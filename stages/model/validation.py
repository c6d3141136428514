"""The NME on val, by which an epoch can be chosen and recipes are compared."""

import numpy as np
import pandas as pd
import torch

from stages.data.crops import Crops
from stages.data.nme import face_errors, normalisers
from stages.data.scheme import DatasetScheme
from stages.model import distributed
from stages.model.predict import Batches, predict
from stages.system.errors import InputError


class Validation:
    """A function that gives a model's metrics on val, called by all processes.

    Faces whose official normaliser is 0 or not annotated are left out. Predictions are those of the exact decoder
    without the mirrored face.
    """

    def __init__(self, crops: Crops, recipe, scheme: DatasetScheme):
        """recipe: with the sections input and train."""
        self.batch = recipe.train.batch
        truth = crops.landmarks()
        side = np.full(len(crops), crops.size / crops.context)
        normaliser = normalisers(truth, side, scheme.normalisers())[scheme.normaliser]
        measured = np.flatnonzero(np.isfinite(normaliser))
        self.truth, self.normaliser = truth[measured], normaliser[measured]
        self.face_id = [crops.faces.face_id[row] for row in measured]
        # whole batches for each process, so that their number changes no prediction
        local = distributed.local_slice(-(-len(measured) // self.batch))
        self.local = slice(local.start * self.batch, local.stop * self.batch)
        self.batches = Batches(crops.images[measured[self.local]], crops.context, recipe.input)

    def nme(self, model: torch.nn.Module) -> np.ndarray:
        """(N,) the NME of each measured face, a fraction of the normaliser. Called by all processes."""
        points = predict(model, self.batches, batch=self.batch)[0] if len(self.batches) else self.truth[self.local]
        return face_errors(distributed.gather(points), self.truth, self.normaliser)

    def __call__(self, model: torch.nn.Module) -> dict[str, float]:
        """The mean NME in percent."""
        return {"val/nme": 100 * float(self.nme(model).mean())}

    def table(self, model: torch.nn.Module) -> pd.DataFrame:
        """Columns face_id and nme, in percent. Called by all processes."""
        return pd.DataFrame({"face_id": self.face_id, "nme": 100 * self.nme(model)})


def validation(crops: Crops, recipe, scheme: DatasetScheme) -> Validation | None:
    """None where val has no face to measure. Raises `InputError` if an epoch is to be chosen on it nevertheless."""
    best = recipe.train.checkpoint == "best"
    if not len(crops):
        if best:
            raise InputError(
                "val has no face, so no best epoch can be chosen on it: set train.checkpoint to last, or raise "
                "crops.val_share of the dataset."
            )
        return None
    measure = Validation(crops, recipe, scheme)
    if not measure.face_id:
        if best:
            raise InputError(
                f"{scheme.normaliser} cannot be measured on any face of val, so no best epoch can be chosen: annotate "
                "its landmarks, choose another normaliser in the dataset's file, or set train.checkpoint to last."
            )
        return None
    return measure
