"""The augmentation that a command line asks for, such as ``"crop:2,rotate:10,erase"``."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from jaxdl.config import nearest
from jaxdl.data import transforms
from jaxdl.data.transforms import Transform
from jaxdl.typing import Scalar

Maker = tuple[tuple[float, ...], Callable[..., Transform]]  # default numbers, and what takes them
SHAPING = ("crop",)  # names whose numbers are sizes: a program is made for each


def parse(spec: str, num_classes: int, numbers: Sequence[Scalar] | None = None) -> Transform:
    """The composition of transforms that a text asks for.

    Names are joined by commas and applied in that order; numbers follow a name after colons and may be left out
    from the right. An empty text is the identity. The names with their defaults, and what they are in
    `jaxdl.data.transforms`::

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
    chosen, wrong, items = [], [], _items(spec)
    given = None if numbers is None else iter(numbers)
    for item in items:
        try:
            chosen.append(_make(item, num_classes, given))
        except ValueError as error:
            wrong.append(f"{item!r}: {error}")
    if sum(item.split(":")[0] == "mixup" for item in items) > 1:
        wrong.append("mixup can be given once only")
    if wrong:
        raise ValueError(f"--augment: {'; '.join(wrong)}")
    return transforms.compose(*chosen)


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
        "crop": ((2,), transforms.random_crop),
        "flip": ((0.5,), transforms.random_horizontal_flip),
        "rotate": ((10,), transforms.random_affine),
        "affine": ((10, 0.1, 0.1), transforms.random_affine),
        "erase": ((0.5,), transforms.random_erasing),
        "mixup": ((0.2,), lambda alpha: transforms.mixup(alpha, num_classes)),
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
