"""What a data set is like, in numbers that say which model, loss and augmentation suit it.

Probes are quick classifiers of scikit-learn on at most `LIMIT` training images, of which a third tests them.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdl.data import subset
from jaxdl.data.sources import Source

LIMIT = 2400  # images for the probes
HASHED = 70_000  # images of a split that are compared byte for byte
SIDE = 32  # larger images are averaged down to about this, for the probes alone
NEAR = 0.1  # of the median distance between two images: nearer ones are near-duplicates


@dataclasses.dataclass(frozen=True)
class Survey:
    """Attributes:
    train, test: how many images.
    shape: (H, W, C).
    counts: training images of each class.
    mean, std: of the pixels, in [0, 1].
    duplicates: share of training images that are there before, byte for byte.
    leaked: share of test images that are among the training images.
    near_duplicates: share of the probes' images with another very near, see `NEAR`.
    conflicts: share of the near-duplicates' pairs with different labels.
    structure: correlation of neighbouring pixels, from -1 to 1.
    chance: accuracy of always saying the largest class, on the probes' test images.
    linear, curved: accuracy of logistic regression and of a support vector machine with a Gaussian kernel.
    half: accuracy of the latter from half of the images.
    mirrored, shifted: its accuracy on test images that are mirrored, and moved by ``shift`` pixels.
    shift: pixels.
    error: the standard error of an accuracy near ``curved``.
    """

    train: int
    test: int
    shape: tuple[int, int, int]
    counts: tuple[int, ...]
    mean: float
    std: float
    duplicates: float
    leaked: float
    near_duplicates: float
    conflicts: float
    structure: float
    chance: float
    linear: float
    curved: float
    half: float
    mirrored: float
    shifted: float
    shift: int
    error: float

    @property
    def imbalance(self) -> float:
        """Images of the largest class for one of the smallest."""
        return max(self.counts) / max(min(self.counts), 1)


def survey(source: Source, seed: int = 0) -> Survey:
    """Looks at a data set.

    Raises:
      ValueError: fewer than two classes have images, or there are too few images to tell anything.
    """
    labels = np.asarray(source.train["label"])
    counts = np.bincount(labels, minlength=source.num_classes)
    if (counts > 0).sum() < 2 or len(labels) < 30:
        raise ValueError(
            f"expected at least 30 training images of two classes to look at; {source.name} has {len(labels)} "
            f"of {(counts > 0).sum()}"
        )
    rows = _sample(labels, LIMIT, seed)
    chosen = subset.take(source.train, rows)
    image = np.asarray(chosen["image"][np.arange(len(rows))], np.float32) / 255
    duplicates, leaked = _copies(source)
    near, conflicts = _near(small(image), labels[rows])
    return Survey(
        train=len(labels),
        test=len(source.test["label"]),
        shape=source.image_shape,
        counts=tuple(counts.tolist()),
        mean=float(image.mean()),
        std=float(image.std()),
        duplicates=duplicates,
        leaked=leaked,
        near_duplicates=near,
        conflicts=conflicts,
        structure=structure(image),
        **_probe(image, labels[rows]),
    )


def small(image: np.ndarray) -> np.ndarray:
    """Averaged over blocks until no side is longer than twice `SIDE`: (N, H, W, C) -> (N, h, w, C)."""
    block = [max(side // SIDE, 1) for side in image.shape[1:3]]
    height, width = (side // b for side, b in zip(image.shape[1:3], block, strict=True))
    cut = image[:, : height * block[0], : width * block[1]]
    return cut.reshape(len(image), height, block[0], width, block[1], -1).mean((2, 4))


def structure(image: np.ndarray) -> float:
    """The correlation of pixels that are neighbours, after each place's mean is taken off.

    Near 1 in pictures; near 0 where the order of the pixels means nothing, as in features or shuffled pixels.
    """
    centred = image - image.mean(0)
    pairs = [(centred[:, :, :-1], centred[:, :, 1:]), (centred[:, :-1], centred[:, 1:])]
    sums = np.zeros(3)
    for left, right in pairs:
        sums += [(left * right).sum(), np.square(left).sum(), np.square(right).sum()]
    return float(sums[0] / math.sqrt(sums[1] * sums[2])) if sums[1] * sums[2] > 0 else 0.0


def _sample(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Rows, in each class in proportion, at least two of each class that has two."""
    draw = np.random.default_rng(seed)
    share = min(limit / len(labels), 1.0)
    parts = []
    for name in np.unique(labels):
        own = draw.permutation(np.flatnonzero(labels == name))
        parts.append(own[: max(round(share * len(own)), 2)])
    return draw.permutation(np.concatenate(parts))


def _copies(source: Source) -> tuple[float, float]:
    """Shares of training images that repeat an earlier one, and of test images that are training images."""

    def digests(images: Any) -> list[bytes]:
        rows = np.arange(min(len(images), HASHED))
        parts = np.array_split(rows, max(len(rows) // 1000, 1))
        return [
            hashlib.blake2b(image.tobytes(), digest_size=12).digest() for part in parts for image in images[part]
        ]

    train, test = digests(source.train["image"]), digests(source.test["image"])
    known = set(train)
    return 1 - len(known) / len(train), sum(digest in known for digest in test) / len(test)


def _near(image: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The share of images with a near-duplicate, and of these pairs the share whose labels differ."""
    flat = image.reshape(len(image), -1)
    squares = np.square(flat).sum(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0))
    typical = np.median(distance[np.triu_indices(len(flat), 1)])
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(1)
    near = distance[np.arange(len(flat)), nearest] < NEAR * typical
    differ = labels != labels[nearest]
    return float(near.mean()), float(differ[near].mean()) if near.any() else 0.0


def _probe(image: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What the probes say; see `Survey`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    image = small(image)
    cut = 2 * len(image) // 3
    shift = max(round(0.06 * image.shape[2]), 1)
    test = labels[cut:]

    def accuracy(model: Any, change: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> float:
        return float((model.predict(_flat(change(image[cut:]))) == test).mean())

    def fitted(model: Any, count: int) -> Any:
        return model.fit(_flat(image[:count]), labels[:count]) if len(set(labels[:count])) > 1 else None

    linear = fitted(make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200, tol=1e-2)), cut)
    curved, half = fitted(SVC(C=10), cut), fitted(SVC(C=10), cut // 2)
    values, counts = np.unique(labels[:cut], return_counts=True)
    best = accuracy(curved)
    return {
        "chance": float((test == values[counts.argmax()]).mean()),
        "linear": accuracy(linear),
        "curved": best,
        "half": accuracy(half) if half else 0.0,
        "mirrored": accuracy(curved, lambda x: x[:, :, ::-1]),
        "shifted": np.mean([accuracy(curved, lambda x, by=by: moved(x, by)) for by in (shift, -shift)]).item(),
        "shift": max(round(0.06 * image.shape[2]), 1),
        "error": math.sqrt(max(best * (1 - best), 0.01) / len(test)),
    }


def moved(image: np.ndarray, by: int) -> np.ndarray:
    """Shifted to the right and down, black behind."""
    pad = np.pad(image, ((0, 0), (abs(by), abs(by)), (abs(by), abs(by)), (0, 0)))
    first = abs(by) - by
    return pad[:, first : first + image.shape[1], first : first + image.shape[2]]


def _flat(image: np.ndarray) -> np.ndarray:
    return image.reshape(len(image), -1)
