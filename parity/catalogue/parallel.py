"""Several devices: whose gradients, whose statistics. Two devices of the CPU stand in for two GPUs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxdl.engine.parallel import make_mesh
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs
from parity.catalogue.sides import FLOAT64, normal, two_devices

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec("data")


@entry(
    51,
    "Gradients over several devices",
    Status.OPTIONS,
    torch="DistributedDataParallel averages the gradients of the devices",
    jax="under shard_map with check_vma the gradient of what all devices hold is summed already: pmean(grads) "
    "leaves it n times too large; without check_vma, pmean(loss) inside grad gives each device its own gradient",
    instead="""
    # jit over a mesh needs none of this: jaxdl.engine.parallel. In shard_map:
    jax.grad(lambda w: jax.lax.pmean(loss(w, x), "data"))(w)   # with check_vma=True, the default
    jax.lax.pmean(jax.grad(loss)(w, x), "data")                # with check_vma=False, and in pmap
    """,
)
def gradients() -> Facts:
    x, w = normal(4, 3), normal(3, seed=1)
    weight = torch.tensor(w, requires_grad=True)
    torch_loss(torch.tensor(x), weight).backward()
    devices = two_devices()

    def over_devices(step: Any, checked: bool) -> np.ndarray:
        mesh = make_mesh(devices)
        mapped = jax.shard_map(
            step, mesh=mesh, in_specs=(EVERYWHERE, SPLIT), out_specs=EVERYWHERE, check_vma=checked
        )
        return np.asarray(jax.jit(mapped)(w, x))

    def of_grads(w: Any, x: Any) -> Any:
        return jax.lax.pmean(jax.grad(jax_loss)(w, x), "data")

    def of_loss(w: Any, x: Any) -> Any:
        return jax.grad(lambda w: jax.lax.pmean(jax_loss(w, x), "data"))(w)

    twice, right = over_devices(of_grads, True), over_devices(of_loss, True)
    yield differs("check_vma=True: pmean(grads), or pmean(loss)", weight.grad, twice, right, least=0.1)
    yield agrees("the first is twice the gradient", 2 * array(weight.grad), twice)
    own, averaged = over_devices(of_loss, False), over_devices(of_grads, False)
    yield differs("check_vma=False: pmean(loss), or pmean(grads)", weight.grad, own, averaged, least=0.1)
    adam, sgd = optax.adam(1.0), optax.sgd(1.0)
    steps = [[np.asarray(tx.update(jnp.asarray(g), tx.init(w))[0]) for g in (right, twice)] for tx in (adam, sgd)]
    yield agrees("Adam's first step hides it", *steps[0], most=1e-6)
    yield differs("SGD's shows it: prove with SGD", *steps[1], least=0.1)


@entry(
    52,
    "BatchNorm over several devices",
    Status.OPTIONS,
    torch="DistributedDataParallel: each device's own batch; SyncBatchNorm: the whole batch",
    jax="jit over a mesh: the whole batch; shard_map, pmap and vmap: each device's own unless axis_name is set",
    instead="""
    nnx.BatchNorm(features, axis_name="data", ...)  # SyncBatchNorm, in shard_map or pmap
    # in jit over a mesh it is SyncBatchNorm as it stands
    """,
)
def statistics() -> Facts:
    x = normal(8, 3) + 1
    whole = array(F.batch_norm(torch.tensor(x), None, None, training=True))
    halves = np.concatenate(
        [array(F.batch_norm(torch.tensor(h), None, None, training=True)) for h in np.split(x, 2)]
    )
    mesh = make_mesh(two_devices())

    def normalised(x: Any, axis_name: str | None = None) -> Any:
        norm = nnx.BatchNorm(3, axis_name=axis_name, use_fast_variance=False, **FLOAT64, rngs=nnx.Rngs(0))
        return norm(x)

    def mapped(axis_name: str | None) -> np.ndarray:
        step = jax.shard_map(
            lambda x: normalised(x, axis_name), mesh=mesh, in_specs=SPLIT, out_specs=SPLIT, check_vma=False
        )
        return np.asarray(jax.jit(step)(x))

    own, together = mapped(None), mapped("data")
    yield differs("SyncBatchNorm: shard_map, or with axis_name", whole, own, together, least=0.1)
    yield agrees("each half by itself: shard_map", halves, own)
    jitted = jax.jit(normalised)(jax.device_put(x, NamedSharding(mesh, SPLIT)))
    yield agrees("SyncBatchNorm: jit over a mesh", whole, jitted)


def torch_loss(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A mean over the batch."""
    return torch.sin(x @ w).mean()


def jax_loss(w: Any, x: Any) -> jax.Array:
    """`torch_loss`."""
    return jnp.sin(x @ w).mean()
