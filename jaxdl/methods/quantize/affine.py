"""Eight-bit codes for real numbers: ``real = scale * (code - zero_point)``, with torch.ao's rules and rounding.

What is said of arrays holds for NumPy's, on the host, and for JAX's, in a program.

Why not qwix, a kept library for this: its codes per tensor are torch's (tests/test_quantize_affine.py), but its
scales per channel differ in the last bit, and with them 12 to 20 of 8192 codes (qwix 0.1.8, normal weights of
(64, 128)). It has no calibration by percentile, histogram or entropy, and multiplies int32 by float32 without a
conversion, which strict promotion forbids.

Source: Jacob et al. 2018, https://docs.pytorch.org/docs/stable/quantization.html
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.typing import Array

EPS = np.finfo(np.float32).eps  # the smallest scale, as in torch.ao


def code_range(bits: int = 8) -> tuple[int, int]:
    """The least and the greatest code. 7 bits are torch's ``reduce_range``.

    Raises:
      ValueError: bits that int8 does not hold.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"expected 2 to 8 bits, got {bits}")
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def affine(low: Any, high: Any, bits: int = 8) -> tuple[Any, Any]:
    """Scale (float32) and zero point (int32) for values from ``low`` to ``high``, float32 arrays of any shape.

    The range is widened to hold zero, which has a code of its own: paddings and ReLU stay exact.

    Source: torch.ao.quantization.MinMaxObserver, ``dtype=torch.qint8, qscheme=torch.per_tensor_affine``
    """
    least, greatest = code_range(bits)
    low, high = low.clip(max=0), high.clip(min=0)
    scale = _divided(high - low, greatest - least).clip(min=EPS)
    zero_point = (least - (low / scale).round()).clip(least, greatest)
    return scale, zero_point.astype(np.int32)


def symmetric(largest: Any, bits: int = 8) -> Any:
    """The scale for values from ``-largest`` to ``largest``, whose zero point is 0.

    Source: torch.ao.quantization.MinMaxObserver, ``dtype=torch.qint8, qscheme=torch.per_tensor_symmetric``
    """
    least, greatest = code_range(bits)
    return _divided(largest, (greatest - least) / 2).clip(min=EPS)


def quantize(x: Any, scale: Any, zero_point: Any | None = None, bits: int = 8) -> Any:
    """Codes, int8, of the nearest multiples of ``scale``; halves go to the even one, what is outside to the ends.

    Args:
      x: float32.
      scale, zero_point: what broadcasts to ``x``; without a zero point it is 0.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.quantize_per_tensor.html
    """
    least, greatest = code_range(bits)
    multiples = x * (1 / scale)
    if zero_point is None:
        return multiples.round().clip(least, greatest).astype(np.int8)
    # Added before it is rounded, and counted from the least code: so is torch's quint8, half for half.
    above = (multiples + (zero_point - least).astype(x.dtype)).round().clip(0, greatest - least)
    return (above + np.float32(least)).astype(np.int8)


def dequantize(codes: Any, scale: Any, zero_point: Any | None = None) -> Any:
    """The real numbers, float32, that codes stand for."""
    steps = codes.astype(np.int32) if zero_point is None else codes.astype(np.int32) - zero_point
    return steps.astype(np.float32) * scale


def _divided(x: Any, number: float) -> Any:
    """``x / number``, to the last bit: by one number for all of ``x``, XLA multiplies with its inverse."""
    if isinstance(x, jax.Array):
        return x / jax.lax.optimization_barrier(jnp.full_like(x, number))
    return x / np.float32(number)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def fake_quantize(x: Array, scale: Array, zero_point: Array, bits: int = 8) -> Array:
    """``x`` rounded to what has a code; the gradient passes straight through, but not from outside the range.

    Args:
      x: floating-point.
      scale, zero_point: arrays of as many axes as ``x``, or of none.

    Source: Bengio et al. 2013, https://docs.pytorch.org/docs/stable/generated/torch.fake_quantize_per_tensor_affine.html
    """
    return _fake_quantized(x, scale, zero_point, bits)[0]


def _fake_quantized(x: Array, scale: Array, zero_point: Array, bits: int) -> tuple[Array, Array]:
    least, greatest = code_range(bits)
    scale, zero_point = scale.astype(x.dtype), zero_point.astype(x.dtype)
    code = jnp.round(x * (1 / scale)) + zero_point
    inside = (code >= least) & (code <= greatest)
    return (code.clip(least, greatest) - zero_point) * scale, inside


def _forward(x: Array, scale: Array, zero_point: Array, bits: int) -> tuple[Array, Any]:
    y, inside = _fake_quantized(x, scale, zero_point, bits)
    return y, (inside, scale, zero_point)


def _backward(bits: int, kept: Any, gradient: Array) -> tuple[Array, Array, None]:
    del bits
    inside, scale, _ = kept
    return jnp.where(inside, gradient, jnp.zeros_like(gradient)), jnp.zeros_like(scale), None


fake_quantize.defvjp(_forward, _backward)
