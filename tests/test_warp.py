"""Moved images against torch's sampling in float64, and cases worked by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jaxdl.data import warp

AFFINE = jax.jit(warp.affine)


def random_images(n: int, height: int, width: int, channels: int = 2) -> jax.Array:
    image = np.random.default_rng(0).uniform(0.1, 1, (n, height, width, channels))
    return jnp.asarray(image.astype(jnp.zeros(()).dtype))


def columns(*values: float) -> jax.Array:
    """One image of one row."""
    return jnp.array(values)[None, None, :, None]


def test_crop_takes_the_window_at_the_corner():
    image = random_images(3, 9, 7)
    got = warp.crop(image, jnp.array([[0, 0], [2, 1], [4, 3]]), (5, 4))
    for i, (row, col) in enumerate([(0, 0), (2, 1), (4, 3)]):
        np.testing.assert_array_equal(got[i], image[i, row : row + 5, col : col + 4])


def torch_affine(image, angle, scale, shift) -> np.ndarray:
    """The same through affine_grid, whose coordinates are halves of the width and of the height."""
    height, width = image.shape[1:3]
    theta = np.zeros((len(image), 2, 3))
    for i, (a, s, (down, right)) in enumerate(zip(angle, scale, shift, strict=True)):
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) / s  # (x, y) to (x, y)
        to_pixels = np.diag([width / 2, height / 2])
        theta[i, :, :2] = np.linalg.inv(to_pixels) @ turn @ to_pixels
        theta[i, :, 2] = np.linalg.inv(to_pixels) @ turn @ [-right, -down]
    pictures = torch.from_numpy(np.array(image)).permute(0, 3, 1, 2)
    grid = F.affine_grid(torch.from_numpy(theta), list(pictures.shape), align_corners=False)
    sampled = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.permute(0, 2, 3, 1).numpy()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [(9, 7), (7, 9), (8, 8), (1, 5)])
def test_affine_equals_torch(size):
    rng = np.random.default_rng(1)
    image = random_images(8, *size, channels=3)
    angle = rng.uniform(-math.pi, math.pi, 8)
    scale, shift = rng.uniform(0.3, 2, 8), rng.uniform(-12, 12, (8, 2))
    shift[:4] /= 6  # four stay in the picture, four leave it in part or altogether
    got = AFFINE(image, *map(jnp.asarray, (angle, scale, shift)))
    np.testing.assert_allclose(got, torch_affine(image, angle, scale, shift), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_rotation_by_right_angles_is_exact():
    image = random_images(4, 7, 7)
    angle = jnp.asarray(np.arange(4) * (math.pi / 2))
    got = AFFINE(image, angle, jnp.ones(4), jnp.zeros((4, 2)))
    expected = [np.rot90(image[i], i) for i in range(4)]  # counter-clockwise
    np.testing.assert_allclose(got, expected, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_affine_shifts_down_and_right_and_magnifies():
    image, one = columns(0.0, 0.0, 4.0, 0.0, 0.0), jnp.ones(1)
    moved = AFFINE(image, 0 * one, one, jnp.array([[0.0, 1.5]]))
    np.testing.assert_allclose(moved, columns(0.0, 0.0, 0.0, 2.0, 2.0), atol=1e-15)
    larger = AFFINE(image, 0 * one, 2 * one, jnp.zeros((1, 2)))
    np.testing.assert_allclose(larger, columns(0.0, 2.0, 4.0, 2.0, 0.0), atol=1e-15)
    down = AFFINE(image.reshape(1, 5, 1, 1), 0 * one, one, jnp.array([[2.0, 0.0]]))
    np.testing.assert_allclose(down.ravel(), [0, 0, 0, 0, 4], atol=1e-15)
