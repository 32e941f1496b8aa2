"""How fast jaxdl is beside PyTorch: the same work in both, side by side. ``python -m benchmarks --help``."""
