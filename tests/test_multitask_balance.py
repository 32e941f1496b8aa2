"""Weights and gradient surgery against torch in float64, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.methods.multitask import balance

RNG = np.random.default_rng(0)


@pytest.mark.usefixtures("x64")
def test_uncertainty_and_its_gradients_are_torchs():
    losses, log_variances = RNG.random(3) + 0.1, RNG.normal(size=3)
    value, grads = jax.value_and_grad(balance.uncertainty, (0, 1))(
        jnp.asarray(losses), jnp.asarray(log_variances), [False, False, True]
    )
    each, s = (torch.tensor(x, requires_grad=True) for x in (losses, log_variances))
    # Kendall et al., equation 10: 1 / (2 sigma^2) for a squared error, 1 / sigma^2 for a class, and log sigma.
    sigma = torch.exp(s / 2)
    theirs = (each[:2] / sigma[:2] ** 2).sum() + each[2] / (2 * sigma[2] ** 2) + torch.log(sigma).sum()
    theirs.backward()
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-14)
    for ours, expected in zip(grads, (each.grad, s.grad), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_gradnorm_is_the_papers_through_torchs_second_derivatives():
    """In torch the norms come out of a graph that still depends on the weights."""
    shared, inputs = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 4))
    heads, targets, v, initial = (
        RNG.normal(size=(3, 3)),
        RNG.normal(size=(5, 3)),
        RNG.normal(size=3),
        RNG.random(3) + 1,
    )
    W, balanced = torch.tensor(shared, requires_grad=True), torch.tensor(v, requires_grad=True)
    weights = 3 * torch.softmax(balanced, 0)
    each = ((torch.tensor(inputs) @ W @ torch.tensor(heads) - torch.tensor(targets)) ** 2).mean(0)
    norms = torch.stack(
        [torch.autograd.grad(weights[i] * each[i], W, create_graph=True)[0].norm() for i in range(3)]
    )
    ratio = each.detach() / torch.tensor(initial)
    target = (norms.mean() * (ratio / ratio.mean()) ** 1.5).detach()
    expected = (norms - target).abs().sum()
    (gradient,) = torch.autograd.grad(expected, balanced)

    unweighted = np.stack([torch.autograd.grad(each[i], W, retain_graph=True)[0].norm() for i in range(3)])
    value, ours = jax.value_and_grad(balance.gradnorm_loss)(
        jnp.asarray(v), jnp.asarray(unweighted), jnp.asarray(each.detach().numpy()), jnp.asarray(initial), 1.5
    )
    np.testing.assert_allclose(value, expected.item(), rtol=1e-13)
    np.testing.assert_allclose(ours, gradient, rtol=1e-11)


def torch_pcgrad(gradients, orders):
    """Yu et al.'s algorithm 1, in a loop."""
    total = torch.zeros_like(gradients[0])
    for i, order in enumerate(orders):
        g = gradients[i].clone()
        for j in order:
            if j != i and torch.dot(g, gradients[j]) < 0:
                g -= torch.dot(g, gradients[j]) / gradients[j].norm() ** 2 * gradients[j]
        total += g
    return total


@pytest.mark.usefixtures("x64")
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), tasks=st.just(4))
def test_pcgrad_is_the_papers_algorithm(seed, tasks):
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(tasks, 5))
    orders = np.stack([rng.permutation(tasks) for _ in range(tasks)])
    ours = balance.pcgrad(jnp.asarray(gradients), jnp.asarray(orders))
    np.testing.assert_allclose(ours, torch_pcgrad(torch.tensor(gradients), orders), rtol=1e-9, atol=1e-12)


def test_pcgrad_by_hand():
    # (1, 0) and (-1, 1): the first loses half of what points against the second, (0.5, 0.5), the second its -1.
    found = balance.pcgrad(jnp.array([[1.0, 0.0], [-1.0, 1.0]]), jnp.array([[0, 1], [1, 0]]))
    np.testing.assert_allclose(found, [0.5, 1.5], atol=1e-6)


def test_gradients_that_do_not_conflict_are_summed_and_nothing_divides_by_zero():
    found = balance.pcgrad(jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), jnp.tile(jnp.arange(3), (3, 1)))
    np.testing.assert_allclose(found, [2.0, 1.0])


def test_weights_of_gradnorm_are_positive_and_as_many_as_tasks():
    weights = balance.gradnorm_weights(jnp.array([0.3, -2.0, 5.0]))
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(), 3, rtol=1e-6)
    np.testing.assert_allclose(balance.gradnorm_weights(jnp.zeros(4)), np.ones(4))


def test_orders_are_permutations_that_differ():
    orders = np.asarray(balance.random_orders(jax.random.key(0), 5))
    assert (np.sort(orders, 1) == np.arange(5)).all()
    assert len({tuple(row) for row in orders}) > 1
