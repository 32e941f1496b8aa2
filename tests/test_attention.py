"""Attention against torch's: values, gradients, masks, precision, initial weights, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.engine.step import cast
from jaxdl.nn.attention import MultiheadAttention, scaled_dot_product_attention

BATCH, QUERIES, KEYS, WIDTH, HEADS = 2, 3, 5, 6, 2
ATTEND = jax.jit(scaled_dot_product_attention)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def twins() -> tuple[MultiheadAttention, torch.nn.MultiheadAttention]:
    """Both with the same weights, float64, and biases that are not zero."""
    ours = MultiheadAttention(WIDTH, HEADS, rngs=nnx.Rngs(0))
    theirs = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    weights = {name: normal(*value.shape, seed=i) for i, (name, value) in enumerate(theirs.state_dict().items())}
    theirs.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    out = {"weight": weights["out_proj.weight"], "bias": weights["out_proj.bias"]}
    packed = {"in_proj_weight": weights["in_proj_weight"], "in_proj_bias": weights["in_proj_bias"]}
    nnx.update(ours, {**packed, "out_proj": out})
    return ours, theirs


def look_ahead(places: int) -> np.ndarray:
    """Blocks what comes later: torch's causal mask."""
    return np.triu(np.ones((places, places), bool), 1)


PADDING = np.array([[False, False, False, True, True], [False, True, False, False, False]])
MASKS = {
    "none": {},
    "places of each head": {"attn_mask": np.random.default_rng(1).random((4, 3, 5)) < 0.3},
    "both": {"key_padding_mask": PADDING, "attn_mask": look_ahead(5)[:3]},
    "added": {"key_padding_mask": normal(2, 5), "attn_mask": normal(3, 5, seed=1)},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_value_and_gradients_are_torchs(masks):
    ours, theirs = twins()
    arrays = normal(BATCH, QUERIES, WIDTH), normal(BATCH, KEYS, WIDTH, seed=1), normal(BATCH, KEYS, WIDTH, seed=2)

    @jax.jit
    def both(*arrays):
        given = {name: jnp.asarray(mask) for name, mask in masks.items()}
        value, pullback = jax.vjp(lambda *arrays: ours(*arrays, **given), *arrays)
        return value, *pullback(jnp.linspace(-1, 1, value.size).reshape(value.shape))

    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    given = {name: torch.tensor(mask) for name, mask in masks.items()}
    expected = theirs(*leaves, **given, need_weights=False)[0]
    expected.backward(torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).reshape(expected.shape))
    found = both(*map(jnp.asarray, arrays))
    for our, their in zip(found, [expected.detach(), *(leaf.grad for leaf in leaves)], strict=True):
        np.testing.assert_allclose(our, np.asarray(their), rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shared", ["all", "key and value"])
def test_what_is_left_out_is_the_query_and_the_key(shared):
    ours, theirs = twins()
    x, memory = normal(BATCH, QUERIES, WIDTH), normal(BATCH, KEYS, WIDTH, seed=1)
    key = x if shared == "all" else memory
    found = ours(jnp.asarray(x)) if shared == "all" else ours(jnp.asarray(x), jnp.asarray(memory))
    expected = theirs(*map(torch.tensor, (x, key, key)), need_weights=False)[0]
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_the_gradients_of_the_weights_are_torchs():
    ours, theirs = twins()
    graphdef, params = nnx.split(ours)
    x = normal(BATCH, QUERIES, WIDTH)
    mask = look_ahead(QUERIES)

    def loss(params):
        return (nnx.merge(graphdef, params)(jnp.asarray(x), attn_mask=jnp.asarray(mask)) ** 3).sum()

    grads = jax.jit(jax.grad(loss))(nnx.to_pure_dict(params))
    leaf = torch.tensor(x)
    (theirs(leaf, leaf, leaf, attn_mask=torch.tensor(mask), need_weights=False)[0] ** 3).sum().backward()
    expected = {name: np.asarray(parameter.grad) for name, parameter in theirs.named_parameters()}
    found = grads | {f"out_proj.{name}": value for name, value in grads.pop("out_proj").items()}
    assert found.keys() == expected.keys()
    largest = max(
        np.abs(value).max() for value in expected.values()
    )  # that of the key's bias is zero but for noise
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-11, atol=1e-13 * largest, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_a_query_that_may_look_nowhere_collects_zeros_without_a_trace_of_nan():
    ours, theirs = twins()
    x, blocked = normal(BATCH, QUERIES, WIDTH), np.zeros((QUERIES, QUERIES), bool)
    blocked[1] = True
    expected = theirs(*[torch.tensor(x)] * 3, attn_mask=torch.tensor(blocked), need_weights=False)[0]
    found = ours(jnp.asarray(x), attn_mask=jnp.asarray(blocked))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(found[:, 1], jnp.tile(ours.out_proj.bias[...], (BATCH, 1)))
    grad = jax.grad(lambda x: (ours(x, attn_mask=jnp.asarray(blocked)) ** 2).sum())(jnp.asarray(x))
    assert jnp.isfinite(grad).all()


def test_true_blocks_in_the_module_and_keeps_in_the_function():
    values = jnp.array([[[1.0], [10.0]]])
    scores_alike = jnp.zeros((1, 2, 1))
    kept = scaled_dot_product_attention(
        scores_alike, scores_alike, values, jnp.array([[True, False], [False, True]])
    )
    assert kept.tolist() == [[[1.0], [10.0]]]
    module = MultiheadAttention(1, 1, rngs=nnx.Rngs(0))
    nnx.update(module, {"in_proj_weight": jnp.array([[0.0], [0.0], [1.0]])})
    nnx.update(module, {"out_proj": {"weight": jnp.ones((1, 1))}})
    blocked = module(values, attn_mask=jnp.array([[False, True], [True, False]]))
    assert blocked.tolist() == [[[1.0], [10.0]]]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": np.arange(12).reshape(3, 4) % 3 > 0}],
    ids=["plain", "causal", "scale", "mask"],
)
@pytest.mark.parametrize("axes", [(), (2,), (2, 3)])
def test_the_function_is_torchs(axes, options):
    shapes = (*axes, 3, 5), (*axes, 4, 5), (*axes, 4, 2)
    arrays = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    mask = {"attn_mask": options["attn_mask"]} if "attn_mask" in options else {}
    rest = {name: value for name, value in options.items() if name != "attn_mask"}
    found = jax.jit(functools.partial(scaled_dot_product_attention, **rest))(
        *map(jnp.asarray, arrays), *map(jnp.asarray, mask.values())
    )
    expected = F.scaled_dot_product_attention(
        *map(torch.tensor, arrays), **{name: torch.tensor(value) for name, value in mask.items()}, **rest
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-13)


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.floats(-30, 30))
def test_a_constant_added_to_all_scores_changes_nothing(seed, constant):
    query, key, value = (jnp.asarray(normal(4, 3, seed=seed + i), jnp.float32) for i in range(3))
    plain = ATTEND(query, key, value)
    shifted = ATTEND(query, key, value, jnp.full((4, 4), constant, jnp.float32))
    np.testing.assert_allclose(shifted, plain, rtol=1e-4, atol=1e-5)
    low, high = value.min(0, keepdims=True), value.max(0, keepdims=True)
    assert ((low - 1e-6 <= plain) & (plain <= high + 1e-6)).all()  # a mean of the values


def test_nan_is_not_hidden_by_a_mask():
    x = jnp.ones((1, 2, 2)).at[0, 0, 0].set(jnp.nan)
    open_mask = jnp.ones((2, 2), bool)
    assert jnp.isnan(scaled_dot_product_attention(x, x, jnp.ones((1, 2, 2)), open_mask)).all()


def test_bfloat16_keeps_its_type_and_takes_its_softmax_in_float32():
    arrays = [jnp.asarray(normal(2, 8, 4, seed=seed), jnp.bfloat16) for seed in range(3)]
    found = ATTEND(*arrays, jnp.tri(8, dtype=bool))
    assert found.dtype == jnp.bfloat16
    exact = ATTEND(*(x.astype(jnp.float32) for x in arrays), jnp.tri(8, dtype=bool))
    largest = jnp.abs(arrays[2].astype(jnp.float32)).max()
    assert jnp.abs(found.astype(jnp.float32) - exact).max() < 2**-7 * largest

    def narrow(x, padding, ahead):
        graphdef, params = nnx.split(MultiheadAttention(4, 2, rngs=nnx.Rngs(0)))
        model = nnx.merge(graphdef, cast(nnx.to_pure_dict(params), jnp.bfloat16))
        return model(x, key_padding_mask=padding, attn_mask=ahead)

    masks = jnp.zeros((2, 8), bool), jnp.zeros((8, 8), bool)
    assert jax.eval_shape(narrow, arrays[0], *masks).dtype == jnp.bfloat16


def test_dropout_acts_on_the_weights_in_training_alone():
    module = MultiheadAttention(WIDTH, HEADS, dropout=1.0, rngs=nnx.Rngs(0))
    plain = MultiheadAttention(WIDTH, HEADS, rngs=nnx.Rngs(0))

    @jax.jit
    def outputs(x):
        return module(x, rngs=nnx.Rngs(dropout=0)), nnx.view(module, deterministic=True)(x), plain(x)

    x = jnp.asarray(normal(BATCH, QUERIES, WIDTH), jnp.float32)
    dropped, evaluated, expected = outputs(x)
    np.testing.assert_array_equal(dropped, jnp.zeros_like(x))
    np.testing.assert_array_equal(evaluated, expected)
    half = MultiheadAttention(WIDTH, HEADS, dropout=0.5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="dropout in training needs rngs"):
        half(x)


def test_starts_as_torchs_does_under_its_names():
    ours, theirs = MultiheadAttention(32, 4, rngs=nnx.Rngs(0)), torch.nn.MultiheadAttention(32, 4)
    state = nnx.to_pure_dict(nnx.state(ours))
    assert set(state) | {f"out_proj.{name}" for name in state["out_proj"]} >= set(theirs.state_dict())
    assert (state["in_proj_bias"] == 0).all()
    assert (state["out_proj"]["bias"] == 0).all()
    bound = (6 / (4 * 32)) ** 0.5  # of the packed matrix
    assert 0.98 * bound < jnp.abs(state["in_proj_weight"]).max() < bound
    assert 0.98 * 32**-0.5 < jnp.abs(state["out_proj"]["weight"]).max() < 32**-0.5
    assert ours.in_proj_weight.layout.to_torch(np.asarray(state["in_proj_weight"])).shape == (96, 32)


@pytest.mark.parametrize("heads", [0, 4, -1])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(ValueError, match=f"a number of heads that divides the width 6, got {heads}"):
        MultiheadAttention(6, heads, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("shapes", "masks", "message"),
    [
        (((2, 3, 5),), {}, r"a query \(B, L, 6\), a key and a value \(B, S, 6\), got \(2, 3, 5\)"),
        (((3, 6),), {}, r"got \(3, 6\)"),
        (((2, 3, 6), (1, 5, 6)), {}, r"got \(2, 3, 6\), \(1, 5, 6\) and \(1, 5, 6\)"),
        (((2, 3, 6), (2, 5, 6), (2, 4, 6)), {}, r"and \(2, 4, 6\)"),
        (((2, 3, 6),), {"key_padding_mask": jnp.zeros((2, 4), bool)}, r"key_padding_mask of shape \(2, 3\), got"),
        (
            ((2, 3, 6),),
            {"attn_mask": jnp.zeros((2, 3, 3), bool)},
            r"of shape \(3, 3\) or \(4, 3, 3\), got \(2, 3, 3\)",
        ),
        (((2, 3, 6),), {"attn_mask": jnp.zeros((3, 3), int)}, "a mask of bool or floating-point, got int32"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, masks, message):
    module = MultiheadAttention(6, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=message):
        module(*(jnp.zeros(shape) for shape in shapes), **masks)


@pytest.mark.parametrize(
    ("shapes", "mask", "message"),
    [
        (
            ((3, 2), (4, 3), (4, 2)),
            None,
            r"\(\.\.\., L, D\), \(\.\.\., S, D\).*got \(3, 2\), \(4, 3\) and \(4, 2\)",
        ),
        (((3, 2), (4, 2), (5, 2)), None, r"and \(5, 2\)"),
        (((2,), (4, 2), (4, 2)), None, r"got \(2,\)"),
        (((3, 2), (4, 2), (4, 2)), (4, 3), r"a mask for scores of shape \(3, 4\), got \(4, 3\)"),
    ],
)
def test_the_function_refuses_what_does_not_fit(shapes, mask, message):
    with pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(*map(jnp.zeros, shapes), None if mask is None else jnp.zeros(mask))
