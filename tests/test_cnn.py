"""The CNN against its torch twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl import tree
from jaxdl.models import CNN

SHAPE = (9, 10, 2)  # an odd height: pooling drops the last row


class TorchCNN(torch.nn.Module):
    """The same network in torch's own words, for images of `SHAPE`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(2, 32, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = torch.nn.Linear(64 * 2 * 2, 8)
        self.fc2 = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def cnn(dropout: float = 0.0) -> CNN:
    return CNN(SHAPE, 5, hidden=8, dropout=dropout, rngs=nnx.Rngs(0))


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *SHAPE))


def test_outputs_and_all_gradients_are_torchs(prove_gradients):
    prove_gradients(TorchCNN, cnn, images())


def test_by_default_it_takes_28x28_to_ten_classes():
    model = nnx.eval_shape(lambda: CNN(rngs=nnx.Rngs(0)))
    shapes = {name: value.shape for name, value in tree.flatten(nnx.to_pure_dict(nnx.state(model))).items()}
    assert shapes == {
        "conv1.weight": (3, 3, 1, 32),
        "conv1.bias": (32,),
        "conv2.weight": (3, 3, 32, 64),
        "conv2.bias": (64,),
        "fc1.weight": (128, 7 * 7 * 64),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    }
    assert jax.eval_shape(lambda: CNN(rngs=nnx.Rngs(0))(jnp.zeros((2, 28, 28, 1)))).shape == (2, 10)


def test_dropout_draws_a_mask_of_its_own_in_front_of_each_linear_layer():
    @jax.jit
    def draws(x):
        rngs = nnx.Rngs(dropout=0)
        cnn(dropout=0.5)(x, rngs)
        return rngs.dropout.count[...]

    assert draws(jnp.asarray(images(), jnp.float32)) == 2


def test_dropout_is_off_in_evaluation():
    model, plain = cnn(dropout=1.0), cnn()

    @jax.jit
    def logits(x):
        evaluated = nnx.view(model, deterministic=True)
        return model(x, nnx.Rngs(dropout=0)), evaluated(x), plain(x)

    dropped, evaluated, expected = logits(jnp.asarray(images(), jnp.float32))
    np.testing.assert_array_equal(dropped, jnp.tile(model.fc2.bias[...], (3, 1)))
    np.testing.assert_array_equal(evaluated, expected)


@pytest.mark.parametrize(("height", "width"), [(3, 28), (28, 3)])
def test_images_too_small_for_two_poolings_are_refused(height, width):
    with pytest.raises(ValueError, match=f"at least 4x4 pixels, got {height}x{width}"):
        CNN((height, width, 1), rngs=nnx.Rngs(0))
