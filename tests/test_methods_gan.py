"""Steps of both networks against torch, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.methods import gan
from jaxdl.models.dcgan import Discriminator, Generator
from jaxdl.optim.optimizers import adam
from parity.twins import dcgan as twin

LATENT, WIDTH, SHAPE = 5, 3, (8, 8, 1)


def wide(net):
    state = nnx.state(net)
    floats = jax.tree.map(lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
    nnx.update(net, floats)
    return net


def networks():
    """Both of ours in the default type, and torch's with the same weights, in float64."""
    ours = (
        wide(Generator(SHAPE, latent=LATENT, width=WIDTH, rngs=nnx.Rngs(0))),
        wide(Discriminator(SHAPE, width=WIDTH, rngs=nnx.Rngs(1))),
    )
    theirs = (twin.Generator(2, 1, LATENT, WIDTH).double(), twin.Discriminator(2, 1, WIDTH).double())
    for net, module in zip(ours, theirs, strict=True):
        # Larger than DCGAN's, whose first losses hardly depend on the images.
        nnx.update(net, jax.tree.map(lambda x: 5 * x, nnx.state(net, nnx.Param)))
        module.load_state_dict(
            named(net, *(nnx.to_pure_dict(nnx.state(net, kind)) for kind in (nnx.Param, nnx.BatchStat)))
        )
    return ours, theirs


def named(net, params, stats):
    """As torch has it."""
    values = tree.flatten(params) | tree.flatten(stats)
    return {name: torch.tensor(np.asarray(value)) for name, value in weights.to_torch(net, values).items()}


@pytest.mark.usefixtures("x64")
def test_steps_of_both_networks_are_torchs():
    ours, theirs = networks()
    tx = adam(2e-3, (0.5, 0.999))
    graphs, state = gan.create(*ours, tx, jax.random.key(3))
    optimizers = tuple(torch.optim.Adam(module.parameters(), 2e-3, betas=(0.5, 0.999)) for module in theirs)
    step = jax.jit(gan.train_step(graphs, tx, LATENT))
    for number in range(3):
        images = np.random.default_rng(number).integers(0, 256, (6, *SHAPE), np.uint8)
        noise = gan.draw(jax.random.fold_in(state.key, state.step), 6, LATENT)
        # The same real images to the last digit: ours are float32 before they are anything else.
        real = torch.tensor(np.asarray(gan.to_signed(jnp.asarray(images)), np.float64)).permute(0, 3, 1, 2)
        before = [module.state_dict() for module in theirs]
        before = [{name: value.clone() for name, value in part.items()} for part in before]
        expected = twin.step(*theirs, optimizers, real, torch.tensor(np.asarray(noise))[:, :, None, None])
        state, metrics = step(state, {"image": jnp.asarray(images)})
        np.testing.assert_allclose(metrics["generator_loss"][0], expected[0], rtol=1e-10)
        np.testing.assert_allclose(metrics["discriminator_loss"][0], expected[1], rtol=1e-10)
        for name, net, module, was in zip((gan.GENERATOR, gan.DISCRIMINATOR), ours, theirs, before, strict=True):
            after = named(net, state.params[name], state.stats[name])
            for leaf, theirs_after in module.state_dict().items():
                change, wanted = (value.double() - was[leaf].double() for value in (after[leaf], theirs_after))
                assert wanted.norm() > 0, leaf
                assert (change - wanted).norm() <= 1e-8 * wanted.norm(), leaf


def test_losses_by_hand():
    real, fake = jnp.asarray([0.0, 2.0]), jnp.asarray([-1.0, 1.0])
    soft = lambda x: np.log1p(np.exp(x))  # noqa: E731
    expected = (soft(0) + soft(-2)) / 2 + (soft(-1) + soft(1)) / 2
    np.testing.assert_allclose(gan.discriminator_loss(real, fake), expected, rtol=1e-6)
    np.testing.assert_allclose(gan.generator_loss(fake), (soft(1) + soft(-1)) / 2, rtol=1e-6)


def test_bytes_go_to_numbers_and_back():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    signed = gan.to_signed(jnp.asarray(images))
    assert (float(signed.min()), float(signed.max())) == (-1, 1)
    np.testing.assert_array_equal(gan.to_bytes(signed), images)


def test_made_images_are_those_of_the_running_statistics():
    generator, discriminator = (
        Generator(SHAPE, latent=5, width=3, rngs=nnx.Rngs(0)),
        Discriminator(SHAPE, width=3, rngs=nnx.Rngs(1)),
    )
    _, state = gan.create(generator, discriminator, adam(), jax.random.key(0))
    graph = nnx.graphdef(nnx.view(generator, use_running_average=True))
    noise = gan.draw(jax.random.key(1), 4, 5)
    both, one = gan.generate(graph, state, noise), gan.generate(graph, state, noise[:1])
    assert both.dtype == jnp.uint8
    np.testing.assert_array_equal(both[:1], one)  # an image does not depend on its neighbours
