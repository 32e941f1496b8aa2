"""Augmentation on the device: every transform is a pure ``(key, batch) -> batch`` for use inside the step.

``batch["image"]`` is (B, H, W, C); other entries pass through untouched (`mixup` also changes ``batch["label"]``).
Each example has its own randomness, and the same key gives the same result. Geometry fills with zeros, so it
belongs before `normalize`: ``compose(to_float, random_crop(2), normalize(mean, std))``.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxdl.data import warp
from jaxdl.scalar import known
from jaxdl.typing import Array, Batch, Scalar

Transform = Callable[[Array, Batch], Batch]


def compose(*transforms: Transform) -> Transform:
    """The transforms one after the other, each with a key of its own; without any, the identity."""

    def apply(key: Array, batch: Batch) -> Batch:
        for transform, own in zip(transforms, jax.random.split(key, len(transforms)), strict=True):
            batch = transform(own, batch)
        return batch

    return apply


def to_float(_: Array, batch: Batch) -> Batch:
    """uint8 images to float32 in [0, 1], the same bits as torchvision's ``ToTensor``.

    Raises:
      TypeError: the images are not uint8.
    """
    image = batch["image"]
    if image.dtype != jnp.uint8:
        raise TypeError(f"to_float expects uint8 images; got {image.dtype}")
    # XLA turns a division by 255 into a product, which misses torch's quotient in half of the cases. But
    # 1/255 = 257/65536 * (1 + 1/65535), and the first product is exact.
    most = image.astype(jnp.float32) * (257 / 65536)
    return {**batch, "image": most + most * (1 / 65535)}


def normalize(mean: ArrayLike, std: ArrayLike) -> Transform:
    """``(image - mean) / std``, with one number or one a channel; torchvision's ``Normalize``.

    Raises:
      ValueError: a deviation that is not positive, or numbers that do not fit the channels.
    """
    means, stds = np.ravel(mean), np.ravel(std)
    if not np.all(stds > 0):
        raise ValueError(f"normalize expects standard deviations above 0; got {stds.tolist()}")

    def apply(_: Array, batch: Batch) -> Batch:
        image = _images(batch)
        for values in (means, stds):
            if len(values) not in (1, image.shape[-1]):
                raise ValueError(f"normalize has {len(values)} values for images of {image.shape[-1]} channels")
        shift, scale = (jnp.asarray(values, image.dtype)[None, None, None] for values in (means, stds))
        return {**batch, "image": (image - shift) / scale}

    return apply


def random_crop(padding: int) -> Transform:
    """Zeros of ``padding`` pixels on every side, then a crop of the old size; torchvision's ``RandomCrop``.

    Raises:
      ValueError: the padding is not a whole number of at least 1.
    """
    if not (padding >= 1 and float(padding).is_integer()):
        raise ValueError(f"crop expects a padding of whole pixels, at least 1; got {padding}")
    padding = int(padding)

    def apply(key: Array, batch: Batch) -> Batch:
        image = _images(batch)
        corner = jax.random.randint(key, (len(image), 2), 0, 2 * padding + 1)
        padded = jnp.pad(image, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        return {**batch, "image": warp.crop(padded, corner, (image.shape[1], image.shape[2]))}

    return apply


def random_horizontal_flip(p: Scalar = 0.5) -> Transform:
    """Mirrors left and right with probability ``p``; torchvision's ``RandomHorizontalFlip``."""
    _check_probability("flip", p)

    def apply(key: Array, batch: Batch) -> Batch:
        image = _images(batch)
        chosen = jax.random.bernoulli(key, jnp.asarray(p, float), (len(image), 1, 1, 1))
        return {**batch, "image": jnp.where(chosen, image[:, :, ::-1], image)}

    return apply


def random_affine(degrees: Scalar, translate: Scalar = 0, scale: Scalar = 0) -> Transform:
    """Rotation, scaling and translation in one resampling; torchvision's ``RandomAffine`` and ``RandomRotation``.

    Bilinear where torchvision's default is the nearest pixel, which spoils thin strokes; translations are not
    rounded to whole pixels, for the same reason.

    Args:
      degrees: the angle is uniform in [-degrees, degrees].
      translate: the shift is uniform up to this part of the height and of the width.
      scale: the magnification is uniform in [1 - scale, 1 + scale].

    Raises:
      ValueError: a number out of its range.
    """
    if known(degrees) and not 0 <= degrees <= 180:
        raise ValueError(f"rotation expects degrees between 0 and 180; got {degrees}")
    if known(translate) and not 0 <= translate <= 1:
        raise ValueError(f"affine expects a translation between 0 and 1, part of the image; got {translate}")
    if known(scale) and not 0 <= scale < 1:
        raise ValueError(f"affine expects a change of scale of at least 0 and below 1; got {scale}")

    def apply(key: Array, batch: Batch) -> Batch:
        image = _images(batch)
        sides = jnp.asarray(image.shape[1:3], image.dtype)
        draw = jax.random.uniform(key, (len(image), 4), image.dtype, -1, 1)
        angle, zoom = draw[:, 0] * (degrees * (math.pi / 180)), 1 + draw[:, 1] * scale
        shift = draw[:, 2:] * translate * sides[None]
        return {**batch, "image": warp.affine(image, angle, zoom, shift)}

    return apply


def random_erasing(
    p: Scalar = 0.5, scale: tuple[float, float] = (0.02, 0.33), ratio: tuple[float, float] = (0.3, 3.3)
) -> Transform:
    """Sets a random rectangle to zero; torchvision's ``RandomErasing`` (Zhong et al., arXiv:1708.04896).

    Args:
      p: probability of erasing.
      scale: range of the rectangle's area as a part of the image's, uniform.
      ratio: range of its height / width, uniform in the logarithm.

    Raises:
      ValueError: a number out of its range.
    """
    _check_probability("erase", p)
    if not 0 <= scale[0] <= scale[1] <= 1:
        raise ValueError(f"erase expects a range of areas within 0 and 1; got {scale}")
    if not 0 < ratio[0] <= ratio[1] < math.inf:
        raise ValueError(f"erase expects a range of positive ratios; got {ratio}")

    def apply(key: Array, batch: Batch) -> Batch:
        image = _images(batch)
        shape_key, place_key = jax.random.split(key)
        height, width = _rectangles(shape_key, image, scale, ratio)
        chosen, top, left = jax.random.uniform(place_key, (3, len(image)))
        height = jnp.where(chosen < p, height, 0)
        rows, cols = _span(top, height, image.shape[1]), _span(left, width, image.shape[2])
        inside = rows[:, :, None, None] & cols[:, None, :, None]
        return {**batch, "image": jnp.where(inside, jnp.zeros_like(image), image)}

    return apply


def mixup(alpha: Scalar, num_classes: int) -> Transform:
    """Blends each example with its neighbour by a Beta(alpha, alpha) share (Zhang et al., arXiv:1710.09412).

    ``batch["label"]`` becomes the blend of one-hot labels, (B, num_classes) in the images' dtype.

    Raises:
      ValueError: alpha is not positive, or the labels are no class numbers (B,).
    """
    if known(alpha) and not 0 < alpha < math.inf:
        raise ValueError(f"mixup expects alpha above 0; got {alpha}")

    def apply(key: Array, batch: Batch) -> Batch:
        image, label = _images(batch), batch["label"]
        if label.ndim != 1 or not jnp.issubdtype(label.dtype, jnp.integer):
            raise ValueError(f"mixup expects integer labels of shape (B,); got {label.dtype}{label.shape}")
        share = jax.random.beta(key, alpha, alpha, (len(image), 1, 1, 1), image.dtype)
        target = jax.nn.one_hot(label, num_classes, dtype=image.dtype)
        return {**batch, "image": _blend(image, share), "label": _blend(target, share[:, :, 0, 0])}

    return apply


def _rectangles(
    key: Array, image: Array, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array]:
    """Height and width (B,) of the first of ten rectangles that fits, 0 where none does."""
    n, height, width, _ = image.shape
    draw = jax.random.uniform(key, (2, 10, n))
    area = height * width * (scale[0] + draw[0] * (scale[1] - scale[0]))
    aspect = ratio[0] * (ratio[1] / ratio[0]) ** draw[1]
    sides = jnp.round(jnp.stack([jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)])).astype(jnp.int32)
    fits = (sides[0] < height) & (sides[1] < width)
    first = jnp.argmax(fits, axis=0)[None, None]
    chosen = jnp.take_along_axis(jnp.where(fits[None], sides, 0), first, axis=1)
    return chosen[0, 0], chosen[1, 0]


def _span(draw: Array, length: Array, size: int) -> Array:
    """(B, size) bools: ``length`` places in a row, where the first one is chosen by ``draw`` in [0, 1)."""
    start = jnp.floor(draw * (size - length + 1).astype(draw.dtype)).astype(length.dtype)[:, None]
    place = jnp.arange(size, dtype=length.dtype)[None]
    return (place >= start) & (place < start + length[:, None])


def _blend(values: Array, share: Array) -> Array:
    return share * values + (1 - share) * jnp.roll(values, 1, axis=0)


def _images(batch: Batch) -> Array:
    image = batch["image"]
    if image.ndim != 4 or not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"expected floating-point images (B, H, W, C), as to_float makes them; got {image.dtype}{image.shape}"
        )
    return image


def _check_probability(name: str, p: Scalar) -> None:
    if known(p) and not 0 <= p <= 1:
        raise ValueError(f"{name} expects a probability between 0 and 1; got {p}")
