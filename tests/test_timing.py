import types

import numpy as np
import pytest

from jaxdl.engine import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the calls that are timed move on."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def taking(clock, *durations):
    """A model whose calls take so long, the last of them for ever; and the batches it was given."""
    batches = []

    def predict(batch):
        clock.now += durations[min(len(batches), len(durations) - 1)]
        batches.append(batch)

    return predict, batches


def test_it_is_the_median_of_the_calls_after_those_that_warm_up(clock, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    predict, batches = taking(clock, 90, 80, 70, 3, 1, 9, 2, 4)
    assert timing.seconds(predict, np.zeros((1, 2))) == 3
    assert len(batches) == 8


def test_quick_calls_are_repeated_for_the_whole_time(clock, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 1.0)
    predict, batches = taking(clock, 0.125)
    assert timing.seconds(predict, np.zeros((1, 2))) == 0.125
    assert len(batches) == 3 + 8


def test_a_batch_is_taken_from_the_images_over_and_over(clock, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    predict, batches = taking(clock, 1)
    timing.seconds(predict, np.arange(3), 5)
    assert {tuple(batch) for batch in batches} == {(0, 1, 2, 0, 1)}
