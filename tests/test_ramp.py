"""Pruning in training: torch's masked training in lockstep, zeros that stay zeros, torch's schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.ao.pruning.scheduler.cubic_scheduler import CubicSL
from torch.nn.utils import prune

from jaxdl.methods.prune import masks
from jaxdl.methods.prune.ramp import Ramp, cubic, pruned
from jaxdl.optim import optimizers, transforms


@pytest.fixture(autouse=True)
def _float64(x64):
    del x64


def test_the_cubic_ramp_is_torchs():
    theirs = [CubicSL.sparsity_compute_fn(0.2, 0.9, t=t, t_0=0, dt=3, n=5) for t in range(0, 16, 3)]
    np.testing.assert_allclose(cubic(0.9, 17, 3, 0.2).amounts, theirs, rtol=1e-12)


def test_pruning_comes_due_every_so_many_updates_until_all_is_gone():
    ramp = cubic(0.5, 10, 3)
    assert ramp.amounts == pytest.approx([0, 0.5 * (1 - 8 / 27), 0.5 * (1 - 1 / 27), 0.5])
    assert [step for step in range(1, 30) if ramp.due(jnp.asarray(step))] == [3, 6, 9]


def test_a_ramp_without_room_prunes_at_the_start():
    assert cubic(0.7, 99, 100) == Ramp((0.7,))
    assert not any(Ramp((0.7,)).due(jnp.asarray(step)) for step in range(1, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.2, 10, 1), "shares lie between 0 and 1; got 0.0 and 1.2"),
        ((0.5, 10, 0), "at least 1 update between two prunings; got 0"),
    ],
)
def test_a_ramp_that_is_none_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        cubic(*arguments)


def problem():
    """A least-squares problem: inputs, targets and first parameters."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 6)), rng.normal(size=(20, 4)), rng.normal(size=(4, 6)), rng.normal(size=4)


def loss(params, x, y):
    return jnp.mean((x @ params["weight"].T + params["bias"][None] - y) ** 2)


@pytest.mark.parametrize(
    ("ours", "theirs", "clip"),
    [
        (optimizers.sgd(0.1, momentum=0.9, weight_decay=0.01), {"momentum": 0.9, "weight_decay": 0.01}, None),
        (optax.chain(transforms.clip_by_norm(0.3), optimizers.sgd(0.1, momentum=0.9)), {"momentum": 0.9}, 0.3),
        (optimizers.adam(0.1), None, None),
    ],
)
def test_lockstep_with_torchs_masked_training(ours, theirs, clip):
    """torch keeps weight_orig and multiplies with the mask in every forward pass; ours are 0.

    Twelve updates, and a second pruning after six of them.
    """
    x, y, weight, bias = problem()
    module = torch.nn.Linear(6, 4, dtype=torch.float64)
    module.weight.data, module.bias.data = torch.tensor(weight), torch.tensor(bias)
    prune.l1_unstructured(module, "weight", amount=0.25)
    parameters = [module.weight_orig, module.bias]
    optimizer = torch.optim.SGD(parameters, 0.1, **theirs) if theirs else torch.optim.Adam(parameters, 0.1)

    def find(params, place):
        counts = jnp.asarray([6, 15])  # of 24: a quarter, then half of the other 18
        return {"weight": masks.l1_unstructured(params["weight"], counts[place])}

    params = {"weight": jnp.asarray(weight), "bias": jnp.asarray(bias)}
    params = masks.apply(params, find(params, 0))
    tx = pruned(ours, find, Ramp((0.25, 0.625), every=6))
    state = tx.init(params)
    update = jax.jit(lambda params, state: tx.update(jax.grad(loss)(params, x, y), state, params))
    for step in range(1, 13):
        updates, state = update(params, state)
        params = optax.apply_updates(params, updates)
        optimizer.zero_grad()
        ((module(torch.tensor(x)) - torch.tensor(y)) ** 2).mean().backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        module(torch.tensor(x))  # makes weight anew of weight_orig, which is what torch's next pruning looks at
        if step == 6:
            prune.l1_unstructured(module, "weight", amount=0.5)
        effective = module.weight.detach().numpy()
        np.testing.assert_allclose(params["weight"], effective, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(params["bias"], module.bias.detach().numpy(), rtol=1e-12, atol=1e-14)
    assert (np.asarray(params["weight"]) == 0).sum() == 15


@pytest.mark.parametrize(
    "inner", [optimizers.adamw(0.1), transforms.accumulate(optimizers.sgd(0.1, momentum=0.9), 2)]
)
def test_what_is_pruned_is_exactly_zero_after_every_update(inner):
    x, y, weight, bias = problem()
    params = {"weight": jnp.asarray(weight), "bias": jnp.asarray(bias)}

    def find(params, place):
        return {"weight": masks.l1_unstructured(params["weight"], jnp.asarray([0, 8, 16, 20])[place])}

    tx = pruned(inner, find, Ramp((0, 0.3, 0.6, 0.8), every=2))
    state, zeros = tx.init(params), []

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(9):
        params, state = step(params, state)
        bits = np.asarray(params["weight"]).view(np.int64)
        assert (bits[~np.asarray(state.masks["weight"])] == 0).all()  # no -0.0 either
        zeros.append(int((bits == 0).sum()))
    assert zeros == [0, 8, 8, 16, 16, 20, 20, 20, 20]
    assert (np.asarray(params["bias"]) != 0).all()


def test_masks_of_missing_parameters_are_an_error():
    with pytest.raises(ValueError, match=r"fc9.weight is no parameter"):
        pruned(optimizers.sgd(0.1), lambda *_: {"fc9.weight": jnp.ones(2, bool)}, Ramp((0.5,))).init(
            {"w": jnp.ones(2)}
        )
