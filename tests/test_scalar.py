"""What a program may know of a hyper-parameter while it is built."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.scalar import absent, known


def test_numbers_are_known_and_arrays_are_not():
    assert known(0.0)
    assert known(np.float64(1))
    assert not known(jnp.zeros(()))
    assert absent(0)
    assert not absent(0.1)
    assert not absent(jnp.zeros(()))  # it may be anything when the program runs


def test_what_is_traced_is_not_known():
    seen = []
    jax.jit(lambda x: seen.append((known(x), absent(x))))(0.0)
    assert seen == [(False, False)]
