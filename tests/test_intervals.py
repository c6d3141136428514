"""The intervals have the coverage they claim, or are not given, and are reproducible by their seed."""

import time

import numpy as np
import pytest
from scipy.stats import binom

from stages.metrics.intervals import (
    BLOCK,
    MINIMUM_BOUNDED,
    MINIMUM_FACES,
    bounded_mean_interval,
    bounded_mean_intervals,
    error_and_bounded_intervals,
    mean_interval,
    mean_intervals,
    resampled_t,
    share_interval,
    standard_error,
)
from tests.simulations import at_threshold, coverage, populations, share_coverage, with_failures

SAMPLES, RESAMPLES = 2000, 999
MONTE_CARLO = 0.015  # three standard errors of a coverage of 95 % over so many samples
LONG_TAILS = populations()


@pytest.mark.parametrize("n", [MINIMUM_FACES, 300])
@pytest.mark.parametrize("name", LONG_TAILS)
def test_93_to_97_of_100_intervals_of_long_tailed_errors_contain_the_mean(name, n):
    contained = coverage(mean_intervals, LONG_TAILS[name], n, SAMPLES, RESAMPLES)
    assert 0.93 - MONTE_CARLO <= contained <= 0.97 + MONTE_CARLO


@pytest.mark.parametrize("n", [10, 25, 34, 94])
def test_there_is_no_interval_where_gross_failures_could_be_missed(n):
    """Of 3 % failures, ten times as large: whatever the method, their mean is missed more often than by 7 of 100."""
    assert coverage(mean_intervals, with_failures(0.03, 10), n, SAMPLES, RESAMPLES) < 0.93
    assert mean_interval(np.random.default_rng(n).lognormal(-3, 0.5, n), 0) is None
    assert mean_interval(np.full(n, 0.1), 0) is None


@pytest.mark.parametrize("n", [MINIMUM_BOUNDED, 25, 34, 94, 300])
@pytest.mark.parametrize("name", ["log-normal, σ 0.5", "log-normal, σ 1", "3 % failures × 10", "5 % failures × 20"])
def test_at_least_93_of_100_intervals_of_an_auc_contain_it(name, n):
    contained = coverage(bounded_mean_intervals, at_threshold(LONG_TAILS[name]), n, SAMPLES, RESAMPLES)
    assert 0.93 - MONTE_CARLO <= contained <= 0.99


def test_the_resampled_t_are_those_of_the_resamples_one_by_one():
    """Up to their rounding; some faces do not count for the second quantity."""
    rng, n, resamples = np.random.default_rng(5), 40, BLOCK + 3
    values = np.stack([rng.lognormal(1, 1, n), rng.normal(0, 1, n)], axis=1)
    values[::3, 1] = np.nan
    expected, rng = [], np.random.default_rng(7)
    for rows in (BLOCK, 3):
        for faces in rng.integers(n, size=(rows, n)):
            drawn = [values[faces, column] for column in (0, 1)]
            drawn = [column[~np.isnan(column)] for column in drawn]
            errors = [np.sqrt(((column - column.mean()) ** 2).mean() / len(column)) for column in drawn]
            expected.append([(drawn[i].mean() - np.nanmean(values[:, i])) / errors[i] for i in (0, 1)])
    np.testing.assert_allclose(resampled_t(values, 7, resamples), expected, rtol=1e-3, atol=1e-4)


def test_the_interval_takes_its_ends_from_the_resampled_t():
    errors = np.random.default_rng(6).lognormal(1, 0.6, 200)
    t = np.sort(resampled_t(errors[:, None], 3, 999)[:, 0])  # 25 of 1000 are beyond each end
    error = errors.std() / np.sqrt(200)
    assert mean_interval(errors, 3, 999) == pytest.approx(
        (errors.mean() - t[-25] * error, errors.mean() - t[24] * error)
    )
    assert standard_error(errors[:, None]) == pytest.approx([error])


def test_the_same_values_have_the_same_interval_to_the_last_bit_whatever_is_computed_beside_them():
    values = np.random.default_rng(2).lognormal(-3, 0.5, (300, 7))
    assert mean_interval(values[:, 0], 7) == mean_interval(values[:, 0], 7)
    assert mean_interval(values[:, 0], 7) != mean_interval(values[:, 0], 8)
    assert (resampled_t(values, 7, 500)[:, 3] == resampled_t(values[:, [3]], 7, 500)[:, 0]).all()


def test_the_interval_of_many_faces_is_the_normal_approximation():
    values = np.random.default_rng(4).normal(5, 1, 5000)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert mean_interval(values, 0) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)


def test_the_interval_of_2500_faces_takes_less_than_a_second():
    values = np.random.default_rng(4).lognormal(-3, 0.5, 2500)
    start = time.process_time()
    mean_interval(values, 0)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("values", [[], [0.1], [*[0.1] * 200, np.inf]])
def test_too_few_or_infinite_values_have_no_interval(values):
    assert mean_interval(np.array(values), 0) is None


def test_equal_values_have_an_interval_of_zero_width():
    assert mean_interval(np.full(200, 0.1), 0) == (0.1, 0.1)


@pytest.mark.parametrize("outliers", [1, 2, 5])
def test_an_interval_is_within_the_errors_where_few_faces_decide_the_mean(outliers):
    """Many resamples have none of the outliers, and hardly any variation or none at all."""
    for bulk in (np.full(200, 0.05), np.random.default_rng(1).lognormal(-3, 0.1, 200)):
        errors = np.where(np.arange(200) < outliers, 90.0, bulk)
        low, high = mean_interval(errors, 1)
        assert bulk.min() <= low <= errors.mean() <= high <= 90


@pytest.mark.parametrize(("value", "interval"), [(0.0, (0, 1 - 0.025 ** (1 / 94))), (1.0, (0.025 ** (1 / 94), 1))])
def test_an_auc_of_zero_or_one_is_not_certain(value, interval):
    assert bounded_mean_interval(np.full(94, value), 0) == pytest.approx(interval)


def test_an_auc_of_few_faces_is_bounded_by_the_share_of_as_many():
    """Of 94 faces two contribute; resamples have neither in 13 of 100 cases."""
    low, high = bounded_mean_interval(np.where(np.arange(94) < 2, 0.5, 0), 0)
    assert 0 <= low <= 1 / 94 <= high <= share_interval(1, 94)[1] < 0.06


def test_few_bounded_values_have_no_interval_and_others_are_refused():
    assert bounded_mean_interval(np.full(MINIMUM_BOUNDED - 1, 0.5), 0) is None
    assert bounded_mean_interval(np.empty(0), 0) is None
    for value in (1.1, -0.1, np.nan):
        with pytest.raises(ValueError, match="outside"):
            bounded_mean_interval(np.array([*[0.5] * 20, value]), 0)


@pytest.mark.parametrize(("count", "n"), [(0, 300), (116, 2500), (3, 3), (1, 1), (1, 34)])
def test_beyond_the_ends_of_a_share_interval_its_count_has_a_probability_of_2_and_a_half_percent(count, n):
    low, high = share_interval(count, n)
    assert low == 0 if count == 0 else binom.sf(count - 1, n, low) == pytest.approx(0.025)
    assert high == 1 if count == n else binom.cdf(count, n, high) == pytest.approx(0.025)


@pytest.mark.parametrize("n", [1, 10, 34, 300])
def test_a_share_interval_contains_every_share_with_at_least_95_percent(n):
    assert share_coverage(share_interval, n)[0] >= 0.95


def test_a_share_of_no_faces_has_no_interval():
    assert share_interval(0, 0) is None


@pytest.mark.parametrize("n", [5, 60, 131, 777])
def test_intervals_from_one_resampling_are_those_of_each_alone_to_the_last_bit(n):
    errors = np.random.default_rng(n).lognormal(-3, 0.5, n)
    gains = np.stack([np.clip(1 - errors / t, 0, 1) for t in (0.07, 0.08, 0.1)], 1)
    alone = mean_interval(errors, 5, 999), [bounded_mean_interval(column, 5, 999) for column in gains.T]
    assert error_and_bounded_intervals(errors, gains, 5, 999) == alone
    errors[0] = np.inf
    assert error_and_bounded_intervals(errors, gains, 5, 999) == (None, alone[1])
