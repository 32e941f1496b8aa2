import numpy as np
import pytest

from jaxdl import quick_trial
from jaxdl.config import TrainConfig, replace
from jaxdl.data import sources

DIGITS = sources.load("digits")


def test_the_lowest_loss_is_found_before_it_rises():
    losses = np.concatenate([np.linspace(2, 0.5, 60), np.linspace(0.5, 20, 20), np.zeros(20)])
    # Smoothing lags: the lowest mean of about ten steps comes a few steps behind the lowest loss.
    assert 58 <= quick_trial.lowest(losses) <= 66


def test_a_loss_that_is_no_number_ends_the_range():
    assert quick_trial.lowest(np.array([2.0, 1.0, np.nan, 0.0])) == 1


@pytest.mark.parametrize(
    ("rate", "rounded"), [(0.0012, 0.001), (0.0041, 0.005), (0.9, 1.0), (0.024, 0.02), (7e-5, 5e-5)]
)
def test_rates_are_rounded(rate, rounded):
    assert quick_trial.round_rate(rate) == rounded


def test_a_part_keeps_a_third_aside():
    part = quick_trial.parted(DIGITS, 300, seed=0)
    train, test = (len(split["label"]) for split in (part.train, part.test))
    assert abs(train + test - 300) <= 5
    assert abs(test - 100) <= 5
    known = {image.tobytes() for image in part.train["image"]}
    assert not known & {image.tobytes() for image in part.test["image"]}


def test_a_trial_learns_at_the_rate_it_finds():
    config = replace(TrainConfig(), {"model": "net", "optimizer": "adam", "hidden": 16, "normalize": True})
    found = quick_trial.trial(config, quick_trial.parted(DIGITS, 900, seed=0))
    assert (found.model, found.optimizer) == ("net", "adam")
    assert 1e-4 <= found.lr <= 0.1
    assert found.lr == pytest.approx(found.lowest_at / 10, rel=0.35)
    assert found.accuracy > 0.8
    assert found.seconds > 0
