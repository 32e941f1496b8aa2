"""Who gets which examples: each one once, however many devices and processes there are."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.data.loader import Loader
from jaxdl.engine.parallel import shares


def mesh_of(processes, devices):
    """As much of a mesh over several processes as is asked for."""
    flat = [SimpleNamespace(process_index=process) for process in range(processes) for _ in range(devices)]
    return SimpleNamespace(is_multi_process=True, shape={"data": len(flat)}, devices=np.array(flat, object))


class Recorded:
    """Labels that remember which of them were read."""

    def __init__(self, examples):
        self.rows, self.read = np.arange(examples, dtype=np.int32), []
        self.shape, self.dtype = self.rows.shape, self.rows.dtype

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        self.read += list(rows)
        return self.rows[rows]


@pytest.mark.parametrize(("processes", "devices"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)])
@pytest.mark.parametrize("resident", [True, False])
def test_batch_k_is_the_same_on_any_number_of_processes(processes, devices, resident, monkeypatch):
    """Each of 23 examples once an epoch, in batches of 8 and a last one of 7; no process reads the others'."""
    alone = Loader({"label": np.arange(23)}, 8, seed=5)
    batches, read = [[] for _ in range(6)], []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        labels = Recorded(23)
        loader = Loader({"label": labels}, 8, seed=5, resident=resident)
        chunks = loader.chunks(0, 6, 2, columns=shares.columns(mesh_of(processes, devices)))
        for chunk in chunks:
            values = chunk.items.values if resident else chunk.items.values["label"]
            for step, own in zip(range(chunk.start, chunk.stop), values, strict=True):
                assert chunk.items.size == len(alone.rows(step))
                batches[step] += list(own)
        read.append(set(labels.read))
    for step, rows in enumerate(batches):
        expected = alone.rows(step)
        np.testing.assert_array_equal(rows[: len(expected)], expected)
        assert set(rows[len(expected) :]) <= {expected[-1]}  # the padding, at the end
    for epoch in (0, 3):
        real = [row for step in range(epoch, epoch + 3) for row in batches[step][: len(alone.rows(step))]]
        assert sorted(real) == list(range(23))
    if not resident and processes > 1:
        assert max(map(len, read)) < 23


@given(size=st.integers(1, 40), devices=st.integers(1, 9))
def test_shares_are_those_of_array_split(size, devices):
    rows, counts = shares.shares(size, devices)
    assert rows.shape == (devices, -(-size // devices))
    assert counts.max() - counts.min() <= 1
    for own, count, expected in zip(rows, counts, np.array_split(np.arange(size), devices), strict=True):
        np.testing.assert_array_equal(own[:count], expected)
        assert ((own >= 0) & (own < size)).all()


def test_one_process_reads_everything():
    assert shares.columns(SimpleNamespace(is_multi_process=False)) is None
