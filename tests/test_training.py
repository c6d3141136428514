"""A training goes on from where it was killed to the same bits, and says what stops it."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages import params
from stages.data.crops import read_crops
from stages.data.geometry import flip_order
from stages.errors import InputError
from stages.model import fit, hrnet, optimise
from stages.model.predict import Batches


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def ready(cut_project, monkeypatch):
    """Examples, recipe and a fresh model of the toy dataset, for `fit` in this process."""
    monkeypatch.chdir(cut_project.folder)
    torch.set_num_threads(1)
    dataset = params.dataset("toy", "landmarks")
    recipe = params.recipe("tiny", "toy", "model", "input", "target", "augment", "train")
    crops = read_crops(Path("data/crops/toy"), "train")
    faces = Batches(crops.images, crops.context, recipe.input)
    order = torch.from_numpy(flip_order(dataset.landmarks.flip_pairs, 3))
    examples = fit.Examples(faces, torch.from_numpy(faces.to_pooled(crops.landmarks())), crops.faces.face_id, order)

    def model() -> torch.nn.Module:
        torch.manual_seed(1)
        fresh = hrnet.HRNet(3, hrnet.HRNetConfig(4, 8, 1, (1, 1, 1), 1))
        hrnet.initialise(fresh)
        return fresh

    return examples, recipe, model


def trained(ready, checkpoint: Path) -> fit.State:
    examples, recipe, model = ready
    return fit.fit(model(), examples, recipe, validate=None, checkpoint=checkpoint, epoch_done=lambda *_: None)


def test_a_training_cut_off_at_any_step_goes_on_to_the_same_bits(ready, tmp_path, monkeypatch):
    whole = trained(ready, tmp_path / "whole.pt")
    monkeypatch.setattr(fit, "SAVE_EVERY", 0)  # a checkpoint after every step
    steps, real = 0, fit.train_step

    def cut_off(*arguments):
        nonlocal steps
        steps += 1
        if steps % 3 == 0:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(fit, "train_step", cut_off)
    pieces = None
    while pieces is None:
        try:
            pieces = trained(ready, tmp_path / "pieces.pt")
        except KeyboardInterrupt:
            continue
    assert steps > 16
    assert whole.history == pieces.history
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, pieces.model.state_dict()[name]), name


def test_a_loss_that_is_no_number_names_the_step_and_its_faces_and_keeps_the_checkpoint(ready, tmp_path, monkeypatch):
    examples, recipe, _ = ready
    real, steps = fit.train_step, []

    def poisoned(*arguments):
        steps.append(1)
        return real(*arguments) * (float("nan") if len(steps) == 7 else 1)

    monkeypatch.setattr(fit, "train_step", poisoned)
    with pytest.raises(InputError) as error:
        trained(ready, tmp_path / "last.pt")
    batches = fit.batches_of(len(examples.face_id), recipe.train.batch, recipe.train.seed, 1)
    step = 6 - len(batches)
    assert f"epoch 2, step {step + 1}" in str(error.value)
    assert ", ".join(examples.face_id[i] for i in batches[step]) in str(error.value)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["progress"]["epoch"] == 1


def test_a_damaged_checkpoint_is_named(ready, tmp_path):
    (tmp_path / "last.pt").write_bytes(b"half of it")
    with pytest.raises(InputError, match="last.pt cannot be read"):
        trained(ready, tmp_path / "last.pt")


def test_batches_hold_every_face_once_and_are_even():
    batches = fit.batches_of(33, 8, 1, 0)
    assert sorted(np.concatenate(batches)) == list(range(33))
    assert {len(batch) for batch in batches} == {6, 7}
    assert not np.array_equal(batches[0], fit.batches_of(33, 8, 1, 1)[0])


def test_the_learning_rate_falls_after_its_milestones():
    recipe = params.recipe("quick", "demo", "train").train
    rates = [optimise.rate(recipe, epoch) for epoch in range(recipe.epochs)]
    first, second = recipe.milestones
    assert rates[first - 1] == recipe.lr
    assert rates[first] == pytest.approx(recipe.lr * recipe.gamma)
    assert rates[second] == pytest.approx(recipe.lr * recipe.gamma**2)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_train_stage_resumes_to_the_same_model(cut_project, how):
    cut_project.stage("train", "toy-tiny")
    expected = files_of(cut_project.folder / "models/toy-tiny")
    process = cut_project.start("python", "-u", "-m", "stages.train", "toy-tiny")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    os.killpg(process.pid, how)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 143), rest
    assert files_of(cut_project.folder / "models/toy-tiny") == expected, "the finished model is still whole"
    assert "going on after epoch" in cut_project.stage("train", "toy-tiny")
    assert files_of(cut_project.folder / "models/toy-tiny") == expected
    assert not list((cut_project.folder / ".training").glob("toy-tiny-*")), "a finished training leaves no checkpoint"


def test_two_trainings_of_one_experiment_are_refused_and_a_dead_one_holds_nothing(cut_project):
    first = cut_project.start("python", "-u", "-m", "stages.train", "toy-tiny")
    for line in first.stdout:
        if line.startswith("epoch 1/"):
            break
    os.killpg(first.pid, signal.SIGSTOP)
    assert "another process is training toy-tiny" in cut_project.stage("train", "toy-tiny", fails=True)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    time.sleep(0.1)
    cut_project.stage("train", "toy-tiny")


def test_a_toy_is_learned_and_its_results_are_written(cut_project):
    cut_project.stage("train", "toy-tiny")
    history = pd.read_csv(cut_project.folder / "models/toy-tiny/history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert history["train/loss"].is_monotonic_decreasing
    printed = cut_project.stage("evaluate", "toy-tiny")
    assert "test NME" in printed


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("params/recipes/tiny.yaml", "scale: 0.25", "scale: 0.9", "augmentation reaches for"),
        ("params/recipes/tiny.yaml", "size: 64", "size: 256", "too coarse"),
        ("params/datasets/toy.yaml", "count: 3", "count: 4", "3 landmarks a face, and landmarks.count is 4"),
    ],
)
def test_crops_that_do_not_fit_the_parameters_are_refused(cut_project, file, old, new, message):
    path = cut_project.folder / file
    before = path.read_text()
    cut_project.change(file, old, new)
    try:
        printed = cut_project.stage("train", "toy-tiny", fails=True)
    finally:
        path.write_text(before)
    assert message in printed
    assert "Traceback" not in printed
