"""Images of another size or number of channels brought to the shape that a model takes, on the device."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.transforms import Transform
from jaxdl.typing import Array, Batch

WAYS = ("resize", "center")
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's convert("L")


def fit(shape: tuple[int, int, int], way: str, margin: int = 0) -> Transform:
    """A transform of floating-point images (B, H, W, C) to (B, ``*shape``); images of that shape are left alone.

    Args:
      shape: (H, W, C), C is 1 or 3 where the images have another.
      way: ``resize`` scales them (bilinear, antialiased, as torchvision's ``Resize``); ``center`` cuts off or adds
        black on all sides (as ``CenterCrop``).
      margin: black pixels to leave on each side of a scaled image: MNIST's digits have 4.

    Raises:
      ValueError: an unknown way, a margin that leaves nothing, channels that cannot be converted.
    """
    height, width, channels = shape
    if way not in WAYS:
        raise ValueError(f"expected {' or '.join(WAYS)}, got {way!r}")
    if not 0 <= 2 * margin < min(height, width) or (margin and way != "resize"):
        raise ValueError(f"--margin {margin} does not go with {way} to {height}x{width}")

    def apply(_: Array, batch: Batch) -> Batch:
        image = convert(batch["image"], channels)
        if image.shape[1:3] != (height, width) and way == "resize":
            inner = (len(image), height - 2 * margin, width - 2 * margin, channels)
            image = jax.image.resize(image, inner, "linear", antialias=True)
        return {**batch, "image": center(image, height, width)}

    return apply


def convert(image: Array, channels: int) -> Array:
    """Gray to colour by repeating, colour to gray by luma: (B, H, W, C) -> (B, H, W, ``channels``)."""
    if image.shape[-1] == channels:
        return image
    if image.shape[-1] == 1:
        return jnp.repeat(image, channels, axis=-1)
    if (image.shape[-1], channels) != (3, 1):
        raise ValueError(f"images of {image.shape[-1]} channels cannot be made ones of {channels}")
    return (image * jnp.asarray(LUMA, image.dtype).reshape(1, 1, 1, 3)).sum(-1, keepdims=True)


def center(image: Array, height: int, width: int) -> Array:
    """The middle of the images, black where they do not reach; an odd pixel goes as torchvision's."""
    for axis, length in ((1, height), (2, width)):
        more = length - image.shape[axis]
        before = more // 2 if more > 0 else 0
        image = jnp.pad(image, [(before, max(more, 0) - before) if a == axis else (0, 0) for a in range(4)])
        first = int(np.round((image.shape[axis] - length) / 2))
        image = jax.lax.slice_in_dim(image, first, first + length, axis=axis)
    return image
