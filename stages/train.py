"""Train HRNet on a dataset's crops with a recipe.

    python -m stages.train demo-quick
    torchrun --standalone --nproc-per-node 8 -m stages.train demo-quick

Reads data/crops/<dataset>/{train,val}, writes models/<experiment>: model.safetensors, model.json and history.csv.
A run that was stopped, in whatever way, goes on from its last checkpoint (.training/) to the same weights.
"""

import argparse
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from stages import errors, params, provenance, tracking
from stages.data.crops import Crops, read_crops
from stages.data.files import atomic_folder
from stages.data.geometry import flip_order
from stages.measure.metrics import face_errors, normalisers
from stages.model import checkpoint, distributed, fit, hrnet, initial
from stages.model.predict import Batches, predict


def require_fit(crops: Crops, recipe, landmarks: int, name: str) -> None:
    """Raise `InputError` where the crops cannot serve the parameters."""
    faults = []
    if crops.faces.landmarks.shape[1] != landmarks:
        faults.append(f"{crops.faces.landmarks.shape[1]} landmarks a face, and landmarks.count is {landmarks}")
    turn = np.deg2rad(min(recipe.augment.rotation, 45.0))
    reach = recipe.input.box * (1 + recipe.augment.scale) * (np.cos(turn) + np.sin(turn) + 2 * recipe.augment.shift)
    if reach > crops.context + 1e-9:
        faults.append(
            f"they show {crops.context:.4g} face boxes, and the recipe's augmentation reaches for {reach:.4g}"
        )
    if crops.context / crops.size > 1.5 * recipe.input.box / recipe.input.size:
        faults.append(f"they are {crops.size} px wide, too coarse for an input of {recipe.input.size} px")
    remedy = f"Change crops in params/datasets/{name}.yaml, or input and augment in the recipe, then dvc repro."
    errors.refuse(faults, f"the crops in data/crops/{name} do not fit the parameters", remedy)


def validation(crops: Crops, recipe, dataset):
    """The function that gives a model's metrics on val, or None where val is empty."""
    if not len(crops):
        if recipe.train.choose == "best":
            raise errors.InputError("val holds no face, so no best epoch can be chosen on it: "
                                    "set train.choose to last, or raise crops.val_share of the dataset.")  # fmt: skip
        return None
    batches = Batches(crops.images, crops.context, recipe.input)
    truth = crops.landmarks()
    side = np.full(len(crops), crops.size / crops.context)
    divisor = normalisers(truth, side, dataset.normalisers.definitions())[dataset.normalisers.official]

    def validate(model: torch.nn.Module) -> dict[str, float]:
        points, _ = predict(model, batches, batch=recipe.train.batch)
        return {"val/nme": 100 * float(face_errors(points, truth, divisor).mean())}

    return validate


def only_training_of(name: str) -> FileLock:
    """The lock that a second training of one experiment is refused by; it goes with the process that holds it."""
    try:
        return FileLock(Path(".training") / f"{name}.lock").acquire(timeout=0)
    except Timeout:
        raise errors.InputError(f"another process is training {name} here: wait for it, or stop it.") from None


def main(name: str) -> None:
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset, "landmarks", "normalisers")
    recipe = params.recipe(
        experiment.recipe, experiment.dataset, "model", "input", "target", "augment", "train", "init"
    )
    folder = Path("data/crops") / experiment.dataset
    train, val = read_crops(folder, "train"), read_crops(folder, "val")
    if not len(train):
        raise errors.InputError(f"{folder}: the train split is empty, there is nothing to train on.")
    require_fit(train, recipe, dataset.landmarks.count, experiment.dataset)

    torch.manual_seed(recipe.train.seed)
    variant = hrnet.HRNetConfig(**recipe.model.model_dump() | {"modules": tuple(recipe.model.modules)})
    model = hrnet.HRNet(dataset.landmarks.count, variant)
    hrnet.initialise(model)
    started_from = initial.start_from(model, recipe.init)
    faces = Batches(train.images, train.context, recipe.input)
    examples = fit.Examples(
        faces,
        torch.from_numpy(faces.to_pooled(train.landmarks())),
        train.faces.face_id,
        torch.from_numpy(flip_order(dataset.landmarks.flip_pairs, dataset.landmarks.count)),
    )

    made_of = {
        "params": provenance.short_hash([dataset.plain(), recipe.plain()]),
        "code": provenance.code_hash("train"),
        "init": started_from,
    }
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    made_by = provenance.environment() | {"device": gpu, "processes": distributed.world()}
    identity = provenance.identify(name)
    work = Path(".training") / f"{name}-{provenance.short_hash([made_of, identity.hashes['data']])[:16]}"
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        run = None
        if distributed.rank() == 0:  # it alone writes and logs
            stack.enter_context(only_training_of(name))
            data = (experiment.dataset, identity.hashes["data"], str(folder), "training", len(train))
            run = stack.enter_context(tracking.track(
                name, identity.fingerprint, "train", params=identity.parameters, tags=identity.tags() | made_by,
                data=tracking.DataInput(*data), system_metrics=True,
            ))  # fmt: skip
        distributed.join(fit.device())
        stack.callback(distributed.leave)

        def epoch_done(epoch: int, metrics: dict[str, float], seconds: float) -> None:
            figures = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
            print(f"epoch {epoch}/{recipe.train.epochs}  {figures}  {seconds:.1f} s", flush=True)
            run.log({**metrics, "train/seconds": seconds}, epoch)

        state = fit.fit(
            model, examples, recipe, validate=validation(val, recipe, dataset),
            checkpoint=work / "last.pt", epoch_done=epoch_done,
        )  # fmt: skip
        if run is None:
            return
        chosen, result = {"epoch": state.epoch}, state.result
        if recipe.train.choose == "best":
            result.load_state_dict(state.best["model"])
            chosen = {"epoch": state.best["epoch"], "val/nme": state.best["nme"]}
        description = {
            "input": recipe.input.model_dump(),
            "chosen": chosen,
            "training": {"epochs": recipe.train.epochs, "seed": recipe.train.seed, **made_of, **made_by},
        }
        with atomic_folder(Path("models") / name) as out:
            checkpoint.save(out, result, description)
            pd.DataFrame(state.history).to_csv(out / "history.csv", index=False)
        run.artifact(Path("models") / name / "model.safetensors", "model")
        run.artifact(Path("models") / name / "model.json", "model")
        run.mark("train")
        for left in work.parent.glob(f"{name}-{'[0-9a-f]' * 16}"):  # of this training and of earlier parameters
            shutil.rmtree(left)
    print(f"models/{name}: epoch {chosen['epoch']} of {recipe.train.epochs}; MLflow run {run.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="a name in params/pipeline.yaml")
    arguments = parser.parse_args()
    distributed.relaunch("stages.train", [arguments.experiment])
    errors.run(lambda: main(arguments.experiment))
