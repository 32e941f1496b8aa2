"""The document's network against its torch twin, weights carried over by their layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.models import Net

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


def in_torchs_shapes(model: nnx.Module, values: dict) -> dict[str, np.ndarray]:
    """Parameters or gradients by name, carried over by the layouts of the model's parameters."""
    arrays = {}
    for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        name = ".".join(map(str, path))
        layout, value = param.get_metadata().get("layout"), np.asarray(values[name])
        arrays[name] = layout.to_torch(value) if layout else value
    return arrays


@pytest.mark.usefixtures("x64")
def test_logits_and_all_gradients_are_torchs():
    ours, theirs = Net(SHAPE, 3, hidden=16, rngs=nnx.Rngs(0)), TorchNet().double()
    graphdef, params = nnx.split(ours, nnx.Param)
    params = nnx.to_pure_dict(params)
    carried = in_torchs_shapes(ours, tree.flatten(params))
    theirs.load_state_dict({name: torch.tensor(value) for name, value in carried.items()})

    @jax.jit
    def both(params, x):
        logits, pullback = jax.vjp(lambda params, x: nnx.merge(graphdef, params)(x), params, x)
        return logits, *pullback(logits)

    logits, grads, grad_x = both(params, jnp.asarray(images()))
    x = torch.tensor(images(), requires_grad=True)
    expected = theirs(x.permute(0, 3, 1, 2))
    expected.backward(expected.detach())
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grad_x, np.asarray(x.grad), rtol=1e-12, atol=1e-12)
    found = in_torchs_shapes(ours, tree.flatten(grads))
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(found[name], np.asarray(parameter.grad), rtol=1e-12, atol=1e-12, err_msg=name)


def test_by_default_it_is_784_128_10():
    net = Net(rngs=nnx.Rngs(0))
    shapes = {name: value.shape for name, value in tree.flatten(nnx.to_pure_dict(nnx.state(net))).items()}
    assert shapes == {
        "fc1.weight": (784, 128),
        "fc1.bias": (128,),
        "fc2.weight": (128, 10),
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
