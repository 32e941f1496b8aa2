import jax
import jax.numpy as jnp
import pytest
from exporting import operation
from jax import lax

from jaxdl.methods.export.graph import UnsupportedError
from jaxdl.methods.export.trace import trace


def kinds(function) -> list[str]:
    return [node.op for node in trace(operation(function), 1).nodes]


def test_a_softmax_is_recognised():
    assert "softmax" in kinds(jax.nn.softmax)
    assert "exp" not in kinds(jax.nn.softmax)


def test_another_quotient_of_exponentials_is_none():
    assert "softmax" not in kinds(lambda x: jnp.exp(x) / jnp.exp(x).sum(1, keepdims=True))


def test_sums_and_products_of_constants_are_one_operation():
    assert kinds(lambda x: -(3 * x - 1) / 2 + x * 0.5 + 7) == ["cast", "affine", "reshape", "affine"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: lax.conv_general_dilated(
                x, x[:1, :2, :2].transpose(1, 2, 3, 0), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            "constant weights",
        ),
        (
            lambda x: lax.conv_general_dilated(
                x, jnp.ones((1, 2, 3, 3)), (1, 1), "VALID", dimension_numbers=("NHWC", "OIHW", "NHWC")
            ),
            r"only convolutions of \(B, H, W, C\)",
        ),
        (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 1, 2), (1, 1, 1, 1), "VALID"), "only pooling"),
        (lambda x: jnp.tensordot(x, jnp.ones((4, 2, 3)), ((2, 3), (0, 1))), "summed over several axes"),
        (lambda x: lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0))), "between elements"),
        (lambda x: jnp.take(jnp.ones((5, 3)), x.astype(jnp.int32).reshape(-1) % 5, axis=0), "has no translation"),
        (
            lambda x: (x.reshape(-1, 2).astype(jnp.int8) @ jnp.ones((2, 3), jnp.int8)).astype(jnp.float32),
            "of int8",
        ),
    ],
)
def test_what_has_no_translation_is_said(function, message):
    with pytest.raises(UnsupportedError, match=message):
        trace(operation(function), 1)
