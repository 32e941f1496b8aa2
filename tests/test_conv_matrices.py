import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from jaxdl.nn.conv_matrices import by_matrices


def products(jaxpr):
    """The shapes of the kernels in all matrix products of a program, in order."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            yield eqn.invars[1].aval.shape
        for inner in jax.tree.leaves(eqn.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from products(inner)


def kernels(x, weight, strides=(1, 1), pads=((1, 1), (1, 1)), dtype=jnp.float32):
    def run(x, weight):
        return by_matrices(x, weight, strides=strides, pads=pads, dilations=(1, 1))

    return list(products(jax.make_jaxpr(run)(jnp.ones(x, dtype), jnp.ones(weight, dtype)).jaxpr))


@pytest.mark.parametrize(
    ("x", "weight", "options", "expected"),
    [
        ((2, 8, 8, 16), (3, 3, 16, 32), {}, [(16, 32)] * 16),  # tiles
        ((2, 8, 8, 16), (3, 3, 16, 32), {"dtype": jnp.bfloat16}, [(144, 32)]),  # patches
        ((2, 8, 8, 1), (3, 3, 1, 32), {}, [(9, 32)]),
        ((2, 8, 8, 16), (3, 3, 16, 32), {"strides": (2, 2)}, [(144, 32)]),
        ((2, 8, 8, 8), (3, 3, 8, 8), {}, [(24, 8)] * 3),  # rows
        ((2, 1, 1, 16), (3, 3, 16, 32), {}, [(16, 32)]),  # all but the middle lies in the padding
        ((2, 2, 2, 16), (3, 3, 16, 32), {"strides": (2, 2)}, [(64, 32)]),  # as do the first row and column
        ((2, 1, 8, 16), (3, 3, 16, 32), {}, [(48, 32)]),
    ],
)
def test_the_way_depends_on_the_shapes(x, weight, options, expected):
    assert kernels(x, weight, **options) == expected


# Size of the image and of the kernel, stride, padding, dilation.
pad = st.tuples(st.integers(0, 4), st.integers(0, 4))
axis = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), pad, st.integers(1, 4))


@pytest.mark.usefixtures("x64")
@given(rows=axis, columns=axis)
def test_any_geometry_is_xlas(rows, columns):
    image, kernel, strides, pads, dilations = zip(rows, columns, strict=True)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = tuple(
        (before, max(after, span - size - before))
        for (before, after), span, size in zip(pads, spans, image, strict=True)
    )
    rng = np.random.default_rng(0)
    x, weight = jnp.asarray(rng.normal(size=(2, *image, 3))), jnp.asarray(rng.normal(size=(*kernel, 3, 2)))
    axes = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(x, weight, strides, pads, rhs_dilation=dilations, dimension_numbers=axes)
    found = by_matrices(x, weight, strides=strides, pads=pads, dilations=dilations)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
