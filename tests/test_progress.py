"""What a training prints: how far it is, how good, and how long the rest will take."""

import math

import pytest

from stages.model import progress
from stages.model.progress import Clock, duration, epoch_line, first_line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (89.6, "1 min"),
        (680, "11 min"),
        (5340, "89 min"),
        (5430, "1 h 30 min"),
        (12000, "3 h 20 min"),
        (190800, "2 d 5 h"),
    ],
)
def test_a_duration_has_the_digits_that_an_estimate_deserves(seconds, text):
    assert duration(seconds) == text


def test_the_first_line_says_what_is_trained_and_where():
    machine = {"device": "cpu", "threads": 2, "processes": 1}
    line = "training X: 800 faces, 60 epochs of 50 steps, on cpu, 2 threads"
    assert first_line("X", 800, 60, 50, machine) == line
    assert first_line("X", 800, 60, 50, machine | {"threads": 1, "processes": 4}).endswith(
        "on cpu, 1 thread, 4 processes"
    )
    assert first_line("X", 800, 60, 50, machine | {"device": "NVIDIA H100"}).endswith("on NVIDIA H100")


def test_an_epochs_line_has_its_figures_the_best_so_far_and_the_time_left():
    first, second = (
        {"epoch": i, "train/loss": 0.00123, "lr": 0.001, "val/nme": nme} for i, nme in ((1, 6.214), (2, 7))
    )
    line = "epoch 1/60  loss 0.00123  val NME 6.21 (best 6.21 of epoch 1)  12.3 s, 11 min left"
    assert epoch_line([first], 60, 12.34, 680) == line
    assert "val NME 7.00 (best 6.21 of epoch 1)" in epoch_line([first, second], 60, 12.34, 680)
    assert epoch_line([first, second], 2, 680, 0).endswith("  11 min")


def test_without_a_val_split_there_is_no_nme_and_one_that_is_nan_is_not_the_best():
    assert epoch_line([{"epoch": 1, "train/loss": 1.5}], 2, 1, 1) == "epoch 1/2  loss 1.5  1.0 s, 1 s left"
    history = [{"epoch": i, "train/loss": 1, "val/nme": nme} for i, nme in ((1, math.nan), (2, 9), (3, math.nan))]
    assert "val NME nan (best 9.00 of epoch 2)" in epoch_line(history, 4, 1, 1)


@pytest.fixture
def time(monkeypatch) -> list[float]:
    """The clock's time, in seconds, to be changed."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock: Clock, time: list[float], steps: int, seconds: float) -> list[float]:
    """Steps of so many seconds each; the estimates that they gave."""
    given = []
    for _ in range(steps):
        time[0] += seconds
        given.append(clock.step())
    return [left for left in given if left is not None]


def test_the_first_estimate_comes_once_and_leaves_the_slow_first_step_out(time):
    clock = Clock(100)
    assert run(clock, time, 1, 60.0) == []
    assert run(clock, time, 49, 2.0) == [pytest.approx(80 * 2.0)]
    clock.epoch()
    assert run(clock, time, 50, 2.0) == []


def test_the_time_left_follows_the_last_epochs(time):
    clock, left = Clock(20 * 10), []
    for epoch in range(20):
        run(clock, time, 10, 5.0 if epoch < 5 else 1.0)
        time[0] += 3.0  # validation
        seconds, until_the_end = clock.epoch()
        left.append(until_the_end)
        assert seconds == (53.0 if epoch < 5 else 13.0)
    assert left[0] == pytest.approx(19 * 53.0)
    assert left[9] == pytest.approx(10 * 13.0), "the slow epochs are no longer recent"
    assert left[-1] == 0


def test_a_training_resumed_in_the_middle_of_an_epoch_knows_what_is_left(time):
    clock = Clock(2 + 3 * 10)  # two steps of this epoch, and three epochs
    run(clock, time, 2, 4.0)
    assert clock.epoch() == (8.0, pytest.approx(3 * 10 * 4.0))
    run(clock, time, 10, 4.0)
    assert clock.epoch() == (40.0, pytest.approx(2 * 10 * 4.0))
