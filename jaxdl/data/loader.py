"""Batches: batch k is a function of (seed, k), wherever the data lies and however many devices there are."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.typing import Batch, PyTree

RESIDENT_LIMIT = 2**30  # bytes; a larger set is streamed unless asked otherwise
EVAL_BATCH = 500

Columns = Callable[[int], np.ndarray]  # of a batch of a size


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Steps ``start`` to ``stop`` (not included), all of one epoch and one batch size.

    ``items`` has a leading axis of steps: row numbers (steps, batch) where the set is resident, the batches
    themselves where it is streamed. `Loader.take` turns one item into a batch, on the device.
    """

    start: int
    stop: int
    items: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Share:
    """What one of several processes has of a chunk's items.

    Attributes:
      values: as `Chunk.items`, with this process's examples of each batch only.
      size: how many examples a whole batch has.
    """

    values: PyTree
    size: int = dataclasses.field(metadata={"static": True})


class Loader:
    """Shuffled batches of a split, with torch's rules for order and last batch.

    Args:
      split: name -> array with one row per example.
      batch_size: examples per step.
      seed: of the order; epoch e is ``default_rng([seed, e]).permutation``.
      shuffle: a new order each epoch; otherwise the stored one.
      drop_last: leave out the last batch of an epoch when it is not full, as torch's DataLoader.
      resident: keep the whole set on the device and gather batches there; otherwise gather on the host and send
        them ahead. Both give the same batches. None: by size.

    Raises:
      ValueError: no data, or a batch that is larger than the data.
    """

    def __init__(
        self,
        split: Mapping[str, Any],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        resident: bool | None = None,
    ) -> None:
        sizes = {name: len(rows) for name, rows in split.items()}
        self.examples = next(iter(sizes.values()), 0)
        if set(sizes.values()) != {self.examples} or not self.examples:
            raise ValueError(f"expected the same number of rows, at least one, under every name; got {sizes}")
        if not 0 < batch_size <= self.examples:
            raise ValueError(
                f"--batch-size must lie between 1 and the {self.examples} training examples; got {batch_size}"
            )
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.resident = _bytes(split) <= RESIDENT_LIMIT if resident is None else resident
        self.full_batches, self.ragged = divmod(self.examples, batch_size)
        self.steps_per_epoch = self.full_batches + bool(self.ragged and not drop_last)

    @property
    def sizes(self) -> list[int]:
        """How many examples the batches have: the full ones, and the last of an epoch where it has fewer."""
        last = [] if self.drop_last or not self.ragged else [self.ragged]
        return [self.batch_size, *last]

    @property
    def batch_bytes(self) -> int:
        """The size of a batch as it is stored."""
        return _bytes(self.split) * self.batch_size // self.examples

    @property
    def resident_arrays(self) -> PyTree:
        """What has to lie on the device for `take`; empty when streamed."""
        return {name: np.asarray(rows) for name, rows in self.split.items()} if self.resident else {}

    @property
    def take(self) -> Callable[[PyTree, PyTree], Batch]:
        """``(resident arrays, item of a chunk) -> batch``, pure, to be called inside the compiled program."""
        return _gather if self.resident else _as_sent

    def order(self, epoch: int) -> np.ndarray:
        """The rows of an epoch in the order they are used, (examples,) int32."""
        if not self.shuffle:
            return np.arange(self.examples, dtype=np.int32)
        return np.random.default_rng([self.seed, epoch]).permutation(self.examples).astype(np.int32)

    def rows(self, step: int) -> np.ndarray:
        """The row numbers of one batch: a function of (seed, step) alone."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return self.order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]

    def chunks(
        self, start: int, stop: int, steps: int, marks: int | None = None, columns: Columns | None = None
    ) -> Iterator[Chunk]:
        """Steps ``start`` to ``stop`` in chunks of at most ``steps``.

        Chunks lie on a grid that does not depend on ``start``: it begins anew with each epoch, sets the ragged
        last batch apart, and has a line at every multiple of ``marks``. So a run that is resumed on the grid
        executes the programs that an undisturbed run executes, and gets the same bits.

        Given ``columns``, only these examples of a batch are read, and items are a `Share`: that of one process.
        """
        spans = self._spans(start, stop, steps, marks)
        if self.resident:
            yield from self._indexed(spans, columns)
        else:
            yield from self._prefetched(self._indexed(spans, columns))

    def _spans(self, start: int, stop: int, steps: int, marks: int | None) -> Iterator[tuple[int, int]]:
        while start < stop:
            first = start - start % self.steps_per_epoch
            ends = [
                start + steps - (start - first) % steps,
                first + self.full_batches,
                first + self.steps_per_epoch,
                start + marks - start % marks if marks else stop,
                stop,
            ]
            end = min(end for end in ends if end > start)
            yield start, end
            start = end

    def _indexed(self, spans: Iterator[tuple[int, int]], columns: Columns | None) -> Iterator[Chunk]:
        epoch, order = -1, np.empty(0, np.int32)
        for start, stop in spans:
            if start // self.steps_per_epoch != epoch:
                epoch = start // self.steps_per_epoch
                order = self.order(epoch)
            first = start % self.steps_per_epoch * self.batch_size
            rows = order[first : first + (stop - start) * self.batch_size].reshape(stop - start, -1)
            size = rows.shape[1]
            yield Chunk(start, stop, Share(rows[:, columns(size)], size) if columns else rows)

    def _prefetched(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Gathers a chunk in a thread while the device works on the one before."""

        def read(rows: np.ndarray) -> dict[str, np.ndarray]:
            return {
                name: np.asarray(stored[rows.ravel()]).reshape(*rows.shape, *stored.shape[1:])
                for name, stored in self.split.items()
            }

        def gather(chunk: Chunk) -> Chunk:
            return dataclasses.replace(chunk, items=jax.tree.map(read, chunk.items))

        with ThreadPoolExecutor(1, "prefetch") as pool:
            ahead = None
            for chunk in chunks:
                ready, ahead = ahead, pool.submit(gather, chunk)
                if ready:
                    yield ready.result()
            if ahead:
                yield ahead.result()


def stored_order(split: Mapping[str, Any]) -> Loader:
    """Batches to evaluate on: every example once."""
    return Loader(split, min(EVAL_BATCH, len(split["label"])), shuffle=False)


def _gather(arrays: Batch, rows: jax.Array) -> Batch:
    return {name: jnp.take(array, rows, axis=0, mode="clip") for name, array in arrays.items()}


def _as_sent(_: PyTree, batch: Batch) -> Batch:
    return batch


def _bytes(split: Mapping[str, Any]) -> int:
    return sum(int(np.prod(rows.shape)) * rows.dtype.itemsize for rows in split.values())
