"""Images moved: windows of them, and images that are turned, magnified and shifted. Nothing here is random."""

import jax.numpy as jnp

from jaxdl.typing import Array


def crop(image: Array, corner: Array, size: tuple[int, int]) -> Array:
    """A window of each image, without resampling.

    Args:
      image: (B, H, W, C).
      corner: (B, 2) int32, the window's first row and column; the window has to lie inside the image.
      size: rows and columns of the window.
    """
    # Two gathers of whole lines: on a CPU the fastest of seven formulations, and exact.
    for axis, length in enumerate(size, 1):
        lines = corner[:, axis - 1, None] + jnp.arange(length, dtype=corner.dtype)[None]
        lines = jnp.expand_dims(lines, (2, 3) if axis == 1 else (1, 3))
        image = jnp.take_along_axis(image, lines, axis, mode="promise_in_bounds")
    return image


def affine(image: Array, angle: Array, scale: Array, shift: Array) -> Array:
    """Rotated and magnified about the centre, then shifted; bilinear, with zeros outside.

    The same as torch's ``affine_grid`` and ``grid_sample`` with ``align_corners=False`` and zero padding, where
    the grid is meant in pixels: a rotation stays one when H != W.

    Args:
      image: (B, H, W, C), floating point.
      angle: (B,) radians, positive turns counter-clockwise.
      scale: (B,) magnification.
      shift: (B, 2) pixels down and to the right.
    """
    height, width = image.shape[1:3]
    y = _centred(height, image.dtype)[None, :, None] - shift[:, 0, None, None]
    x = _centred(width, image.dtype)[None, None, :] - shift[:, 1, None, None]
    cos, sin = ((f(angle) / scale)[:, None, None] for f in (jnp.cos, jnp.sin))
    return _bilinear(image, cos * y + sin * x + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2)


def _bilinear(image: Array, y: Array, x: Array) -> Array:
    """The image at fractional rows and columns, both (B, H, W), zero outside."""
    n, height, width, channels = image.shape
    pixels = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(n, -1, channels)
    row, down = _split(y, height)
    col, right = _split(x, width)
    first = (row * (width + 2) + col).reshape(n, -1, 1)

    def tap(step: int) -> Array:
        return jnp.take_along_axis(pixels, first + step, 1, mode="promise_in_bounds").reshape(image.shape)

    # Every tap is used once: used twice, XLA's CPU compiler gathers it twice.
    upper = (1 - right) * tap(0) + right * tap(1)
    lower = (1 - right) * tap(width + 2) + right * tap(width + 3)
    return (1 - down) * upper + down * lower


def _split(position: Array, size: int) -> tuple[Array, Array]:
    """The line before a position in an image with a border of one zero, and how far the position is past it."""
    position = jnp.clip(position + 1, 0, size + 1)
    line = jnp.minimum(jnp.floor(position), size)
    return line.astype(jnp.int32), (position - line)[..., None]


def _centred(size: int, dtype: jnp.dtype) -> Array:
    return jnp.arange(size, dtype=dtype) - (size - 1) / 2
