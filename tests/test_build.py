import numpy as np
import pytest

from jaxdl import build
from jaxdl.config import TrainConfig, replace
from jaxdl.data import sources

SOURCE = sources.load("digits")


def job(**options):
    return build.job(replace(TrainConfig(), options), SOURCE)


def test_initial_weights_depend_on_the_seed_alone():
    first, same, other = (job(seed=seed).state.params for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["fc1"]["weight"], same["fc1"]["weight"])
    assert not np.array_equal(first["fc1"]["weight"], other["fc1"]["weight"])


def test_a_chunk_has_more_steps_where_they_are_cheaper():
    small, large = job(hidden=8, batch_size=8), job(model="cnn", hidden=512, batch_size=512)
    assert small.chunk_steps == small.loader.full_batches == 179
    assert 1 <= large.chunk_steps <= large.loader.full_batches == 2
    assert job(chunk_steps=7).chunk_steps == 7


def test_a_long_step_is_a_program_of_its_own(monkeypatch):
    monkeypatch.setitem(build.CHUNK_WORK, "cpu", 1.0)
    assert job().chunk_steps == 1
    assert job(placement="streamed").chunk_steps == 1


def test_a_chunk_of_streamed_batches_is_bounded_in_memory(monkeypatch):
    monkeypatch.setattr(build, "STREAMED_BYTES", 64 * 68 * 3)
    assert job(placement="streamed").chunk_steps == 3


def test_steps_are_counted_in_epochs_unless_given():
    assert job(epochs=2).steps == 2 * 23
    assert job(steps=5).steps == 5
    with pytest.raises(ValueError, match="expected at least one step, got --epochs 0 --steps None"):
        job(epochs=0)
