"""The integer kernels against integer arithmetic by NumPy: the same codes, the same sums."""

import numpy as np
import pytest
from exporting import images, operation
from jax import lax

from jaxdl.methods.export import c
from jaxdl.methods.export.evaluate import ranges
from jaxdl.methods.export.graph import LINEAR
from jaxdl.methods.export.trace import trace

pytestmark = pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def fast_to_compile(monkeypatch):
    monkeypatch.setattr(c, "FLAGS", ("-std=c11", "-O1"))


def codes(x, low, high):
    step = (high - low) / 255
    zero = round(-128 - low / step)
    quotient = x / step + zero
    return np.clip(np.sign(quotient) * np.floor(np.abs(quotient) + 0.5), -128, 127), step, zero


def integers(x, weight, low, high):
    """``x (..., K) @ weight (K, N)`` as integers do it."""
    q, step, zero = codes(x, low, high)
    scale = np.abs(weight).max(0) / 127
    return ((q - zero) @ np.rint(weight / scale)) * step * scale


def run_int8(program, batch, tmp_path):
    graph = trace(program, 1)
    c.save_int8(graph, ("a",) * graph.logits.shape[1], tmp_path / "m.c", batch)
    (node,) = (node for node in graph.nodes if node.op in LINEAR)
    return c.load(tmp_path / "m.c").run(batch), ranges(graph, batch, [node])[node]


def test_a_linear_layer(tmp_path):
    weight, batch = RNG.normal(size=(32, 5)).astype(np.float32), images(9, (4, 4, 2))
    made = operation(lambda x: x.reshape(x.shape[0], -1) @ weight)
    found, (low, high) = run_int8(made, batch, tmp_path)
    expected = integers(batch.reshape(9, -1) / 64 - 2, weight * 0.5, low, high)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_convolution_with_padding_and_stride(tmp_path):
    weight, batch = RNG.normal(size=(3, 3, 2, 5)).astype(np.float32), images(9, (4, 4, 2))
    made = operation(
        lambda x: lax.conv_general_dilated(
            x, weight, (2, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    found, (low, high) = run_int8(made, batch, tmp_path)
    # Zeros of the padding have a code of their own.
    padded = np.pad(batch / 64 - 2, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2]
    patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(9, 2, 4, -1)
    expected = integers(patches, weight.reshape(-1, 5) * 0.5, low, high)
    np.testing.assert_allclose(found, expected.reshape(9, -1), rtol=0, atol=1e-5)
