"""Codes, scales and zero points against torch.ao."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

from jaxdl.methods.quantize import affine

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch.ao is to go

EIGHT, SEVEN = {"bits": 8}, {"bits": 7}
floats = st.floats(-1e4, 1e4, width=32)


def values(seed: int = 0, shape: tuple[int, ...] = (64, 50), low: float = -1.5, high: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def observed(x: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point that torch.ao chooses."""
    observer = MinMaxObserver(**options)
    observer(torch.from_numpy(x))
    scale, zero_point = observer.calculate_qparams()
    return scale.numpy(), zero_point.numpy()


@given(st.lists(floats, min_size=1, max_size=5))
@settings(max_examples=100)
@pytest.mark.parametrize(("bits", "unsigned"), [(8, 128), (7, 64)])
def test_scale_and_zero_point_are_those_of_torchs_observer(bits, unsigned, numbers):
    x = np.asarray(numbers, np.float32)
    scale, zero_point = affine.affine(x.min(), x.max(), bits)
    theirs = observed(x, dtype=torch.qint8, reduce_range=bits == 7)
    np.testing.assert_array_equal((scale, zero_point), (theirs[0][0], theirs[1][0]))
    of_quint8 = observed(x, dtype=torch.quint8, reduce_range=bits == 7)
    np.testing.assert_array_equal((scale, zero_point + unsigned), (of_quint8[0][0], of_quint8[1][0]))


@pytest.mark.parametrize("seed", range(5))
def test_a_program_finds_the_same_scale_and_zero_point(seed):
    x = values(seed)
    scale, zero_point = jax.jit(lambda x: affine.affine(x.min(), x.max()))(x)
    expected = affine.affine(x.min(), x.max())
    np.testing.assert_array_equal((scale, zero_point), expected)
    assert (scale.dtype, zero_point.dtype) == (jnp.float32, jnp.int32)


@pytest.mark.parametrize("seed", range(5))
def test_codes_of_weights_are_torchs_per_tensor_and_per_channel(seed):
    weight = values(seed, low=-2, high=2)
    scale = affine.symmetric(np.abs(weight).max())
    theirs = torch.quantize_per_tensor(torch.from_numpy(weight), float(scale), 0, torch.qint8)
    symmetric = {"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}
    assert scale == observed(weight, **symmetric)[0][0]
    np.testing.assert_array_equal(affine.quantize(weight, scale), theirs.int_repr())

    observer = PerChannelMinMaxObserver(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    observer(torch.from_numpy(weight))
    scales = affine.symmetric(np.abs(weight).max(1))
    np.testing.assert_array_equal(scales, observer.calculate_qparams()[0])
    theirs = torch.quantize_per_channel(torch.from_numpy(weight), *observer.calculate_qparams(), 0, torch.qint8)
    np.testing.assert_array_equal(affine.quantize(weight, scales[:, None]), theirs.int_repr())


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["host", "program"])
@pytest.mark.parametrize("seed", range(5))
def test_codes_of_inputs_are_torchs_and_stand_for_the_same_numbers(seed, kind):
    x = values(seed, (40_000,))
    scale, zero_point = affine.affine(x.min() / 2, x.max() / 2)  # the outer ones are cut off
    codes = affine.quantize(kind(x), kind(scale), kind(zero_point))
    theirs = torch.quantize_per_tensor(torch.from_numpy(x), float(scale), int(zero_point) + 128, torch.quint8)
    np.testing.assert_array_equal(np.asarray(codes, np.int32) + 128, theirs.int_repr())
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(affine.dequantize(codes, kind(scale), kind(zero_point)), theirs.dequantize())


def test_halves_go_to_the_even_code_and_the_rest_to_the_ends():
    x, one = np.asarray([0.5, 1.5, 2.5, -0.5, -1.5, 126.4, 300, -300], np.float32), np.float32(1)
    np.testing.assert_array_equal(affine.quantize(x, one), [0, 2, 2, 0, -2, 126, 127, -128])


@given(st.lists(floats, min_size=1, max_size=20))
@settings(max_examples=100)
def test_what_lies_in_the_range_is_off_by_half_a_step_at_most_and_zero_not_at_all(numbers):
    x = np.asarray([*numbers, 0], np.float32)
    scale, zero_point = affine.affine(x.min(), x.max())
    back = affine.dequantize(affine.quantize(x, scale, zero_point), scale, zero_point)
    assert back[-1] == 0
    # The range begins and ends at codes, so that up to half a step of it is cut off.
    assert np.abs(back - x).max() <= 1.001 * scale


@pytest.mark.parametrize("bits", [8, 7])
def test_fake_quantization_and_its_gradient_are_torchs(bits):
    x = values(shape=(3000,))
    scale, zero_point = affine.affine(x.min() / 2, x.max() / 2, bits)
    least, greatest = affine.code_range(bits)
    theirs = torch.from_numpy(x).requires_grad_()
    outputs = torch.fake_quantize_per_tensor_affine(theirs, float(scale), int(zero_point), least, greatest)
    (outputs**2).sum().backward()

    def ours(x):
        return affine.fake_quantize(x, jnp.asarray(scale), jnp.asarray(zero_point), bits)

    np.testing.assert_array_equal(ours(jnp.asarray(x)), outputs.detach())
    gradient = jax.grad(lambda x: (ours(x) ** 2).sum())(jnp.asarray(x))  # pyright: ignore[reportOperatorIssue]
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-6)
    assert 0.3 < (np.asarray(gradient) == 0).mean() < 0.7  # of what is cut off


def test_fake_quantization_per_channel_is_torchs():
    weight = values(low=-1, high=1)
    scale, zeros = affine.symmetric(np.abs(weight).max(1)), np.zeros(64, np.int32)
    theirs = torch.from_numpy(weight).requires_grad_()
    arguments = torch.from_numpy(scale), torch.from_numpy(zeros), 0, -128, 127
    outputs = torch.fake_quantize_per_channel_affine(theirs, *arguments)
    (outputs**2).sum().backward()

    def ours(w):
        return affine.fake_quantize(w, jnp.asarray(scale[:, None]), jnp.asarray(zeros[:, None]))

    np.testing.assert_array_equal(ours(jnp.asarray(weight)), outputs.detach())
    gradient = jax.grad(lambda w: (ours(w) ** 2).sum())(jnp.asarray(weight))  # pyright: ignore[reportOperatorIssue]
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-6)
    assert (np.asarray(gradient) == 0).any()  # torch's rule too: the largest weight rounds beyond the last code


def test_qwix_has_the_same_codes_per_tensor_and_nearly_the_same_scales_per_channel():
    qwix = pytest.importorskip("qwix")
    weight = values(low=-2, high=2)
    theirs = qwix.quantize(jnp.asarray(weight), jnp.int8)
    scale = affine.symmetric(np.abs(weight).max())
    np.testing.assert_array_equal(theirs.qvalue, affine.quantize(weight, scale))
    theirs = qwix.quantize(jnp.asarray(weight), jnp.int8, channelwise_axes=(0,))
    scales = affine.symmetric(np.abs(weight).max(1))[:, None]
    np.testing.assert_allclose(theirs.scale, scales, rtol=2e-7)


@pytest.mark.parametrize("bits", [1, 9])
def test_other_bits_are_refused(bits):
    with pytest.raises(ValueError, match=f"expected 2 to 8 bits, got {bits}"):
        affine.code_range(bits)
