"""Strict mode for every test: four virtual devices, no implicit dtype or rank promotion."""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the four original MNIST files, where this machine has them."""
    if not MNIST.is_dir():
        pytest.skip("the original MNIST files are not on this machine")
    return MNIST


@pytest.fixture
def x64():
    """float64 for one test."""
    with jax.enable_x64(True):
        yield
