import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.data.loader import Loader

RNG = np.random.default_rng(0)
SPLIT = {
    "image": RNG.integers(0, 256, (23, 4, 4, 1), dtype=np.uint8),
    "label": np.arange(23, dtype=np.int32),
}


def batches(loader, chunks):
    """Every batch of the chunks, as the compiled program would see it."""
    arrays = loader.resident_arrays
    for chunk in chunks:
        for step in range(chunk.stop - chunk.start):
            item = {k: v[step] for k, v in chunk.items.items()} if not loader.resident else chunk.items[step]
            yield loader.take(arrays, item)


@pytest.mark.parametrize(("batch_size", "drop_last"), [(5, False), (5, True), (23, False), (8, True), (1, False)])
def test_number_and_sizes_of_batches_are_those_of_torch(batch_size, drop_last):
    torch_loader = torch.utils.data.DataLoader(range(23), batch_size, drop_last=drop_last)  # pyright: ignore[reportArgumentType]
    loader = Loader(SPLIT, batch_size, drop_last=drop_last, shuffle=False)
    ours = [np.asarray(batch["label"]) for batch in batches(loader, loader.chunks(0, loader.steps_per_epoch, 3))]
    theirs = [batch.numpy() for batch in torch_loader]
    assert len(ours) == len(torch_loader) == loader.steps_per_epoch
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_epoch_has_every_example_once_in_an_order_of_its_own():
    loader = Loader(SPLIT, 5, seed=3)
    epochs = [np.concatenate([loader.rows(step) for step in range(5 * e, 5 * e + 5)]) for e in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(23))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], Loader(SPLIT, 5, seed=4).order(0))


def test_the_order_is_numpys_permutation_of_seed_and_epoch():
    np.testing.assert_array_equal(Loader(SPLIT, 5, seed=7).order(2), np.random.default_rng([7, 2]).permutation(23))


@pytest.mark.parametrize("shuffle", [True, False])
def test_streamed_and_resident_give_the_same_batches(shuffle):
    loaders = [Loader(SPLIT, 5, seed=1, shuffle=shuffle, resident=resident) for resident in (True, False)]
    both = [list(batches(loader, loader.chunks(2, 13, 3))) for loader in loaders]
    assert len(both[0]) == len(both[1]) == 11
    for a, b in zip(*both, strict=True):
        for name in SPLIT:
            assert a[name].dtype == b[name].dtype == SPLIT[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


@settings(max_examples=60)
@given(
    examples=st.integers(1, 40),
    batch_size=st.integers(1, 40),
    drop_last=st.booleans(),
    steps=st.integers(1, 7),
    marks=st.none() | st.integers(1, 9),
    data=st.data(),
)
def test_chunks_of_a_resumed_run_are_those_of_an_undisturbed_one(
    examples, batch_size, drop_last, steps, marks, data
):
    batch_size = min(batch_size, examples)
    loader = Loader({"label": np.arange(examples)}, batch_size, drop_last=drop_last)
    stop = 3 * loader.steps_per_epoch
    whole = list(loader.chunks(0, stop, steps, marks))
    cut = data.draw(st.sampled_from([chunk.start for chunk in whole]))
    resumed = list(loader.chunks(cut, stop, steps, marks))
    undisturbed = [chunk for chunk in whole if chunk.start >= cut]
    assert [(c.start, c.stop) for c in resumed] == [(c.start, c.stop) for c in undisturbed]
    for a, b in zip(resumed, undisturbed, strict=True):
        np.testing.assert_array_equal(a.items, b.items)
        for i, row in enumerate(a.items):
            np.testing.assert_array_equal(row, loader.rows(a.start + i))
    assert [c.start for c in whole[1:]] == [c.stop for c in whole[:-1]]
    assert all(c.stop - c.start <= steps for c in whole)
    ends = {c.stop for c in whole}
    assert all(m in ends for m in range(marks or stop, stop + 1, marks or stop))


def test_size_chooses_where_the_data_lies(monkeypatch):
    assert Loader(SPLIT, 5).resident
    monkeypatch.setattr("jaxdl.data.loader.RESIDENT_LIMIT", 100)
    streamed = Loader(SPLIT, 5)
    assert not streamed.resident
    assert streamed.resident_arrays == {}
    assert streamed.batch_bytes == 5 * (16 + 4)


def test_an_error_while_gathering_ahead_reaches_the_caller():
    class Broken:
        shape, dtype = (23, 4), np.dtype(np.uint8)

        def __len__(self):
            return 23

        def __getitem__(self, rows):
            raise ValueError("image 3 is damaged")

    loader = Loader({"image": Broken()}, 5, resident=False)
    with pytest.raises(ValueError, match="image 3 is damaged"):
        list(loader.chunks(0, 5, 2))


@pytest.mark.parametrize(
    ("split", "batch_size", "message"),
    [
        (SPLIT, 24, "--batch-size must lie between 1 and the 23 training examples; got 24"),
        (SPLIT, 0, "--batch-size must lie between 1 and the 23 training examples; got 0"),
        ({"image": np.zeros((0, 2)), "label": np.zeros(0)}, 1, "expected the same number of rows, at least one"),
        ({"image": np.zeros((3, 2)), "label": np.zeros(2)}, 1, "expected the same number of rows, at least one"),
        ({}, 1, "expected the same number of rows, at least one"),
    ],
)
def test_bad_input(split, batch_size, message):
    with pytest.raises(ValueError, match=message):
        Loader(split, batch_size)
