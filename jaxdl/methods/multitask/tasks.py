"""Tasks beside the class: further targets of the same images, made from their labels and pixels."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from jaxdl.config import nearest
from jaxdl.data.sources import Source, Split

LABEL = "label"  # the class, a task as the others are
CHUNK = 1000  # images that are turned into floats at once

Kind = Literal["classes", "binary", "number"]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a head learns to say.

    Attributes:
      name: of the task; its targets are the entry ``task_NAME`` of a batch, float32.
      kind: of its loss: cross-entropy, binary cross-entropy, squared error.
      mean, std: of the training targets of a number, which is learned in these units.
    """

    name: str
    kind: Kind
    mean: float = 0.0
    std: float = 1.0

    @property
    def entry(self) -> str:
        """The name of its targets in a batch."""
        return self.name if self.name == LABEL else f"task_{self.name}"


def parity(split: Split, _: int) -> np.ndarray:
    """1 where the label is odd."""
    return np.asarray(split["label"]) % 2


def large(split: Split, classes: int) -> np.ndarray:
    """1 where the label is in the upper half: of digits, 5 and more."""
    return 2 * np.asarray(split["label"]) >= classes


def ink(split: Split, _: int) -> np.ndarray:
    """The mean of the pixels, in [0, 1]."""
    return _each(split, lambda images: images.mean((1, 2)))


def slant(split: Split, _: int) -> np.ndarray:
    """The angle by which the strokes lean to the right, in degrees, from the second moments; 0 without any ink."""

    def angle(images: np.ndarray) -> np.ndarray:
        rows, columns = (np.arange(size, dtype=np.float64) for size in images.shape[1:])
        mass = np.maximum(images.sum((1, 2)), 1e-9)
        down, right = (images.sum(2) @ rows / mass)[:, None], (images.sum(1) @ columns / mass)[:, None]
        both = np.einsum("nij,ni,nj->n", images, rows - down, columns - right)
        return np.degrees(np.arctan2(-both, np.maximum(np.einsum("nij,ni->n", images, (rows - down) ** 2), 1e-9)))

    return _each(split, angle)


TARGETS: dict[str, tuple[Kind, Callable[[Split, int], np.ndarray]]] = {
    "parity": ("binary", parity),
    "large": ("binary", large),
    "ink": ("number", ink),
    "slant": ("number", slant),
}


def with_targets(source: Source, names: Sequence[str]) -> tuple[Source, list[Task]]:
    """The data set with the targets of these tasks in both splits, and the tasks.

    Raises:
      ValueError: a task that there is not, or twice the same; a number that is the same for all images.
    """
    known = [LABEL, *TARGETS]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown task {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"expected one task or more, each once; got {', '.join(names) or 'none'}")
    train, test, tasks = dict(source.train), dict(source.test), []
    for name in names:
        task = _task(name, source)
        tasks.append(task)
        if name != LABEL:
            for split in (train, test):
                values = TARGETS[name][1](split, source.num_classes)
                split[task.entry] = ((values - task.mean) / task.std).astype(np.float32)
    return dataclasses.replace(source, train=train, test=test), tasks


def _task(name: str, source: Source) -> Task:
    if name == LABEL:
        return Task(name, "classes")
    kind, target = TARGETS[name]
    if kind != "number":
        return Task(name, kind)
    values = target(source.train, source.num_classes)
    if not values.std() > 0:
        raise ValueError(f"the task {name} has nothing to learn: it is {values[0]:g} for every image")
    return Task(name, kind, float(values.mean()), float(values.std()))


def _each(split: Split, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``of`` grey images (N, H, W) in [0, 1], a part at a time."""
    images = split["image"]
    parts = [
        of(np.asarray(images[np.arange(start, min(start + CHUNK, len(images)))]).mean(-1) / 255)
        for start in range(0, len(images), CHUNK)
    ]
    return np.concatenate(parts)
