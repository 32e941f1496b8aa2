import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl.models.dcgan import Discriminator, Generator


def test_images_have_the_shape_and_range_of_the_data():
    made = Generator((28, 28, 1), latent=5, width=4, rngs=nnx.Rngs(0))(jnp.ones((3, 5)))
    assert made.shape == (3, 28, 28, 1)
    assert np.abs(made).max() < 1
    assert Discriminator((28, 28, 1), width=4, rngs=nnx.Rngs(0))(made).shape == (3,)
    assert Generator((8, 12, 3), latent=5, width=4, rngs=nnx.Rngs(0))(jnp.ones((3, 5))).shape == (3, 8, 12, 3)


def test_initial_weights_are_dcgans():
    generator = Generator((28, 28, 1), rngs=nnx.Rngs(0))
    assert float(generator.conv1.weight[...].std()) == pytest.approx(0.02, rel=0.02)
    assert float(generator.bn1.weight[...].mean()) == pytest.approx(1, abs=0.02)
    assert float(generator.bn1.weight[...].std()) == pytest.approx(0.02, rel=0.5)


def test_sides_that_are_no_multiples_of_four_are_an_error():
    with pytest.raises(ValueError, match="a DCGAN makes images whose sides are multiples of 4; got 30x28"):
        Discriminator((30, 28, 1), rngs=nnx.Rngs(0))
