"""Statistics: those worked by hand."""

import numpy as np
import pytest
import scipy.stats

from benchmarks import stats


def test_summary_of_hand_worked_numbers():
    assert stats.summary([4, 1, 3, 2]) == stats.Summary(median=2.5, iqr=1.5, n=4)
    assert stats.summary([4, 1, 3, 2]).noisy
    assert not stats.summary([100, 110, 120, 130]).noisy  # 15 of 115
    assert stats.mean_std([1, 2, 3]) == (2.0, 1.0)
    assert stats.mean_std([7]) == (7.0, 0.0)


def test_ratio_of_constant_samples_has_no_width():
    assert stats.ratio([6, 6, 6], [2, 2]) == stats.Estimate(3.0, 3.0, 3.0)


def test_ratio_interval_has_the_bounds_of_an_enumerated_bootstrap():
    """One of two values each: all four quotients of medians of (1, 2) over (1,) are 1, 1.5, 1.5, 2."""
    assert stats.ratio([1, 2], [1]) == stats.Estimate(1.5, 1.0, 2.0)


def test_mean_has_students_interval():
    """Mean 2, standard error 1 / sqrt(3), 2 degrees of freedom."""
    half = scipy.stats.t.ppf(0.975, 2) / np.sqrt(3)
    found = stats.mean([1, 2, 3])
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), rel=1e-12)
    assert stats.mean([7]) == stats.Estimate(7.0, 7.0, 7.0)


def test_difference_is_welchs_interval():
    """Means 2 and 4, variances 1 and 4: standard error sqrt(5/3), 50/17 degrees of freedom."""
    half = scipy.stats.t.ppf(0.975, 50 / 17) * np.sqrt(5 / 3)
    found = stats.difference([1, 2, 3], [2, 4, 6])
    assert (found.value, found.low, found.high) == pytest.approx((-2, -2 - half, -2 + half), rel=1e-12)
    theirs = scipy.stats.ttest_ind([1, 2, 3], [2, 4, 6], equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert stats.difference([1, 1], [3, 3]) == stats.Estimate(-2.0, -2.0, -2.0)
    with pytest.raises(ValueError, match="two samples or more on each side, got 1 and 2"):
        stats.difference([1], [1, 2])


def test_losses_are_compared_with_their_median():
    assert stats.disagreeing({"a": 1.0, "b": 1.0005, "c": 1.1}, 1e-3) == ["c"]
    assert stats.disagreeing({"a": 1.0, "b": 2.0}, 1e-3) == ["a", "b"]
    assert stats.disagreeing({"a": float("nan")}, 1e-3) == ["a"]
