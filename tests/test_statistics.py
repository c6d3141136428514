"""The intervals hold the truth as often as they say, and say the same for the same seed."""

import time

import numpy as np
import pytest

from stages.measure.statistics import mean_interval, share_interval


def test_a_95_percent_interval_holds_the_mean_in_93_to_97_of_100_experiments():
    rng = np.random.default_rng(11)
    mu, sigma = -3.0, 0.5  # like the NMEs of a face test set: a median of 5 % and a long right tail
    truth = np.exp(mu + sigma**2 / 2)
    held = 0
    for seed in range(1000):
        low, high = mean_interval(rng.lognormal(mu, sigma, 200), seed, resamples=500)
        held += low <= truth <= high
    assert 930 <= held <= 970


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(2).lognormal(-3, 0.5, 300)
    assert mean_interval(values, 7) == mean_interval(values, 7)
    assert mean_interval(values, 7) != mean_interval(values, 8)


def test_the_interval_of_many_faces_is_the_normal_one():
    values = np.random.default_rng(4).normal(5, 1, 5000)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert mean_interval(values, 0) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)


def test_a_benchmark_of_2500_faces_takes_a_second_a_subset():
    values = np.random.default_rng(4).lognormal(-3, 0.5, 2500)
    start = time.process_time()
    mean_interval(values, 0)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("values", [[], [0.1], [0.1, np.inf]])
def test_what_has_no_interval_gets_none(values):
    assert mean_interval(np.array(values), 0) is None


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval(np.array([0.1, 0.1, 0.1]), 0) == (0.1, 0.1)


def wilson(count, n, z=1.959963984540054):
    """The score interval in its closed form."""
    p = count / n
    middle = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


@pytest.mark.parametrize(("count", "n"), [(0, 300), (116, 2500), (3, 3), (1, 1)])
def test_a_share_s_interval_is_wilson_s(count, n):
    assert share_interval(count, n) == pytest.approx(wilson(count, n), abs=1e-12)


def test_a_share_of_nothing_has_no_interval():
    assert share_interval(0, 0) is None
