"""Train HRNet on a dataset's crops with a recipe.

    python -m stages.train demo-quick
    torchrun --standalone --nproc-per-node 8 -m stages.train demo-quick

Reads data/crops/<dataset>/{train,val} and the initial weights models/<init>, writes models/<experiment>
(model.safetensors, model.json) and data/training/<experiment> (history.csv, val.csv, training.json, images.txt).
A run that was stopped, in whatever way, continues from its last checkpoint (.training/) to the same weights.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from stages.config.experiment import load_experiment
from stages.data.crops import IMAGE_HASH, Crops, read_crops
from stages.data.scheme import read_scheme
from stages.data.splits import few_faces
from stages.model import checkpoint, distributed, fit, hrnet, progress
from stages.model.device import device
from stages.model.examples import Examples
from stages.model.initialisation import load_initial_weights
from stages.model.predict import Batches
from stages.model.validation import validation
from stages.system import errors
from stages.system.files import atomic_folder, write_json
from stages.tracking import provenance
from stages.tracking.results import log_training, tracked

ENDING = 20.0  # seconds that a training takes to end after its dvc


def require_fit(crops: Crops, recipe, landmarks: int, name: str) -> None:
    """Raise `InputError` where the crops do not suit the parameters."""
    faults = []
    if crops.faces.landmarks.shape[1] != landmarks:
        faults.append(f"{crops.faces.landmarks.shape[1]} landmarks a face, and the dataset's scheme has {landmarks}")
    turn = np.deg2rad(min(recipe.augment.rotation, 45.0))
    reach = recipe.input.box * (1 + recipe.augment.scale) * (np.cos(turn) + np.sin(turn) + 2 * recipe.augment.shift)
    if reach > crops.context + 1e-9:
        faults.append(f"they show {crops.context:.4g} face boxes, and the recipe's augmentation needs {reach:.4g}")
    if crops.context / crops.size > 1.5 * recipe.input.box / recipe.input.size:
        faults.append(f"they are {crops.size} px wide, too coarse for an input of {recipe.input.size} px")
    remedy = f"Change crops in params/datasets/{name}.yaml, or input and augment in the recipe, then dvc repro."
    errors.refuse(faults, f"the crops in data/crops/{name} do not suit the parameters", remedy)


def training_images(*splits: Crops) -> str:
    """The SHA-256 of every image that the training saw, a line each, so that test faces among them can be marked."""
    hashes = {sha256 for split in splits for sha256 in split.faces.extra.get(IMAGE_HASH, ())}
    return "".join(f"{sha256}\n" for sha256 in sorted(hashes))


def training_lock(name: str) -> FileLock:
    """The lock that makes a second training of one experiment fail; it goes with the process that holds it.

    Under DVC it is waited for: a training whose own dvc was killed is about to end.
    """
    wait = ENDING if "DVC_STAGE" in os.environ else 0
    try:
        return FileLock(Path(".training") / f"{name}.lock").acquire(timeout=wait)
    except Timeout:
        raise errors.InputError(f"another process is training {name} here: wait for it, or stop it.") from None


def main(name: str) -> None:
    experiment = load_experiment(name, "model", "input", "target", "augment", "train")
    recipe, scheme = experiment.recipe, read_scheme(experiment.trained_on)
    train, val = read_crops(experiment.crops, "train"), read_crops(experiment.crops, "val")
    if not len(train):
        raise errors.InputError(f"{experiment.crops}: the train split is empty, there is nothing to train on.")
    if recipe.train.faces:
        train = train.where(few_faces(train.faces, recipe.train.faces, experiment.crops))
    require_fit(train, recipe, scheme.count, experiment.dataset)

    torch.manual_seed(recipe.train.seed)
    variant = hrnet.HRNetConfig(**recipe.model.model_dump() | {"modules": tuple(recipe.model.modules)})
    model = hrnet.HRNet(scheme.count, variant)
    new = load_initial_weights(model, experiment.initial_weights, experiment.init_landmarks)
    faces = Batches(train.images, train.context, recipe.input)
    examples = Examples(
        faces,
        torch.from_numpy(faces.to_pooled(train.landmarks())),
        train.faces.face_id,
        torch.from_numpy(scheme.flip_order()),
    )

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    machine = provenance.environment() | {"device": gpu, "processes": distributed.world_size()}
    steps = len(fit.batches_of(0, len(train), recipe.train, device()))
    identity = provenance.identify(experiment)
    work = Path(".training") / f"{name}-{identity.of_training()[:16]}"
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        run = None
        if distributed.rank() == 0:  # it alone writes and logs
            stack.enter_context(training_lock(name))
            if new:
                print(f"starting from {experiment.initial_weights}; drawn at random: {', '.join(new)}", flush=True)
            if (pairs := experiment.init_landmarks) is not None:
                print(
                    f"its heat maps of {len(pairs)} of {scheme.count} landmarks are kept, by correspondence", flush=True
                )
            run = stack.enter_context(tracked(identity, "train", "training", len(train), machine, system_metrics=True))
            print(progress.first_line(name, len(train), recipe.train.epochs, steps, machine), flush=True)
        distributed.init_process_group(device())
        stack.callback(distributed.destroy_process_group)

        def epoch_done(history: Sequence[Mapping[str, float]], seconds: float, left: float) -> None:
            print(progress.epoch_line(history, recipe.train.epochs, seconds, left), flush=True)
            metrics = {key: value for key, value in history[-1].items() if key != "epoch"}
            run.log({**metrics, "train/seconds": seconds}, history[-1]["epoch"])

        validate = validation(val, recipe, scheme)
        with distributed.lost_processes():
            state = fit.fit(
                model, examples, recipe, validate=validate, checkpoint=work / "last.pt", epoch_done=epoch_done
            )
            kept, result = {"epoch": state.epoch}, state.result
            if recipe.train.checkpoint == "best":
                result.load_state_dict(state.best["model"])
                kept = {"epoch": state.best["epoch"], "val/nme": state.best["nme"]}
            of_val = validate.table(result) if validate else None
        if run is None:
            return
        with atomic_folder(experiment.model) as out:
            checkpoint.save(out, result, {"input": recipe.input.model_dump(), "scheme": scheme.model_dump()})
        with atomic_folder(experiment.training) as out:
            pd.DataFrame(state.history).to_csv(out / "history.csv", index=False)
            if of_val is not None:  # of every face, to compare recipes in pairs (study)
                of_val.to_csv(out / "val.csv", index=False)
            training = {"epochs": recipe.train.epochs, "seed": recipe.train.seed, "checkpoint": kept, **machine}
            write_json(out / "training.json", training)
            (out / "images.txt").write_text(training_images(train, val))
        run.mark("history")
        log_training(run, experiment)
        for stale in work.parent.glob(f"{name}-{'[0-9a-f]' * 16}"):  # of this training and of earlier parameters
            shutil.rmtree(stale)
    print(f"{experiment.model}: epoch {kept['epoch']} of {recipe.train.epochs}; MLflow run {run.name}")
    made = experiment.report / "provenance.json"
    if made.exists() and json.loads(made.read_text())["hashes"]["model"] != provenance.content_hash(experiment.model):
        print(f"{experiment.report} has the results of an earlier model until predict and evaluate have run: dvc repro")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="a name in params/pipeline.yaml")
    arguments = parser.parse_args()
    distributed.relaunch("stages.train", [arguments.experiment])
    errors.run(lambda: main(arguments.experiment))
