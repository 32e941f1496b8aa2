"""Generative adversarial training with the non-saturating loss.

Source: Goodfellow et al. 2014; the order of a step is that of torch's DCGAN tutorial,
https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl.data import transforms
from jaxdl.engine.metrics import average
from jaxdl.engine.state import TrainState
from jaxdl.nn import losses
from jaxdl.typing import Array, Batch, Metrics, PyTree

GENERATOR, DISCRIMINATOR = "generator", "discriminator"  # the parts of a state's params, stats and opt_state


def discriminator_loss(real: Array, fake: Array) -> Array:
    """The binary cross-entropy of logits (B,): real images are 1, made ones 0."""
    cross_entropy = losses.binary_cross_entropy_with_logits
    return cross_entropy(real, jnp.ones_like(real)) + cross_entropy(fake, jnp.zeros_like(fake))


def generator_loss(fake: Array) -> Array:
    """Of the logits (B,) of made images: large where they are not taken for real."""
    return losses.binary_cross_entropy_with_logits(fake, jnp.ones_like(fake))


def create(
    generator: nnx.Module, discriminator: nnx.Module, tx: optax.GradientTransformation, key: Array
) -> tuple[tuple[nnx.GraphDef, nnx.GraphDef], TrainState]:
    """The structures of both networks, and the state of a run that starts with them."""
    (generates, *made), (tells, *told) = (
        nnx.split(net, nnx.Param, nnx.BatchStat) for net in (generator, discriminator)
    )
    params, stats = (
        {GENERATOR: nnx.to_pure_dict(mine), DISCRIMINATOR: nnx.to_pure_dict(theirs)}
        for mine, theirs in zip(made, told, strict=True)
    )
    opt_state = {name: tx.init(values) for name, values in params.items()}
    return (generates, tells), TrainState(jnp.zeros((), jnp.int32), params, stats, opt_state, key)


def train_step(
    graphs: tuple[nnx.GraphDef, nnx.GraphDef], tx: optax.GradientTransformation, latent: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """One step of the discriminator, then one of the generator against what that has become.

    Args:
      graphs: of `create`.
      tx: the optimizer of either.
      latent: numbers of noise for an image.

    The batch has ``image`` (B, H, W, C) uint8; as many images are made.
    """
    generates, tells = graphs

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        params, stats = state.params, state.stats
        dtype = jax.tree.leaves(params)[0].dtype
        real = to_signed(batch["image"]).astype(dtype)
        noise = draw(jax.random.fold_in(state.key, state.step), len(real), latent).astype(dtype)

        def make(generator: PyTree) -> tuple[Array, PyTree]:
            return apply(generates, generator, stats[GENERATOR], noise)

        fake, pull, made_stats = jax.vjp(make, params[GENERATOR], has_aux=True)

        def tell(discriminator: PyTree) -> tuple[Array, tuple[PyTree, Array, Array]]:
            on_real, told = apply(tells, discriminator, stats[DISCRIMINATOR], real)
            on_fake, told = apply(tells, discriminator, told, fake)
            return discriminator_loss(on_real, on_fake), (told, on_real, on_fake)

        (loss, (told, on_real, on_fake)), grads = jax.value_and_grad(tell, has_aux=True)(params[DISCRIMINATOR])
        discriminator, tell_state = _updated(tx, grads, state.opt_state[DISCRIMINATOR], params[DISCRIMINATOR])

        def fool(image: Array) -> tuple[Array, PyTree]:
            logits, after = apply(tells, discriminator, told, image)
            return generator_loss(logits), after

        (fooling, told), pushed = jax.value_and_grad(fool, has_aux=True)(fake)
        generator, make_state = _updated(tx, pull(pushed)[0], state.opt_state[GENERATOR], params[GENERATOR])
        one = jnp.ones_like(loss)
        metrics = {
            "generator_loss": (fooling, one),
            "discriminator_loss": (loss, one),
            "real": average(jax.nn.sigmoid(on_real)),
            "fake": average(jax.nn.sigmoid(on_fake)),
        }
        return TrainState(
            state.step + 1,
            {GENERATOR: generator, DISCRIMINATOR: discriminator},
            {GENERATOR: made_stats, DISCRIMINATOR: told},
            {GENERATOR: make_state, DISCRIMINATOR: tell_state},
            state.key,
        ), metrics

    return step


def apply(graph: nnx.GraphDef, params: PyTree, stats: PyTree, inputs: Array) -> tuple[Array, PyTree]:
    """What the network makes of the inputs, and its statistics afterwards."""
    model = nnx.merge(graph, params, stats)
    return model(inputs), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def draw(key: Array, count: int, latent: int) -> Array:
    """Noise (count, latent), normally distributed."""
    return jax.random.normal(key, (count, latent))


def to_signed(image: Array) -> Array:
    """uint8 images as numbers in [-1, 1]."""
    return 2 * transforms.to_float(jax.random.key(0), {"image": image})["image"] - 1


def to_bytes(image: Array) -> Array:
    """The inverse of `to_signed`, rounded."""
    return jnp.round((image + 1) * 127.5).astype(jnp.uint8)


def generate(graph: nnx.GraphDef, state: TrainState, noise: Array) -> Array:
    """Images (B, H, W, C) uint8 of noise (B, latent); ``graph`` is the generator in evaluation mode."""
    model = nnx.merge(graph, state.params[GENERATOR], state.stats[GENERATOR])
    return to_bytes(model(noise))


def _updated(
    tx: optax.GradientTransformation, grads: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state
