"""The intervals have the coverage they claim, and are reproducible by their seed."""

import time

import numpy as np
import pytest

from stages.metrics.intervals import mean_interval, share_interval


def test_a_95_percent_interval_contains_the_mean_in_93_to_97_of_100_experiments():
    rng = np.random.default_rng(11)
    mu, sigma = -3.0, 0.5  # like the NMEs of a face test set: a median of 5 % and a long right tail
    truth = np.exp(mu + sigma**2 / 2)
    contained = 0
    for seed in range(1000):
        low, high = mean_interval(rng.lognormal(mu, sigma, 200), seed, resamples=500)
        contained += low <= truth <= high
    assert 930 <= contained <= 970


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(2).lognormal(-3, 0.5, 300)
    assert mean_interval(values, 7) == mean_interval(values, 7)
    assert mean_interval(values, 7) != mean_interval(values, 8)


def test_the_interval_of_many_faces_is_the_normal_approximation():
    values = np.random.default_rng(4).normal(5, 1, 5000)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert mean_interval(values, 0) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)


def test_the_interval_of_2500_faces_takes_less_than_a_second():
    values = np.random.default_rng(4).lognormal(-3, 0.5, 2500)
    start = time.process_time()
    mean_interval(values, 0)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("values", [[], [0.1], [0.1, np.inf]])
def test_too_few_or_infinite_values_have_no_interval(values):
    assert mean_interval(np.array(values), 0) is None


def test_equal_values_have_an_interval_of_zero_width():
    assert mean_interval(np.array([0.1, 0.1, 0.1]), 0) == (0.1, 0.1)


def wilson(count, n, z=1.959963984540054):
    """The score interval in its closed form."""
    p = count / n
    middle = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


@pytest.mark.parametrize(("count", "n"), [(0, 300), (116, 2500), (3, 3), (1, 1)])
def test_the_interval_of_a_share_is_the_wilson_interval(count, n):
    assert share_interval(count, n) == pytest.approx(wilson(count, n), abs=1e-12)


def test_a_share_of_no_faces_has_no_interval():
    assert share_interval(0, 0) is None
