"""Claims: the words that an interval allows."""

import pytest

from benchmarks.claims import Claim, Goal, Measure, compared
from benchmarks.stats import Estimate


def claim(value, low, high, goal=None, **options):
    return Claim("a / b", Estimate(value, low, high), goal, **options)


def test_a_verdict_needs_an_interval_without_one():
    assert claim(1.2, 1.1, 1.3).verdict == "ahead"
    assert claim(0.8, 0.7, 0.9).verdict == "behind"
    assert claim(1.1, 0.9, 1.3).verdict == "no difference"
    assert claim(1.2, 1.1, 1.3, noisy=True).verdict == "too noisy to say"
    assert claim(0.8, 0.7, 0.9, larger_is_better=False).verdict == "ahead"
    assert claim(1.2, 1.1, 1.3, larger_is_better=False).verdict == "behind"


@pytest.mark.parametrize(
    ("value", "low", "high", "larger", "outcome"),
    [
        (2.6, 2.5, 2.7, True, ">= 2.5: reached"),
        (2.6, 2.4, 2.8, True, ">= 2.5: reached, within the noise"),
        (2.4, 2.3, 2.6, True, ">= 2.5: missed, within the noise"),
        (2.4, 2.3, 2.45, True, ">= 2.5: missed"),
        (2.4, 2.3, 2.45, False, "<= 2.5: reached"),
        (2.4, 2.3, 2.6, False, "<= 2.5: reached, within the noise"),
        (2.6, 2.4, 2.7, False, "<= 2.5: missed, within the noise"),
        (2.6, 2.55, 2.7, False, "<= 2.5: missed"),
    ],
)
def test_a_goal_is_reached_or_missed_and_how_surely(value, low, high, larger, outcome):
    found = claim(value, low, high, 2.5, larger_is_better=larger)
    assert found.outcome == outcome
    assert found.reached == ("reached" in outcome)
    noisy = claim(value, low, high, 2.5, larger_is_better=larger, noisy=True)
    assert (noisy.outcome, noisy.reached) == ("", None)


def test_without_a_goal_there_is_no_outcome():
    assert (claim(2.0, 1.9, 2.1).outcome, claim(2.0, 1.9, 2.1).reached) == ("", None)


def test_shares_and_differences_are_shown_in_per_cent():
    share = claim(0.9935, 0.993, 0.994, 0.994, kind="share")
    assert (share.shown(0.9935), share.interval) == ("99.35%", "99.30% to 99.40%")
    assert (share.verdict, share.outcome) == ("", ">= 99.4%: missed, within the noise")
    gap = claim(-0.0004, -0.002, 0.001, kind="difference")
    assert (gap.interval, gap.verdict) == ("-0.20% to +0.10%", "no difference")
    assert claim(0.02, 0.01, 0.03, kind="difference").verdict == "ahead"


def test_ratios_are_shown_with_three_figures_or_more():
    assert [claim(1, 1, 1).shown(value) for value in (0.671, 4.2, 1234.5)] == ["0.67", "4.20", "1,234"]


def test_two_cells_are_compared_by_their_medians_and_noisy_if_one_is():
    found = compared("a / b", Measure([4, 4, 4], "s", False), Measure([2, 2, 2], "s", False), 1.5)
    assert (found.estimate.value, found.verdict, found.outcome) == (2.0, "behind", "<= 1.5: missed")
    assert compared("a / b", Measure([1, 2, 1, 2], "s"), Measure([2, 2, 2], "s")).noisy
    assert compared("a / b", Measure([2, 2], "s"), Measure([2, 2, 2], "s")).noisy  # too few


def test_a_goal_depends_on_the_platform():
    goal = Goal("step", "scan", "torch-eager", cpu=2.5, gpu=30)
    assert (goal.at_least("cpu"), goal.at_least("gpu")) == (2.5, 30)
