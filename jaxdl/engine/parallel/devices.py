"""Which devices a run has, and how its arrays lie on them."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdl.typing import Array, PyTree

AXIS = "data"  # a batch is split along it
MODEL = "model"  # a model is: into stages or parts of layers
SMALL = 1024  # elements; an array below costs more to gather than it takes


def make_mesh(devices: Sequence[Any], parts: int = 1) -> Mesh:
    """All devices along the axis ``"data"``, or in groups of ``parts``, which lie along the axis ``"model"``."""
    if parts == 1:
        return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
    groups = np.asarray(devices).reshape(-1, parts)
    return Mesh(groups, (AXIS, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def first_devices(count: int) -> list[Any]:
    """The first ``count`` devices of each process, process by process.

    Raises:
      ValueError: a process has fewer.
    """
    groups = itertools.groupby(jax.devices(), lambda device: device.process_index)
    processes = [list(group) for _, group in groups]
    fewest = min(map(len, processes))
    if not 1 <= count <= fewest:
        raise ValueError(f"--devices must lie between 1 and the {fewest} there are; got {count}")
    return [device for devices in processes for device in devices[:count]]


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """The same arrays on every device of the mesh, in buffers of their own (a step may donate them)."""
    return put(mesh, tree, jax.tree.map(lambda _: PartitionSpec(), tree))


def shard(mesh: Mesh, tree: PyTree) -> PyTree:
    """The arrays split over the devices, each along the longest axis that they divide; small ones are replicated.

    XLA gathers what a layer needs when it needs it, and each device updates the part that it holds.
    Source: Rajbhandari et al. 2020, "ZeRO"; torch's FullyShardedDataParallel.
    """

    def longest(leaf: Array) -> PartitionSpec:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % mesh.size == 0]
        if leaf.size < SMALL or not axes:
            return PartitionSpec()
        return PartitionSpec(*[None] * max(axes, key=lambda axis: leaf.shape[axis]), mesh.axis_names)

    return put(mesh, tree, jax.tree.map(longest, tree))


def of_first_process(mesh: Mesh, tree: PyTree) -> PyTree:
    """The arrays of the first process in all of them, as torch's DistributedDataParallel begins."""
    return jax.tree.map(lambda leaf: _broadcast(mesh, leaf), tree) if mesh.is_multi_process else tree


def local(tree: PyTree) -> PyTree:
    """This process's own copy of replicated arrays, with which it can compute without the others."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def to_host(tree: PyTree) -> PyTree:
    """NumPy arrays. Every process has to call it: an array of which a process has a part is gathered."""
    return jax.tree.map(_whole, tree)


def _whole(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        assert isinstance(array.sharding, NamedSharding)
        array = jax.jit(jnp.copy, out_shardings=NamedSharding(array.sharding.mesh, PartitionSpec()))(array)
    return np.asarray(array)


def put(mesh: Mesh, tree: PyTree, specs: PyTree) -> PyTree:
    """The arrays, each as its PartitionSpec says, in buffers of their own."""
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    if mesh.is_multi_process:
        return jax.tree.map(_put_own_part, tree, shardings)
    # device_put keeps a buffer that lies on the right device already, even where two leaves share it, as Adam's
    # zeros do; a program cannot take the same buffer twice.
    return jax.device_put(jax.tree.map(jnp.copy, tree), shardings)


def _broadcast(mesh: Mesh, leaf: Array) -> Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _broadcast(mesh, jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf)
        )
    host = np.asarray(leaf)
    split, everywhere = NamedSharding(mesh, PartitionSpec(mesh.axis_names)), NamedSharding(mesh, PartitionSpec())
    stacked = jax.make_array_from_callback((mesh.size, *host.shape), split, lambda _: host[None])
    return jnp.asarray(np.asarray(jax.jit(_first, out_shardings=everywhere)(stacked)))


def _first(stacked: Array) -> Array:
    return stacked[0]


def _put_own_part(leaf: Any, sharding: NamedSharding) -> Array:
    """What this process's devices hold of an array that every process has."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put_own_part(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
