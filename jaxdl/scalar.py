"""Hyper-parameters that are numbers: Python's, or arrays () where a sweep gives each of its members its own."""

import jax

from jaxdl.typing import Scalar


def known(value: Scalar) -> bool:
    """Whether the value can be looked at while a program is built, so that its range can be checked."""
    return not isinstance(value, jax.Array)


def absent(value: Scalar) -> bool:
    """Whether the value is known to be 0, so that what it scales can be left out of the program."""
    return known(value) and bool(value == 0)
