"""How the losses of several tasks become one step: weights, and gradients that are kept from each other's way.

Losses are (K,), gradients one a row.
Source: Kendall, Gal and Cipolla 2018 (uncertainty); Chen et al. 2018 (GradNorm); Yu et al. 2020 (PCGrad).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdl.typing import Array


def uncertainty(losses: Array, log_variances: Array, halved: Sequence[bool]) -> Array:
    """The sum of ``exp(-s) * loss + s / 2``, of squared errors ``exp(-s) / 2 * loss + s / 2``, ().

    With ``s`` the logarithm of the variance that the model gives a task: what it cannot know counts less.

    Args:
      losses, log_variances: (K,).
      halved: of each task, whether its loss is a squared error.
    """
    factor = jnp.where(jnp.asarray(halved), 0.5, 1.0).astype(losses.dtype)
    return jnp.sum(factor * jnp.exp(-log_variances) * losses + log_variances / 2)


def gradnorm_weights(balance: Array) -> Array:
    """The weights of the tasks, (K,): positive, and K in sum, as GradNorm renormalises them."""
    return len(balance) * jax.nn.softmax(balance)


def gradnorm_loss(balance: Array, norms: Array, losses: Array, initial: Array, alpha: float) -> Array:
    """``sum |w * norm - mean(w * norm) * rate**alpha|``, (): how unevenly the tasks pull at the trunk.

    A task's rate is its loss relative to the first one, divided by the mean over the tasks: a task that is behind
    shall pull more. The second term is a constant, as in the paper.

    Args:
      balance: (K,), see `gradnorm_weights`; the loss is for these.
      norms: of the gradients of the unweighted losses for the shared parameters.
      losses, initial: of now and of the first step.
      alpha: how strongly rates are evened out.
    """
    pulls = gradnorm_weights(balance) * jax.lax.stop_gradient(norms)
    ratio = losses / jnp.maximum(initial, jnp.finfo(initial.dtype).tiny)
    rates = ratio / ratio.mean()
    return jnp.sum(jnp.abs(pulls - jax.lax.stop_gradient(pulls.mean() * rates**alpha)))


def pcgrad(gradients: Array, orders: Array) -> Array:
    """The sum of the gradients, each without what conflicts with the others, (D,).

    From each gradient in turn, for all others in random order, the part against another (original) one is taken
    away: ``g -= min(g . o, 0) / |o|^2 * o``.

    Args:
      gradients: (K, D), of the shared parameters.
      orders: (K, K) int, row i the order in which task i meets the tasks; it passes by itself.
    """
    squares = jnp.sum(jnp.square(gradients), 1)

    def freed(own: Array, gradient: Array, order: Array) -> Array:
        def meet(g: Array, other: Array) -> tuple[Array, None]:
            o = gradients[other]
            conflict = jnp.minimum(jnp.vdot(g, o), 0) / jnp.maximum(squares[other], jnp.finfo(g.dtype).tiny)
            return jnp.where(other == own, g, g - conflict * o), None

        return jax.lax.scan(meet, gradient, order)[0]

    return jax.vmap(freed)(jnp.arange(len(gradients)), gradients, orders).sum(0)


def random_orders(key: Array, count: int) -> Array:
    """(count, count) int32, each row an order drawn by itself."""
    keys = jax.random.split(key, count)
    return jax.vmap(lambda own: jax.random.permutation(own, count))(keys)
