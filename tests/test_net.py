"""The document's network against its torch twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl import parts, tree
from jaxdl.config import ModelOptions
from jaxdl.models import Net
from jaxdl.pictures import Pictures

SHAPE = (5, 4, 2)


class TorchNet(torch.nn.Module):
    """The document's own module, for images of `SHAPE`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(5 * 4 * 2, 16)
        self.fc2 = torch.nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *SHAPE))


def test_outputs_and_all_gradients_are_torchs(prove_gradients):
    prove_gradients(TorchNet, lambda: Net(SHAPE, 3, hidden=16, rngs=nnx.Rngs(0)), images())


def test_by_default_it_is_784_128_10():
    net = Net(rngs=nnx.Rngs(0))
    shapes = {name: value.shape for name, value in tree.flatten(nnx.to_pure_dict(nnx.state(net))).items()}
    assert shapes == {
        "fc1.weight": (128, 784),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    }
    assert net(jnp.zeros((2, 28, 28, 1))).shape == (2, 10)


def test_each_seed_is_another_network():
    first, again, other = (Net(SHAPE, rngs=nnx.Rngs(seed)).fc1.weight[...] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_dropout_acts_on_the_hidden_layer_in_training_alone():
    net = Net(SHAPE, 3, hidden=16, dropout=1.0, rngs=nnx.Rngs(0))
    x = jnp.asarray(images(), jnp.float32)
    np.testing.assert_array_equal(net(x, nnx.Rngs(dropout=0)), jnp.tile(net.fc2.bias[...], (6, 1)))
    plain = Net(SHAPE, 3, hidden=16, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(nnx.view(net, deterministic=True)(x), plain(x))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"expected 40 features in the last axis, got shape \(1, 64\)"):
        Net(SHAPE, rngs=nnx.Rngs(0))(jnp.zeros((1, 8, 8, 1)))


class Deep(torch.nn.Module):
    """Two hidden layers with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(5 * 4 * 2, 16)
        self.fc2 = torch.nn.Linear(16, 16)
        self.fc3 = torch.nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.gelu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.nn.functional.gelu(self.fc2(x)))


def test_a_deeper_one_with_another_activation_is_torchs(prove_gradients):
    def port() -> Net:
        return Net(SHAPE, 3, hidden=16, depth=2, activation="gelu", rngs=nnx.Rngs(0))

    prove_gradients(Deep, port, images())


def test_depth_and_activation_are_options_of_the_command_line():
    seen = Pictures((8, 8, 1), tuple("ab"))
    net = parts.model(ModelOptions(depth=3, activation="tanh", hidden=4), seen, jax.random.key(0))
    names = tree.flatten(nnx.to_pure_dict(nnx.state(net)))
    assert [name for name in names if name.endswith("weight")] == [f"fc{number}.weight" for number in (1, 2, 3, 4)]
    with pytest.raises(ValueError, match="--depth must be at least 1; got 0"):
        parts.model(ModelOptions(depth=0), seen, jax.random.key(0))
    with pytest.raises(ValueError, match="--activation has no meaning for vit"):
        parts.model(ModelOptions(model="vit", activation="tanh"), seen, jax.random.key(0))
