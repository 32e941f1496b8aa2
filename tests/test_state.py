import jax
import numpy as np
from flax import nnx

from jaxdl import tree
from jaxdl.engine import state
from jaxdl.models import Net
from jaxdl.nn.norm import BatchNorm
from jaxdl.optim.optimizers import adam


class Normalized(nnx.Module):
    def __init__(self, rngs):
        self.net = Net((2, 2, 1), 3, hidden=4, dropout=0.5, rngs=rngs)
        self.bn = BatchNorm(3)


def test_a_state_is_arrays_under_torchs_names():
    model = Normalized(nnx.Rngs(0))
    graph, start = state.create(model, adam(), jax.random.key(0))
    assert sorted(tree.flatten(start.params)) == [
        "bn.bias",
        "bn.weight",
        "net.fc1.bias",
        "net.fc1.weight",
        "net.fc2.bias",
        "net.fc2.weight",
    ]
    assert sorted(tree.flatten(start.stats)) == ["bn.num_batches_tracked", "bn.running_mean", "bn.running_var"]
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(start))
    assert int(start.step) == 0
    merged = nnx.merge(graph, start.params, start.stats)
    np.testing.assert_array_equal(merged.net.fc1.weight[...], model.net.fc1.weight[...])


def test_a_state_goes_through_jit_as_a_whole():
    _, start = state.create(Net((2, 2, 1), 3, rngs=nnx.Rngs(0)), adam(), jax.random.key(0))
    moved = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf, s))(start)
    assert jax.tree.structure(moved) == jax.tree.structure(start)
