"""Augmentation on the device: every transform is a pure ``(key, batch) -> batch`` for use inside the step.

``batch["image"]`` is (B, H, W, C); other entries pass through untouched (`mixup` also changes ``batch["label"]``).
Each example has its own randomness, and the same key gives the same result. Geometry fills with zeros, so it
belongs before `normalize`: ``compose(to_float, parse("crop:2,rotate:10"), normalize(mean, std))``.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxdl.config import nearest
from jaxdl.scalar import known
from jaxdl.typing import Array, Batch, Scalar

Transform = Callable[[Array, Batch], Batch]
Maker = tuple[tuple[float, ...], Callable[..., Transform]]  # default numbers, and what takes them
SHAPING = ("crop",)  # names whose numbers are sizes: a program is made for each


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
        return {**batch, "image": crop(padded, corner, (image.shape[1], image.shape[2]))}

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
        return {**batch, "image": affine(image, angle, zoom, shift)}

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


def parse(spec: str, num_classes: int, numbers: Sequence[Scalar] | None = None) -> Transform:
    """The composition that a command line asks for, such as ``"crop:2,rotate:10,erase"``.

    Names are joined by commas and applied in that order; numbers follow a name after colons and may be left out
    from the right. An empty text is the identity. The names with their defaults::

        crop:2             pixels of padding                         `random_crop`
        flip:0.5           probability                               `random_horizontal_flip`
        rotate:10          degrees                                   `random_affine`
        affine:10:0.1:0.1  degrees, translation, change of scale     `random_affine`
        erase:0.5          probability                               `random_erasing`
        mixup:0.2          alpha                                     `mixup`

    Args:
      spec: the text.
      num_classes: of the data set, for mixup.
      numbers: in place of those that `strengths` finds in the text, as many.

    Raises:
      ValueError: unknown names, with the nearest known, and wrong numbers: all of them in one line.
    """
    transforms, wrong, items = [], [], _items(spec)
    given = None if numbers is None else iter(numbers)
    for item in items:
        try:
            transforms.append(_make(item, num_classes, given))
        except ValueError as error:
            wrong.append(f"{item!r}: {error}")
    if sum(item.split(":")[0] == "mixup" for item in items) > 1:
        wrong.append("mixup can be given once only")
    if wrong:
        raise ValueError(f"--augment: {'; '.join(wrong)}")
    return compose(*transforms)


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


def strengths(spec: str) -> tuple[str, tuple[float, ...]]:
    """What stays of an augmentation when its numbers are taken out, and these, as `parse` takes them.

    Two that leave the same text are one program. The padding of a crop is a size, not a strength, and stays.

    Raises:
      ValueError: as `parse`.
    """
    parse(spec, num_classes=1)
    frame, numbers = [], []
    for item in _items(spec):
        name, values = _read(item, _makers(1))
        frame.append(f"{name}:{values[0]:g}" if name in SHAPING else name)
        numbers += () if name in SHAPING else values
    return ",".join(frame), tuple(numbers)


def _items(spec: str) -> list[str]:
    return [item.strip() for item in spec.split(",")] if spec.strip() else []


def _makers(num_classes: int) -> Mapping[str, Maker]:
    return {
        "crop": ((2,), random_crop),
        "flip": ((0.5,), random_horizontal_flip),
        "rotate": ((10,), random_affine),
        "affine": ((10, 0.1, 0.1), random_affine),
        "erase": ((0.5,), random_erasing),
        "mixup": ((0.2,), lambda alpha: mixup(alpha, num_classes)),
    }


def _make(item: str, num_classes: int, given: Iterator[Scalar] | None) -> Transform:
    makers = _makers(num_classes)
    name, values = _read(item, makers)
    if given is not None and name not in SHAPING:
        values = tuple(itertools.islice(given, len(values)))
    return makers[name][1](*values)


def _read(item: str, makers: Mapping[str, Maker]) -> tuple[str, tuple[Scalar, ...]]:
    """The name, and its numbers with the defaults of those that are left out."""
    name, *texts = item.split(":")
    if name not in makers:
        raise ValueError(f"unknown name{nearest(name, makers)} (there are {' '.join(makers)})")
    defaults, _ = makers[name]
    if len(texts) > len(defaults):
        raise ValueError(f"at most {len(defaults)} numbers after {name}; got {len(texts)}")
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        raise ValueError(f"expected numbers after {name}; got {', '.join(texts)}") from None
    return name, numbers + defaults[len(numbers) :]
