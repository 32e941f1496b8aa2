"""Which examples of a batch each device gets, where the number of devices need not divide theirs."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.data.loader import Columns, Share
from jaxdl.engine.parallel.devices import AXIS
from jaxdl.typing import PyTree


def columns(mesh: Mesh) -> Columns | None:
    """Which examples of a batch of a size this process reads, those of its devices; None where it has them all."""
    if not mesh.is_multi_process:
        return None
    shares, me = mesh.shape[AXIS], jax.process_index()
    groups = enumerate(mesh.devices.reshape(shares, -1))
    mine = [place for place, group in groups if any(device.process_index == me for device in group)]

    def own(size: int) -> np.ndarray:
        return _padded(size, shares).reshape(shares, -1)[mine].ravel()

    return own


def spread(items: PyTree, mesh: Mesh) -> tuple[PyTree, int]:
    """A chunk's items on the devices, the axis of the batch split, and the number of examples in each batch.

    Where the devices do not divide it, the last example stands there again as often as needed.
    """
    size, shares = items.size if isinstance(items, Share) else _size(items), mesh.shape[AXIS]
    split = NamedSharding(mesh, PartitionSpec(None, AXIS))
    if isinstance(items, Share):
        items = items.values
    elif mesh.is_multi_process or size % shares:
        own = (columns(mesh) or (lambda size: _padded(size, shares)))(size)
        items = jax.tree.map(lambda rows: rows[:, own], items)
    if not mesh.is_multi_process:
        return jax.device_put(items, split), size
    whole = len(_padded(size, shares))

    def assemble(rows: np.ndarray) -> jax.Array:
        shape = (len(rows), whole, *rows.shape[2:])
        return jax.make_array_from_process_local_data(split, rows, shape)

    return jax.tree.map(assemble, items), size


def shares(size: int, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of a batch that differ by one example at most, as ``numpy.array_split`` makes them.

    Returns:
      Which examples each device gets, (devices, ceil(size / devices)) int32, where a smaller share has its last
      one twice; and how many of them count, (devices,) int32.
    """
    most, counts = -(-size // devices), np.full(devices, size // devices, np.int32)
    counts[: size % devices] += 1
    first = np.cumsum(counts) - counts
    within = np.minimum(np.arange(most), np.maximum(counts - 1, 0)[:, None])
    return np.minimum(first[:, None] + within, size - 1).astype(np.int32), counts


def _size(items: PyTree) -> int:
    return jax.tree.leaves(items)[0].shape[1]


def _padded(size: int, devices: int) -> np.ndarray:
    return np.minimum(np.arange(-(-size // devices) * devices), size - 1)
