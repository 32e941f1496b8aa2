"""Batches of made-up images that are able to show faults: no symmetry, no zero mean, all classes."""

import numpy as np

CLASSES = 10


def images(count: int = 8, shape: tuple[int, int, int] = (1, 28, 28)):
    """``rng -> (count, C, H, W)`` in [0, 1) and brighter in one corner."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        ramp = np.linspace(0.2, 1.0, shape[1])[:, None] * np.linspace(0.5, 1.0, shape[2])
        return rng.random((count, *shape)) * ramp

    return draw


def labels(count: int = 8, classes: int = CLASSES):
    """``rng -> (count,)`` integers."""
    return lambda rng: rng.integers(0, classes, count)
