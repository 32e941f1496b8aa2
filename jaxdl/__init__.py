"""The concepts of a PyTorch course as functional JAX."""

__version__ = "0.1.0"
