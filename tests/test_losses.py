"""Losses: values and gradients against torch in float64, hand-worked numbers, laws and errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nn import losses

REDUCTIONS = ("none", "mean", "sum")
LABELS = np.array([2, 0, 4, 2, 1, 3])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.0, 3.0])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def probabilities(*shape, seed=0):
    scores = np.exp(normal(*shape, seed=seed))
    return scores / scores.sum(-1, keepdims=True)


def assert_same(ours, theirs, *inputs, constant=(), reductions=REDUCTIONS, **options):
    """Every reduction and the gradient of every input, for cotangents that differ from element to element.

    ``constant`` are further arguments without a gradient; arrays in ``options`` go to each side as its own.
    """
    fixed = [jnp.asarray(x) for x in constant]
    arrays = {key: jnp.asarray(x) if isinstance(x, np.ndarray) else x for key, x in options.items()}
    tensors = {key: torch.tensor(x) if isinstance(x, np.ndarray) else x for key, x in options.items()}

    @jax.jit
    def values_and_gradients(*xs):
        return [
            value_and_gradients(lambda *xs, r=r: ours(*xs, *fixed, reduction=r, **arrays), xs) for r in reductions
        ]

    results = values_and_gradients(*map(jnp.asarray, inputs))
    for (value, gradients), reduction in zip(results, reductions, strict=True):
        leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
        expected = theirs(*leaves, *map(torch.tensor, constant), reduction=reduction, **tensors)
        expected.backward(torch.tensor(cotangent(expected.shape)))
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
        for gradient, leaf in zip(gradients, leaves, strict=True):
            np.testing.assert_allclose(gradient, np.asarray(leaf.grad), rtol=1e-12, atol=1e-14)


def value_and_gradients(loss, inputs):
    value, pullback = jax.vjp(loss, *inputs)
    return value, pullback(jnp.asarray(cotangent(value.shape)))


def cotangent(shape):
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape)


graded = jax.jit(jax.value_and_grad(losses.cross_entropy), static_argnames=("label_smoothing",))
each = jax.jit(losses.cross_entropy, static_argnames=("label_smoothing", "reduction"))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignore", [-100, 2])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_cross_entropy_of_labels(weight, ignore, smoothing):
    options = {"weight": weight, "ignore_index": ignore, "label_smoothing": smoothing}
    assert_same(losses.cross_entropy, F.cross_entropy, normal(6, 5), constant=[LABELS], **options)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_the_class_axis_is_last(name):
    labels = np.arange(2 * 3 * 4).reshape(2, 3, 4) % 5
    labels[0, 1] = -100

    def theirs(x, y, **options):
        return getattr(F, name)(x.movedim(-1, 1).contiguous(), y, **options)

    assert_same(getattr(losses, name), theirs, normal(2, 3, 4, 5), constant=[labels], weight=WEIGHT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_cross_entropy_of_probabilities(weight, smoothing):
    inputs = normal(6, 5), probabilities(6, 5)
    assert_same(losses.cross_entropy, F.cross_entropy, *inputs, weight=weight, label_smoothing=smoothing)


@pytest.mark.usefixtures("x64")
def test_one_example_without_a_batch():
    assert_same(losses.cross_entropy, F.cross_entropy, normal(5), constant=[np.array(3)])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_ignored_is_nan_with_gradient_zero(smoothing):
    logits, labels = normal(3, 5), np.full(3, -100)
    assert_same(losses.cross_entropy, F.cross_entropy, logits, constant=[labels], label_smoothing=smoothing)
    value, gradient = graded(jnp.asarray(logits), jnp.asarray(labels))
    assert jnp.isnan(value)
    assert (gradient == 0).all()


@pytest.mark.usefixtures("x64")
def test_a_class_that_is_switched_off_leaves_finite_gradients():
    logits, labels = normal(3, 5), np.array([1, -100, 4])
    logits[:, 0] = -np.inf
    assert_same(losses.cross_entropy, F.cross_entropy, logits, constant=[labels])
    assert jnp.isfinite(graded(jnp.asarray(logits), jnp.asarray(labels))[1]).all()


@pytest.mark.parametrize("wrong", [-1, -99, 5, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_impossible_label_makes_the_loss_nan(wrong, smoothing):
    logits, labels = jnp.asarray(normal(4, 5), jnp.float32), jnp.array([1, wrong, 2, -100])
    values = each(logits, labels, label_smoothing=smoothing, reduction="none")
    np.testing.assert_array_equal(jnp.isnan(values), [False, True, False, False])
    value, gradient = graded(logits, labels, label_smoothing=smoothing)
    assert jnp.isnan(value)
    assert jnp.isnan(gradient[1]).all()


def test_labels_as_stored_in_uint8():
    logits = jnp.asarray(normal(4, 5), jnp.float32)
    stored, signed = jnp.array([4, 5, 0, 255], jnp.uint8), jnp.array([4, 5, 0, 255])
    values = each(logits, stored, reduction="none")
    np.testing.assert_array_equal(values, each(logits, signed, reduction="none"))
    np.testing.assert_array_equal(jnp.isnan(values), [False, True, False, True])


def test_cross_entropy_by_hand():
    even = jnp.zeros((2, 4))
    np.testing.assert_allclose(losses.cross_entropy(even, jnp.array([0, 3])), np.log(4), rtol=1e-6)
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    weight = jnp.array([1.0, 3.0, 1.0])
    # (1 * log 2 + 3 * log 2) / (1 + 3), and the first alone: the second is ignored.
    np.testing.assert_allclose(
        losses.cross_entropy(logits, jnp.array([0, 1]), weight=weight), np.log(2), rtol=1e-6
    )
    value = losses.cross_entropy(logits, jnp.array([1, -100]), weight=weight, reduction="sum")
    np.testing.assert_allclose(value, 3 * np.log(4), rtol=1e-6)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(-50, 50))
def test_laws_of_cross_entropy(seed, shift):
    with jax.enable_x64(True):
        logits, labels = jnp.asarray(normal(6, 5, seed=seed)), jnp.asarray(LABELS)
        value = losses.cross_entropy(logits, labels)
        for same in (
            losses.cross_entropy(logits + shift, labels),
            losses.cross_entropy(logits, jax.nn.one_hot(labels, 5)),
            losses.nll_loss(jax.nn.log_softmax(logits), labels),
        ):
            np.testing.assert_allclose(same, value, rtol=1e-11)


@settings(max_examples=10)
@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any))
def test_to_ignore_an_example_is_to_leave_it_out(kept):
    def mean(logits, labels):
        return losses.cross_entropy(
            logits, jnp.asarray(labels), weight=jnp.asarray(WEIGHT + 1), label_smoothing=0.1
        )

    with jax.enable_x64(True):
        logits = jnp.asarray(normal(6, 5))
        each = [float(mean(logits, np.where(np.arange(6) == i, LABELS, -100))) for i in range(6) if kept[i]]
        weights = (WEIGHT + 1)[LABELS][kept]
        np.testing.assert_allclose(
            mean(logits, np.where(kept, LABELS, -100)), np.average(each, weights=weights), rtol=1e-12
        )


# Equal elements, both sides of the thresholds, and a threshold itself.
PREDICTIONS = np.array([[0.0, 0.3, -2.0], [0.5, 1.0, 9.0]])
TARGETS = np.array([[0.0, 0.1, 1.0], [0.0, 2.0, -9.0]])
REGRESSION = {
    "mse": (losses.mse_loss, F.mse_loss, {}),
    "l1": (losses.l1_loss, F.l1_loss, {}),
    "smooth_l1": (losses.smooth_l1_loss, F.smooth_l1_loss, {}),
    "smooth_l1 beta=0.5": (losses.smooth_l1_loss, F.smooth_l1_loss, {"beta": 0.5}),
    "smooth_l1 beta=0": (losses.smooth_l1_loss, F.smooth_l1_loss, {"beta": 0.0}),
    "huber": (losses.huber_loss, F.huber_loss, {}),
    "huber delta=0.5": (losses.huber_loss, F.huber_loss, {"delta": 0.5}),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", REGRESSION)
def test_regression(name):
    ours, theirs, options = REGRESSION[name]
    assert_same(ours, theirs, PREDICTIONS, TARGETS, **options)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.5])])
def test_binary_cross_entropy(weight):
    targets = np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.5]])
    inside = np.array([[0.2, 0.9, 0.5], [1e-9, 1e-13, 0.999]])
    assert_same(losses.binary_cross_entropy, F.binary_cross_entropy, inside, targets, weight=weight)
    # At 0 and 1 the logarithms are clamped at -100 and the gradient of torch stays finite.
    edge = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert_same(losses.binary_cross_entropy, F.binary_cross_entropy, edge, constant=[targets], weight=weight)


def test_a_probability_outside_the_unit_interval_gives_nan():
    each = losses.binary_cross_entropy(jnp.array([-0.1, 0.5, 1.1]), jnp.array([0.0, 1.0, 1.0]), reduction="none")
    np.testing.assert_array_equal(jnp.isnan(each), [True, False, True])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("weight", [None, np.array([[1.0], [2.0]])])
@pytest.mark.parametrize("pos_weight", [None, WEIGHT])
def test_binary_cross_entropy_with_logits(weight, pos_weight):
    ours, theirs = losses.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits
    logits = np.array([[0.0, 800.0, -800.0, 0.3, -1.0], [2.0, -3.0, 40.0, -40.0, 1e-9]])
    targets = np.array([[0.0, 1.0, 0.0, 0.3, 1.0], [1.0, 0.0, 0.5, 0.2, 0.0]])
    assert_same(ours, theirs, logits, targets, weight=weight, pos_weight=pos_weight)


@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div(log_target):
    reductions = (*REDUCTIONS, "batchmean")
    log_probs, targets = np.log(probabilities(4, 5)), probabilities(4, 5, seed=1)
    targets = np.log(targets) if log_target else targets
    assert_same(losses.kl_div, F.kl_div, log_probs, targets, log_target=log_target, reductions=reductions)


@pytest.mark.usefixtures("x64")
def test_kl_div_of_a_target_of_zero():
    log_probs, targets = np.log(probabilities(2, 2)), np.array([[0.0, 1.0], [0.5, 0.5]])
    assert_same(losses.kl_div, F.kl_div, log_probs, constant=[targets], reductions=("sum", "batchmean"))


def test_penalties_by_hand():
    params = {"weight": jnp.array([[1.0, -2.0], [0.0, 3.0]]), "bias": jnp.array([-4.0])}
    assert losses.l1_penalty(params) == 10
    assert losses.l2_penalty(params) == 15  # (1 + 4 + 9 + 16) / 2
    slope = jax.grad(losses.l1_penalty)(params)
    np.testing.assert_array_equal(slope["weight"], [[1, -1], [0, 1]])
    np.testing.assert_array_equal(jax.grad(losses.l2_penalty)(params)["weight"], params["weight"])


@pytest.mark.usefixtures("x64")
def test_l2_penalty_is_torchs_weight_decay():
    start = normal(3, 4)
    weight = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([weight], lr=0.1, weight_decay=0.3)
    weight.sin().sum().backward()
    optimizer.step()
    gradient = jax.grad(lambda w: jnp.sin(w).sum() + 0.3 * losses.l2_penalty({"w": w}))(jnp.asarray(start))
    np.testing.assert_allclose(start - 0.1 * gradient, weight.detach().numpy(), rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_losses_keep_the_dtype(dtype):
    scores, labels = jax.ShapeDtypeStruct((6, 5), dtype), jnp.asarray(LABELS)
    options = {"weight": jnp.asarray(WEIGHT), "label_smoothing": 0.1}
    kept = [jax.eval_shape(lambda x: losses.cross_entropy(x, labels, **options), scores)]
    for loss in (
        losses.cross_entropy,
        losses.mse_loss,
        losses.l1_loss,
        losses.smooth_l1_loss,
        losses.huber_loss,
        losses.kl_div,
        losses.binary_cross_entropy,
        losses.binary_cross_entropy_with_logits,
    ):
        kept.append(jax.eval_shape(loss, scores, scores))
    assert {value.dtype for value in kept} == {jnp.dtype(dtype)}


X: Any = np.zeros((2, 3), np.float32)
Y: Any = np.zeros(2, np.int32)
ERRORS = {
    "reduction": (
        lambda: losses.mse_loss(X, X, reduction="avg"),
        ValueError,
        "'none', 'mean' or 'sum', got 'avg'",
    ),
    "shape": (lambda: losses.mse_loss(X, X[:1]), ValueError, r"same shape, got \(2, 3\) and \(1, 3\)"),
    "dtype": (lambda: losses.l1_loss(X, X.astype(np.float16)), TypeError, "same dtype, got float32 and float16"),
    "integers": (
        lambda: losses.mse_loss(Y, Y),
        TypeError,
        "predictions must have a floating-point dtype, got int32",
    ),
    "labels": (lambda: losses.cross_entropy(X, X[:, :2]), ValueError, r"same shape, got \(2, 3\) and \(2, 2\)"),
    "label rank": (lambda: losses.cross_entropy(X, Y[:, None]), ValueError, r"\(2, 3\), labels \(2, 1\)"),
    "label dtype": (lambda: losses.cross_entropy(X, Y.astype(bool)), TypeError, "integer dtype, got bool"),
    "nll label dtype": (lambda: losses.nll_loss(X, X), TypeError, "integer dtype, got float32"),
    "weight": (lambda: losses.cross_entropy(X, Y, weight=X[:, 0]), ValueError, r"shape \(3,\), got \(2,\)"),
    "smoothing": (lambda: losses.cross_entropy(X, Y, label_smoothing=1.5), ValueError, r"in \[0, 1\], got 1.5"),
    "ignore": (lambda: losses.cross_entropy(X, X, ignore_index=1), ValueError, "needs integer labels, got 1"),
    "beta": (lambda: losses.smooth_l1_loss(X, X, beta=-1.0), ValueError, "beta must be 0 or more, got -1"),
    "delta": (lambda: losses.huber_loss(X, X, delta=0.0), ValueError, "delta must be greater than 0, got 0"),
    "pos_weight": (
        lambda: losses.binary_cross_entropy_with_logits(X, X, pos_weight=X[:, 0]),
        ValueError,
        r"pos_weight must broadcast to the shape \(2, 3\), got \(2,\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_raised_while_tracing(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        jax.eval_shape(call)
