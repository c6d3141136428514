"""A stopped training resumes to the same bits, and reports what makes it fail."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from stages.config.experiment import load_recipe
from stages.model import fit, optimisation
from stages.model.examples import Examples, epoch_batches
from stages.model.hrnet import HRNet, HRNetConfig
from stages.model.predict import Batches
from stages.model.training_state import TrainingState
from stages.system.errors import InputError


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def tiny_recipe(ema_decay: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(
        input=SimpleNamespace(size=64, box=1.25, stretch=False),
        target=SimpleNamespace(sigma=1.5, rounding="exact"),
        augment=SimpleNamespace(
            scale=0.25, rotation=30, rotation_share=0.6, shift=0, flip=0.5,
            grey=0.2, light=0.2, blur=0.2, noise=0.2, occlusion=0.2,
        ),
        train=SimpleNamespace(
            loss="mse", optimizer="adam", weight_decay=0, lr=0.01, epochs=4, schedule="steps", milestones=[3],
            gamma=0.1, warmup=0, ema_decay=ema_decay, batch=8, sync_norm=False, precision="fp32", compile=False, seed=1,
        ),
    )  # fmt: skip


def random_examples(recipe: SimpleNamespace, n: int = 33) -> Examples:
    """Crops of random pixels, in which nothing can be learned."""
    random = np.random.default_rng(0)
    faces = Batches(random.integers(0, 256, (n, 112, 112, 3), np.uint8), 2.1875, recipe.input)
    landmarks = torch.from_numpy(faces.to_pooled(random.uniform(40, 70, (n, 3, 2))))
    return Examples(faces, landmarks, [f"face {i}" for i in range(n)], torch.tensor([1, 0, 2]))


def trained(checkpoint: Path, recipe: SimpleNamespace) -> TrainingState:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = HRNet(3, HRNetConfig(4, 8, 1, (1, 1, 1), 1))
    return fit.fit(
        model, random_examples(recipe), recipe, validate=None, checkpoint=checkpoint, epoch_done=lambda *_: None
    )


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_training_stopped_at_any_step_resumes_to_the_same_bits(tmp_path, monkeypatch, ema_decay):
    whole = trained(tmp_path / "whole.pt", tiny_recipe(ema_decay))
    monkeypatch.setattr(fit, "SAVE_EVERY", 0)  # a checkpoint after every step
    steps, train_step = 0, fit.train_step

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps % 3 == 0:
            raise KeyboardInterrupt
        return train_step(*arguments)

    monkeypatch.setattr(fit, "train_step", interrupted)
    resumed = None
    while resumed is None:
        try:
            resumed = trained(tmp_path / "resumed.pt", tiny_recipe(ema_decay))
        except KeyboardInterrupt:
            continue
    assert steps > 16
    assert whole.history == resumed.history
    for expected, model in ((whole.model, resumed.model), (whole.result, resumed.result)):
        for name, tensor in expected.state_dict().items():
            assert torch.equal(tensor, model.state_dict()[name]), name


def test_the_result_is_the_ema_where_there_is_one(tmp_path):
    plain, averaged = (trained(tmp_path / f"{decay}.pt", tiny_recipe(decay)) for decay in (0.0, 0.9))
    assert plain.result is plain.model
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, averaged.model.state_dict()[name]), "the EMA does not affect the training"
    assert not torch.equal(averaged.result.head[3].weight, averaged.model.head[3].weight)


def test_a_loss_that_is_not_finite_names_the_step_and_its_faces_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    recipe = tiny_recipe()
    train_step, steps = fit.train_step, []

    def nan_at_step_seven(*arguments):
        steps.append(1)
        return train_step(*arguments) * (float("nan") if len(steps) == 7 else 1)

    monkeypatch.setattr(fit, "train_step", nan_at_step_seven)
    with pytest.raises(InputError) as error:
        trained(tmp_path / "last.pt", recipe)
    examples = random_examples(recipe)
    batches = epoch_batches(len(examples), recipe.train.batch, recipe.train.seed, 1)
    step = 6 - len(batches)
    assert f"NaN or infinite in epoch 2, step {step + 1}" in str(error.value)
    assert ", ".join(examples.face_id[i] for i in batches[step]) in str(error.value)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["progress"]["epoch"] == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"half of it")
    with pytest.raises(InputError, match=r"last\.pt cannot be read"):
        trained(tmp_path / "last.pt", tiny_recipe())


def test_batches_contain_every_face_once_and_are_of_even_size():
    batches = epoch_batches(33, 8, 1, 0)
    assert sorted(np.concatenate(batches)) == list(range(33))
    assert {len(batch) for batch in batches} == {6, 7}
    assert not np.array_equal(batches[0], epoch_batches(33, 8, 1, 1)[0])


def test_the_learning_rate_falls_after_its_milestones():
    train = load_recipe("quick", "demo", "train").train
    rates = [optimisation.learning_rate(train, epoch) for epoch in range(train.epochs)]
    first, second = train.milestones
    assert rates[first - 1] == train.lr
    assert rates[first] == pytest.approx(train.lr * train.gamma)
    assert rates[second] == pytest.approx(train.lr * train.gamma**2)


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
    assert files_of(cut_project.folder / "models/toy-tiny") == expected, "the finished model is unchanged"
    assert "resuming after epoch" in cut_project.stage("train", "toy-tiny")
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
    history = pd.read_csv(cut_project.folder / "data/training/toy-tiny/history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert history["train/loss"].is_monotonic_decreasing
    assert "12 faces, 3 of 3 landmarks" in cut_project.stage("predict", "toy-tiny")
    assert "test NME" in cut_project.stage("evaluate", "toy-tiny")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("params/recipes/tiny.yaml", "scale: 0.25", "scale: 0.9", "augmentation needs"),
        ("params/recipes/tiny.yaml", "size: 64", "size: 256", "too coarse"),
        ("data/schemes/toy.json", '"count": 3', '"count": 4', "3 landmarks a face, and the dataset's scheme has 4"),
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
