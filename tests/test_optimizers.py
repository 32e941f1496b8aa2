"""Optimizers against torch's over 30 float64 updates with fixed and changing rates, and their state and errors."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxdl.optim import optimizers

STEPS = 30
TORCH = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
CASES = [
    ("sgd", {}),
    ("sgd", {"weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("sgd", {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("sgd", {"dampening": 0.5}),
    ("adam", {}),
    ("adam", {"betas": (0.0, 0.9), "eps": 1e-3}),
    ("adam", {"weight_decay": 0.1}),
    ("adam", {"amsgrad": True, "betas": (0.9, 0.5)}),
    ("adamw", {}),
    ("adamw", {"weight_decay": 0.3, "amsgrad": True, "betas": (0.9, 0.5)}),
    ("rmsprop", {}),
    ("rmsprop", {"centered": True, "eps": 1e-3}),
    ("rmsprop", {"momentum": 0.9, "weight_decay": 0.1}),
    ("rmsprop", {"momentum": 0.5, "centered": True, "alpha": 0.9}),
    ("adagrad", {}),
    ("adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
]


def changing(step):
    """A rate that jumps: 0.02, 0.1, 0.01, 0.02, ..."""
    return jnp.asarray([0.02, 0.1, 0.01])[step % 3]


def draw(seed, shapes=((4, 3), (3,), ())):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) * 10.0 ** random.integers(-3, 2) for shape in shapes]


def problem():
    """Parameters, small beside what they move, and gradients for every update."""
    return [leaf / 100 for leaf in draw(0)], [draw(seed) for seed in range(1, STEPS + 1)]


def train(tx, params, grads) -> list[np.ndarray]:
    """The parameters after every update, in one scan, in the default float dtype."""
    params = [jnp.asarray(leaf, float) for leaf in params]
    grads = [jnp.stack([jnp.asarray(g, float) for g in leaf]) for leaf in zip(*grads, strict=True)]

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    history = jax.lax.scan(step, (params, tx.init(params)), grads)[1]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(history)]


def train_torch(name, options, params, grads, rates):
    weights = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    optimizer = TORCH[name](weights, **options)
    history = []
    for gradient, rate in zip(grads, rates, strict=True):
        for weight, g in zip(weights, gradient, strict=True):
            weight.grad = torch.tensor(g)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        history.append([weight.detach().numpy().copy() for weight in weights])
    return [np.stack(leaf) for leaf in zip(*history, strict=True)]


def assert_same_moves(ours, theirs, start, rtol):
    """What moved since the start, not where it stands: an optimizer that does nothing must fail."""
    for mine, other, origin in zip(ours, theirs, start, strict=True):
        moved = other - origin
        assert np.abs(moved).min() > 0
        np.testing.assert_allclose(mine - origin, moved, rtol=0, atol=rtol * np.abs(moved).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_equals_torch_under_a_changing_rate(name, options):
    params, grads = problem()
    tx = optimizers.OPTIMIZERS[name](changing, **options)
    rates = [float(changing(i)) for i in range(STEPS)]
    expected = train_torch(name, options, params, grads, rates)
    assert_same_moves(train(tx, params, grads), expected, params, rtol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", TORCH)
def test_equals_torch_as_it_comes(name):
    params, grads = problem()
    rate = inspect.signature(TORCH[name]).parameters["lr"].default
    expected = train_torch(name, {}, params, grads, [rate] * STEPS)
    assert_same_moves(train(optimizers.OPTIMIZERS[name](), params, grads), expected, params, rtol=1e-13)


@pytest.mark.parametrize("name", TORCH)
def test_arguments_and_defaults_are_torchs(name):
    torchs = inspect.signature(TORCH[name]).parameters
    ours = inspect.signature(optimizers.OPTIMIZERS[name]).parameters
    assert {key: p.default for key, p in ours.items()} == {key: torchs[key].default for key in ours}


def test_adam_is_exact_in_float32_from_the_first_update():
    params, grads = [np.zeros(1000)], [[np.full(1000, 0.3)]]
    exact = train_torch("adam", {}, params, grads, [1e-3])
    first = train(optimizers.adam(), params, grads)
    np.testing.assert_allclose(first[0], exact[0], rtol=3e-7)


def test_the_first_updates_by_hand():
    tx = optimizers.sgd(0.5, momentum=0.5, dampening=0.25)
    # buffers 4, 0.5*4 + 0.75*2 = 3.5, 0.5*3.5 + 0 = 1.75; parameters 1 - 2, -1 - 1.75, -2.75 - 0.875
    (history,) = train(tx, [np.ones(1)], [[np.full(1, g)] for g in (4.0, 2.0, 0.0)])
    np.testing.assert_array_equal(history[:, 0], [-1, -2.75, -3.625])
    (history,) = train(optimizers.adagrad(1.0, eps=0.0), [np.zeros(1)], [[np.full(1, g)] for g in (3.0, 4.0)])
    np.testing.assert_allclose(history[:, 0], [-1, -1.8], rtol=1e-6)


def test_state_and_updates_keep_the_dtype_of_the_parameters():
    for dtype in (jnp.bfloat16, jnp.float32):
        params = {"w": jnp.ones((2, 3), dtype)}
        for name, options in CASES:
            tx = optimizers.OPTIMIZERS[name](changing, **options)
            state = tx.init(params)
            updates, after = jax.eval_shape(tx.update, params, state, params)
            assert updates["w"].dtype == dtype
            assert after == jax.eval_shape(lambda state=state: state)
            assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.usefixtures("x64")
def test_the_rate_is_read_from_the_state():
    params = {"w": jnp.ones(3)}
    tx = optimizers.adagrad(changing, lr_decay=1.0)
    state = tx.init(params)
    seen = [optimizers.rates(state)]
    for _ in range(3):
        _, state = tx.update(params, state, params)
        seen.append(optimizers.rates(state))
    assert [int(group.step) for (group,) in seen] == [0, 1, 2, 3]
    assert [float(group.rate) for (group,) in seen] == [0.02, 0.02, 0.1 / 2, 0.01 / 3]
    assert seen[0][0].rate.dtype == jnp.float64


def test_one_vmap_sweeps_the_rate():
    params = {"w": jnp.ones(3)}

    def updated(lr):
        tx = optimizers.adam(lr)
        return jnp.stack(jax.tree.leaves(tx.update(params, tx.init(params), params)[0]))

    swept = jax.vmap(updated)(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(swept, jnp.stack([updated(0.1), updated(0.2)]), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sgd", {"lr": -1.0}, "lr must be 0 or more, got -1.0"),
        ("sgd", {"lr": float("nan")}, "lr must be 0 or more, got nan"),
        ("sgd", {"momentum": -0.1}, "momentum must be 0 or more"),
        ("sgd", {"nesterov": True}, "needs momentum above 0 and no dampening, got momentum=0.0"),
        ("sgd", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening=0.1"),
        ("adam", {"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0.9, 1.0\)"),
        ("adam", {"eps": -1e-8}, "eps must be 0 or more"),
        ("adamw", {"weight_decay": -1e-2}, "weight_decay must be 0 or more"),
        ("rmsprop", {"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ("adagrad", {"lr_decay": -1.0}, "lr_decay must be 0 or more"),
        ("adagrad", {"initial_accumulator_value": -1.0}, "initial_accumulator_value must be 0 or more"),
    ],
)
def test_errors(name, options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.OPTIMIZERS[name](**options)
