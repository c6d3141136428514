"""A stopped training resumes to the same bits, and reports what makes it fail."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from stages import evaluate, predict, train
from stages.config.experiment import load_experiment, load_recipe
from stages.data.crops import read_crops, read_index
from stages.model import fit, optimisation, training_state
from stages.model.examples import Examples, epoch_batches, step_generator
from stages.model.hrnet import HRNet, HRNetConfig
from stages.model.predict import Batches
from stages.model.training_state import TrainingState, read_checkpoint
from stages.system import errors
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
            least_steps=0,
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


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, TrainingState]:
    """A training stopped in its third epoch, with two checkpoints; and the same one, undisturbed."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        whole = trained(folder / "whole.pt", tiny_recipe(0.9))
        steps, train_step = [], fit.train_step
        patch.setattr(fit, "SAVE_EVERY", 0)

        def interrupted(*arguments):
            steps.append(1)
            if len(steps) == 12:
                raise KeyboardInterrupt
            return train_step(*arguments)

        patch.setattr(fit, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(folder / "last.pt", tiny_recipe(0.9))
    return folder, whole


def test_a_training_stopped_at_any_step_resumes_to_the_same_bits(tmp_path, monkeypatch, stopped):
    """Without an EMA, see test_a_killed_train_stage_resumes_to_the_same_model."""
    _, whole = stopped
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
            resumed = trained(tmp_path / "resumed.pt", tiny_recipe(0.9))
        except KeyboardInterrupt:
            continue
    assert steps > 16
    assert whole.history == resumed.history
    for expected, model in ((whole.model, resumed.model), (whole.result, resumed.result)):
        for name, tensor in expected.state_dict().items():
            assert torch.equal(tensor, model.state_dict()[name]), name


def test_sigterm_ends_a_training_after_its_step_with_a_checkpoint(tmp_path, monkeypatch, stopped):
    """A second one, as torchrun sends after Slurm's, does not keep the checkpoint from being written."""
    _, whole = stopped
    steps, train_step, write = [], fit.train_step, training_state.write_checkpoint

    def signalled(*arguments):
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*arguments)

    def written(*arguments):
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(*arguments)

    monkeypatch.setattr(fit, "train_step", signalled)
    monkeypatch.setattr(training_state, "write_checkpoint", written)
    before = signal.signal(signal.SIGTERM, errors.stop)  # as within errors.run
    try:
        with pytest.raises(errors.Stopped):
            trained(tmp_path / "last.pt", tiny_recipe(0.9))
    finally:
        signal.signal(signal.SIGTERM, before)
    progress = read_checkpoint(tmp_path / "last.pt")["progress"]
    assert progress["epoch"] * len(whole.losses) + progress["step"] == len(steps) == 7
    monkeypatch.undo()
    resumed = trained(tmp_path / "last.pt", tiny_recipe(0.9))
    for name, tensor in whole.result.state_dict().items():
        assert torch.equal(tensor, resumed.result.state_dict()[name]), name


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
    assert read_checkpoint(tmp_path / "last.pt")["progress"]["epoch"] == 1


DAMAGES = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "without its end": lambda data: data[:-1],
    "one bit": lambda data: data[:-5000] + bytes([data[-5000] ^ 1]) + data[-4999:],
    "a block of zeros": lambda data: data[:8192] + bytes(4096) + data[12288:],
    "its checksum": lambda data: bytes(32) + data[32:],
    "longer": lambda data: data + b"x",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_for_the_one_before_it(tmp_path, capsys, damage):
    path, model = tmp_path / "last.pt", torch.nn.Conv2d(3, 20, 20)
    state = TrainingState(model, torch.optim.Adam(model.parameters()), None)
    for state.epoch in (1, 2, 3):
        state.save(path)
        state.finish_writing()
    assert state.resume(path) == path
    assert state.epoch == 3
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert state.resume(path) == tmp_path / "last.previous.pt"
    assert state.epoch == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"warning: the checkpoint {path} cannot be read (its checksum is wrong)")
    assert printed.endswith("continuing from the one before it\n")


def test_a_training_that_continues_from_the_checkpoint_before_gives_the_same_bits(stopped, tmp_path, capsys):
    folder, whole = stopped
    shutil.copy(folder / "last.previous.pt", tmp_path)
    (tmp_path / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:-1])
    resumed = trained(tmp_path / "last.pt", tiny_recipe(0.9))
    assert f"resuming after epoch 2, step 0 ({tmp_path / 'last.previous.pt'})" in capsys.readouterr().out
    assert resumed.history == whole.history
    for name, tensor in whole.result.state_dict().items():
        assert torch.equal(tensor, resumed.result.state_dict()[name]), name


def test_a_training_killed_between_two_checkpoints_continues_from_the_one_before(tmp_path):
    path, model = tmp_path / "last.pt", torch.nn.Conv2d(3, 20, 20)
    state = TrainingState(model, torch.optim.Adam(model.parameters()), None)
    state.save(path)
    state.finish_writing()
    path.rename(tmp_path / "last.previous.pt")
    assert state.resume(path) == tmp_path / "last.previous.pt"
    state.save(path)
    state.finish_writing()
    assert state.resume(path) == path


def test_damaged_checkpoints_without_a_whole_one_are_named(tmp_path):
    for names in (["last.pt"], ["last.pt", "last.previous.pt"]):
        for name in names:
            (tmp_path / name).write_bytes(b"half of it")
        with pytest.raises(InputError) as refused:
            trained(tmp_path / "last.pt", tiny_recipe())
        for name in names:
            assert f"{tmp_path / name} cannot be read (its checksum is wrong)" in str(refused.value)
        assert f"delete {tmp_path} to start again" in str(refused.value)


def test_batches_contain_every_face_once_and_are_of_even_size():
    batches = epoch_batches(33, 8, 1, 0)
    assert sorted(np.concatenate(batches)) == list(range(33))
    assert {len(batch) for batch in batches} == {6, 7}
    assert not np.array_equal(batches[0], epoch_batches(33, 8, 1, 1)[0])


@pytest.mark.parametrize(("least_steps", "passes"), [(0, 1), (20, 1), (21, 2), (100, 5)])
def test_few_faces_are_passed_over_until_there_are_enough_steps(least_steps, passes):
    """4 epochs of 33 faces in batches of 8 are 20 steps."""
    recipe = tiny_recipe()
    recipe.train.least_steps = least_steps
    epochs = [fit.batches_of(epoch, 33, recipe.train, torch.device("cpu")) for epoch in range(recipe.train.epochs)]
    assert [len(batches) for batches in epochs] == [5 * passes] * 4
    assert all(np.array_equal(np.bincount(np.concatenate(batches)), [passes] * 33) for batches in epochs)
    orders = [tuple(np.concatenate(batches[i : i + 5])) for batches in epochs for i in range(0, 5 * passes, 5)]
    assert len(set(orders)) == 4 * passes


@pytest.mark.parametrize(
    ("n", "batch", "processes"), [(31, 16, 16), (33, 8, 7), (3148, 16, 16), (16, 16, 16), (5, 9, 5)]
)
def test_every_process_has_a_face_of_every_batch(n, batch, processes):
    """31 faces in two batches of at most 16 are 16 and 15, which 16 processes cannot share."""
    batches = epoch_batches(n, batch, 1, 0, processes)
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert min(map(len, batches)) >= processes
    assert max(map(len, batches)) <= batch + n % batch


@pytest.mark.parametrize(("n", "batch"), [(40, 15), (15, 40)])
def test_more_processes_than_faces_in_a_batch_are_refused(n, batch):
    with pytest.raises(InputError, match=r"Use 15 processes or fewer"):
        epoch_batches(n, batch, 1, 0, 16)


def test_no_step_of_the_warm_up_has_a_rate_of_zero():
    train = SimpleNamespace(lr=1.0, warmup=2.0, epochs=10, schedule="steps", milestones=[], gamma=0.1)
    rates = [optimisation.learning_rate(train, step / 4, 1 / 4) for step in range(10)]
    assert rates == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1])


@pytest.mark.parametrize("loss", ["mse", "smooth_l1", "awing"])
def test_a_landmark_that_is_not_annotated_is_not_trained_on(loss):
    """Neither its pixels nor anything else gives it a gradient; the loss is the mean over the other maps."""
    recipe = tiny_recipe()
    examples, index, cpu = random_examples(recipe), np.arange(6), torch.device("cpu")
    examples.landmarks[2, 1] = examples.landmarks[5] = torch.nan
    recipe.augment.flip = 0.0
    drawn = examples.draw(index, recipe, step_generator(1, 0, 0), cpu)
    images, maps, rows = examples.batch(drawn, recipe, cpu)
    annotated = torch.ones(6, 3, dtype=torch.bool)
    annotated[2, 1] = annotated[5] = False
    assert torch.equal(rows, torch.nonzero(annotated.flatten()).flatten())
    predicted = torch.nn.Parameter(torch.rand_like(maps))
    train = SimpleNamespace(loss=loss, precision="fp32", compile=False)
    value = fit.forward(lambda _: predicted, train, images, maps, rows)
    value.backward()
    assert not predicted.grad[~annotated].any()
    assert predicted.grad[annotated].any(-1).any(-1).all()
    assert float(value.detach()) == pytest.approx(
        float(fit.LOSSES[loss](predicted.detach()[annotated], maps[annotated]))
    )


def test_a_mirrored_face_takes_the_annotation_of_its_partner():
    recipe = tiny_recipe()
    recipe.augment.flip = 1.0
    examples = random_examples(recipe)
    examples.landmarks[0, 0] = torch.nan  # 0 and 1 change places
    drawn = examples.draw(np.arange(1), recipe, step_generator(1, 0, 0), torch.device("cpu"))
    assert drawn.annotated.tolist() == [0, 2]


def test_the_shares_of_the_processes_weight_their_means_to_that_of_the_batch(monkeypatch):
    examples = random_examples(tiny_recipe())
    examples.landmarks[1, :2] = examples.landmarks[3] = torch.nan
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(examples.local_share(np.arange(4)))
    assert shares == [3 / 7, 1 / 7, 3 / 7]  # faces 0, 1 and (2, 3) with 3, 1 and 3 + 0 annotated landmarks


@pytest.mark.parametrize("byte", range(0, 4000, 97))
def test_a_checkpoint_with_a_changed_byte_is_refused(byte, tmp_path):
    """Also where torch's own format has no checksum."""
    path = tmp_path / "last.pt"
    model = torch.nn.Conv2d(3, 20, 3)
    state = TrainingState(model, torch.optim.Adam(model.parameters()), None)
    state.save(path)
    state.finish_writing()
    data = bytearray(path.read_bytes())
    data[byte % len(data)] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its checksum is wrong"):
        read_checkpoint(path)


def test_the_best_epoch_is_kept_only_where_it_is_asked_for(tmp_path):
    recipe = tiny_recipe()
    torch.manual_seed(1)
    for kept in ("best", "last"):
        recipe.train.checkpoint = kept
        model = HRNet(3, HRNetConfig(4, 8, 1, (1, 1, 1), 1))
        state = fit.fit(
            model, random_examples(recipe), recipe, validate=lambda _: {"val/nme": 1.0}, checkpoint=tmp_path / kept,
            epoch_done=lambda *_: None,
        )  # fmt: skip
        assert ("model" in state.best) == (kept == "best")
        assert ("model" in read_checkpoint(tmp_path / kept)["best"]) == (kept == "best")


def test_a_checkpoint_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    """One that is slow to write is written once a minute, and after the last epoch."""
    saves, save = [], TrainingState.save

    def slow(state, path):
        save(state, path)
        saves.append(state.epoch)
        state.cost = 1000.0

    monkeypatch.setattr(TrainingState, "save", slow)
    trained(tmp_path / "last.pt", tiny_recipe())
    assert saves == [1, 4]


def test_a_checkpoint_is_written_beside_the_training_with_the_state_at_its_call(tmp_path, monkeypatch):
    may_write, write = threading.Event(), training_state.write_checkpoint

    def slow(path, content):
        may_write.wait(20)
        return write(path, content)

    monkeypatch.setattr(training_state, "write_checkpoint", slow)
    model = torch.nn.BatchNorm2d(3)
    state = TrainingState(model, torch.optim.Adam(model.parameters()), optimisation.EMA(model, 0.9))
    state.save(tmp_path / "last.pt")
    assert not (tmp_path / "last.pt").exists()
    for tensor in (*state.result.state_dict().values(), *model.state_dict().values()):
        tensor.fill_(7)  # as the next step does, in place
    may_write.set()
    state.finish_writing()
    kept = read_checkpoint(tmp_path / "last.pt")
    assert not any((tensor == 7).any() for of in ("model", "ema") for tensor in kept[of].values())


def test_an_error_of_the_writing_thread_ends_the_training(tmp_path):
    (tmp_path / "a file").touch()
    with pytest.raises(OSError, match="a file"):
        trained(tmp_path / "a file" / "last.pt", tiny_recipe())


def test_the_learning_rate_falls_after_its_milestones():
    train = load_recipe("quick", "demo", "train").train
    rates = [optimisation.learning_rate(train, epoch) for epoch in range(train.epochs)]
    first, second = train.milestones
    assert rates[first - 1] == train.lr
    assert rates[first] == pytest.approx(train.lr * train.gamma)
    assert rates[second] == pytest.approx(train.lr * train.gamma**2)


@pytest.fixture
def here(cut_project, monkeypatch):
    """The project as the working directory, for stages that run in this process: to start one takes seconds."""
    monkeypatch.chdir(cut_project.folder)
    monkeypatch.setenv("LANDMARKS_TRACKING", "off")
    torch.set_num_threads(1)
    return cut_project


def started(project) -> subprocess.Popen:
    return project.start("python", "-u", "-m", "stages.train", "toy-tiny")


def wait_for_epoch(process: subprocess.Popen, epoch: int) -> list[str]:
    """What it has printed when that epoch is over."""
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith(f"epoch {epoch}/"):
            break
    return printed


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_train_stage_resumes_to_the_same_model(here, capsys, how):
    model = Path("models/toy-tiny")
    if not model.exists():
        train.main("toy-tiny")
    expected = files_of(model)
    process = started(here)
    wait_for_epoch(process, 2)
    os.killpg(process.pid, how)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 143), rest
    assert files_of(model) == expected, "the finished model is unchanged"
    capsys.readouterr()
    train.main("toy-tiny")
    assert "resuming after epoch" in capsys.readouterr().out
    assert files_of(model) == expected
    assert not list(Path(".training").glob("toy-tiny-*")), "a finished training leaves no checkpoint"


@pytest.mark.parametrize(
    ("stage", "setting", "spins"),
    [
        ("train", {}, "1000"),
        ("predict", {}, "1000"),
        ("train", {"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
    ],
)
def test_waiting_threads_soon_sleep_unless_the_user_has_said_how_they_wait(stage, setting, spins):
    """As the OpenMP library says when it is loaded."""
    own = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-m", f"stages.{stage}", "--help"]
    process = subprocess.run(command, cwd=ROOT, env=own | setting | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True,
                             text=True, check=True)  # fmt: skip
    assert re.search(r"GOMP_SPINCOUNT = '(\d+)'", process.stderr).group(1) == spins


def test_two_trainings_of_one_experiment_are_refused_and_a_dead_one_holds_nothing(here):
    first = started(here)
    printed = wait_for_epoch(first, 1)
    os.killpg(first.pid, signal.SIGSTOP)
    with pytest.raises(InputError, match="another process is training toy-tiny"):
        train.main("toy-tiny")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    time.sleep(0.1)
    train.main("toy-tiny")
    faces = len(read_index(Path("data/crops/toy"), "train")[0])
    assert f"training toy-tiny: {faces} faces, 4 epochs of {-(-faces // 8)} steps, on cpu, 1 thread\n" in printed
    assert re.fullmatch(r"epoch 1/4  loss \S+  val NME (\S+) \(best \1 of epoch 1\)  \S+ s, \d+ s left\n", printed[-1])


def test_under_dvc_a_training_whose_dvc_was_killed_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".training").mkdir()
    other = os.open(".training/toy.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    monkeypatch.setenv("DVC_STAGE", "train@toy")
    monkeypatch.setattr(train, "ENDING", 0.1)
    with pytest.raises(InputError, match="another process is training toy here"):
        train.training_lock("toy")
    monkeypatch.setattr(train, "ENDING", 20)
    threading.Timer(0.5, os.close, [other]).start()
    with train.training_lock("toy"):
        pass


def test_a_training_on_few_faces_sees_no_others(here, monkeypatch):
    def on_few(*names: str):
        experiment = load_experiment(*names)
        experiment.recipe.train = experiment.recipe.train.model_copy(update={"faces": 6, "epochs": 1})
        return experiment

    monkeypatch.setattr(train, "load_experiment", on_few)
    train.main("toy-tiny")
    seen = set(Path("data/training/toy-tiny/images.txt").read_text().split())
    split, val = (set(read_crops(Path("data/crops/toy"), of).faces.extra["image_sha256"]) for of in ("train", "val"))
    assert len(seen & split) == 6
    assert seen - split == val


def test_a_toy_is_learned_and_its_results_are_written(here, capsys):
    train.main("toy-tiny")
    history = pd.read_csv("data/training/toy-tiny/history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert history["train/loss"].is_monotonic_decreasing
    of_val = pd.read_csv("data/training/toy-tiny/val.csv")
    assert of_val["face_id"].tolist() == read_crops(Path("data/crops/toy"), "val").faces.face_id
    assert of_val["nme"].mean() == pytest.approx(history["val/nme"].min()), "of the epoch that is kept"
    predict.main("toy-tiny")
    assert "12 faces, 3 of 3 landmarks" in capsys.readouterr().out
    evaluate.main("toy-tiny")
    assert "test NME" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("history.csv", lambda data: b""),
        ("history.csv", lambda data: data[:9]),
        ("history.csv", lambda data: bytes(len(data))),
        ("history.csv", lambda data: data.replace(b"0.", b"0x", 1)),
        ("history.csv", lambda data: b"\xff\xfe" + data),
        ("history.csv", None),
        ("training.json", lambda data: data[:-9]),
        ("training.json", lambda data: bytes(len(data))),
        ("images.txt", lambda data: data[:-9]),
        ("images.txt", lambda data: bytes(len(data))),
        ("images.txt", lambda data: b"\xff" + data[1:]),
    ],
)
def test_a_damaged_file_of_a_training_is_named_by_evaluate(here, file, damage):
    if not Path("data/predictions/toy-tiny.parquet").exists():
        train.main("toy-tiny")
        predict.main("toy-tiny")
        evaluate.main("toy-tiny")
    path, report = Path("data/training/toy-tiny") / file, Path("reports/experiments/toy-tiny")
    before, whole = {name: report.joinpath(name).read_bytes() for name in ("history.csv", "provenance.json")}, None
    try:
        whole = path.read_bytes()
        path.unlink()
        if damage:
            path.write_bytes(damage(whole))
        with pytest.raises(InputError, match=rf"data/training/toy-tiny/{file}.*(.|\n)*dvc checkout"):
            evaluate.main("toy-tiny")
        assert {name: report.joinpath(name).read_bytes() for name in before} == before
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("params/recipes/tiny.yaml", "scale: 0.25", "scale: 0.9", "augmentation needs"),
        ("params/recipes/tiny.yaml", "size: 64", "size: 256", "too coarse"),
        ("data/schemes/toy.json", '"count": 3', '"count": 4', "3 landmarks a face, and the dataset's scheme has 4"),
    ],
)
def test_crops_that_do_not_fit_the_parameters_are_refused(here, file, old, new, message):
    before = Path(file).read_text()
    here.change(file, old, new)
    try:
        with pytest.raises(InputError, match=message):
            train.main("toy-tiny")
    finally:
        Path(file).write_text(before)
