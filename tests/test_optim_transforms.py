"""Clipping, accumulation, freezing and parameter groups against torch in float64, and bit for bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import tree
from jaxdl.optim import transforms
from jaxdl.optim.optimizers import adam, adamw, rates, sgd
from jaxdl.optim.schedules import exponential_lr

STEPS = 12
SHAPES = {"encoder": {"weight": (4, 3), "bias": (3,)}, "head": {"weight": (3, 2), "bias": (2,)}}


def draw(seed, scale=1.0):
    random = np.random.default_rng(seed)
    shapes = SHAPES.items()
    return {a: {b: scale * random.normal(size=s) for b, s in inner.items()} for a, inner in shapes}


def update(tx, grads, state, params=None) -> tuple[Any, Any]:
    """``tx.update``, typed as what it returns here: dicts of arrays."""
    return tx.update(grads, state, params)


def train(tx, params, grads) -> tuple[Any, Any]:
    """The parameters after all updates, in one scan, and the last state."""
    params = jax.tree.map(jnp.asarray, params)
    grads = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(g) for g in leaves]), *grads)

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), grads)[0]


class Torch:
    """The same parameters as torch's, by dotted name."""

    def __init__(self, params):
        self.weights = {n: torch.nn.Parameter(torch.tensor(p)) for n, p in tree.flatten(params).items()}

    def backward(self, gradient):
        for name, g in tree.flatten(gradient).items():
            weight, g = self.weights[name], torch.tensor(g)
            weight.grad = g if weight.grad is None else weight.grad + g

    def assert_same(self, params, start):
        for name, mine in tree.flatten(params).items():
            origin, other = tree.flatten(start)[name], self.weights[name].detach().numpy()
            np.testing.assert_allclose(mine - origin, other - origin, rtol=1e-12, atol=1e-15)


def bits(array):
    return np.asarray(array).tobytes()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e3])
def test_clip_by_norm_equals_torch(scale):
    grads = draw(1, scale)
    theirs = Torch(draw(0))
    theirs.backward(grads)
    torch.nn.utils.clip_grad_norm_(theirs.weights.values(), max_norm=2e-9 if scale == 1e-9 else 2.0)
    tx = transforms.clip_by_norm(2e-9 if scale == 1e-9 else 2.0)
    clipped, _ = tx.update(jax.tree.map(jnp.asarray, grads), tx.init(grads))
    for name, gradient in tree.flatten(clipped).items():
        np.testing.assert_allclose(gradient, np.asarray(theirs.weights[name].grad), rtol=1e-14)


@settings(max_examples=20)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_a_clipped_norm_is_at_most_the_maximum(scale, maximum):
    grads = {"w": jnp.asarray([3.0, 4.0]) * scale}
    tx = transforms.clip_by_norm(maximum)
    clipped, _ = update(tx, grads, tx.init(grads))
    assert tree.norm(clipped) <= maximum * (1 + 1e-6)
    np.testing.assert_allclose(clipped["w"][0] * 4, clipped["w"][1] * 3, rtol=1e-6)
    if 5 * scale < maximum * (1 - 1e-3):
        np.testing.assert_array_equal(clipped["w"], grads["w"])


def test_clip_by_value():
    grads = {"w": jnp.array([-3.0, -0.5, 0.0, 0.5, 3.0])}
    tx = transforms.clip_by_value(1.0)
    clipped, _ = update(tx, grads, tx.init(grads))
    np.testing.assert_array_equal(clipped["w"], [-1, -0.5, 0, 0.5, 1])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_accumulate_equals_torch(reduction):
    start, grads = draw(0), [draw(seed) for seed in range(1, STEPS + 1)]
    theirs = Torch(start)
    optimizer = torch.optim.Adam(theirs.weights.values(), lr=0.1)
    for i, gradient in enumerate(grads, 1):
        theirs.backward(jax.tree.map(lambda g: g / 4, gradient) if reduction == "mean" else gradient)
        if i % 4 == 0:
            torch.nn.utils.clip_grad_norm_(theirs.weights.values(), 3.0)
            optimizer.step()
            optimizer.zero_grad()
    tx = transforms.accumulate(optax.chain(transforms.clip_by_norm(3.0), adam(0.1)), 4, reduction)
    params, state = train(tx, start, grads)
    theirs.assert_same(params, start)
    assert [int(group.step) for group in rates(state)] == [STEPS // 4]


def test_between_updates_nothing_changes_but_the_sum():
    params = {"w": jnp.array([0.0, -0.0, 1.5])}
    tx = transforms.accumulate(adam(exponential_lr(0.1, 0.5)), 3)
    state: Any = tx.init(params)
    for added in range(1, 4):
        updates, after = update(tx, {"w": jnp.ones(3)}, state, params)
        moved: Any = optax.apply_updates(params, updates)
        held = added < 3
        assert (bits(moved["w"]) == bits(params["w"])) == held
        assert int(rates(after)[0].step) == (0 if held else 1)
        assert int(after.added) == added % 3
        state = after
    assert (state.total["w"] == 0).all()


@pytest.mark.usefixtures("x64")
def test_groups_equal_torchs():
    start, grads = draw(0), [draw(seed) for seed in range(1, STEPS + 1)]
    theirs = Torch(start)
    w = theirs.weights
    groups = [
        {"params": [w["encoder.weight"], w["head.weight"]], "weight_decay": 0.1},
        {"params": [w["head.bias"]], "lr": 0.5, "momentum": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    for gradient in grads:
        optimizer.zero_grad()
        theirs.backward(gradient)
        optimizer.step()
    decayed = sgd(0.01, momentum=0.9, weight_decay=0.1)
    tx = transforms.groups([(r".*\.weight", decayed), ("head.bias", sgd(0.5))])
    params, state = train(tx, start, grads)
    theirs.assert_same(params, start)
    assert bits(params["encoder"]["bias"]) == bits(start["encoder"]["bias"])
    assert [float(group.rate) for group in rates(state)] == [0.01, 0.5]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("form", ["pattern", "tree", "function"])
def test_freeze_equals_torch_without_requires_grad(form):
    start, grads = draw(0), [draw(seed) for seed in range(1, STEPS + 1)]
    start["encoder"]["bias"][0] = -0.0
    theirs = Torch(start)
    for name in ("encoder.weight", "encoder.bias"):
        theirs.weights[name].requires_grad_(False)
    optimizer = torch.optim.AdamW(theirs.weights.values(), lr=0.1)
    for gradient in grads:
        optimizer.zero_grad()
        theirs.backward({"head": gradient["head"]})
        torch.nn.utils.clip_grad_norm_(theirs.weights.values(), 1.0)
        optimizer.step()
    frozen = tree.select(start, r"encoder\..*")
    mask = {"pattern": r"encoder\..*", "tree": frozen, "function": lambda _: frozen}[form]
    tx = transforms.freeze(optax.chain(transforms.clip_by_norm(1.0), adamw(0.1)), mask)
    params, state = train(tx, start, grads)
    theirs.assert_same(params, start)
    assert all(bits(params["encoder"][key]) == bits(start["encoder"][key]) for key in ("weight", "bias"))
    assert tree.size(state) == 2 * tree.size(start["head"]) + 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transforms.clip_by_norm(0.0), "max_norm must be above 0, got 0.0"),
        (lambda: transforms.clip_by_value(-1.0), "max_value must be above 0, got -1.0"),
        (lambda: transforms.accumulate(sgd(), 0), "every must be 1 or more, got 0"),
        (lambda: transforms.accumulate(sgd(), 2, "none"), "reduction must be 'mean' or 'sum', got 'none'"),
        (
            lambda: transforms.groups([("head.*", sgd()), (".*bias", sgd())]).init(draw(0)),
            "one group only, got more for head.bias",
        ),
        (lambda: transforms.freeze(sgd(), "tail.*").init(draw(0)), "no parameter matches 'tail.*'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
