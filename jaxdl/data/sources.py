"""The data sets by name: MNIST, Fashion-MNIST, the embedded digits, a .npz file, a folder of images."""

import dataclasses
import difflib
import gzip
import hashlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data import mnist, npz, paths

# "image": uint8 (N, H, W, C), an array or what reads like one; "label": int32 (N,).
Split = Mapping[str, Any]

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# The first name of each is Keras's.
NPZ_KEYS = (mnist.KEYS, ("train_image", "train_label", "test_image", "test_label"))
MAX_CLASSES = 1 << 16
CHUNK = 1 << 18  # bytes; NumPy counts in eight times the memory, which should stay in the cache


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set: two splits and what they mean.

    Attributes:
      name: one of `NAMES`.
      train, test: ``"image"`` uint8 (N, H, W, C) and ``"label"`` int32 (N,).
      classes: the name of each label.
      origin: one line on where the bytes came from, for the log.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    origin: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self.train["image"].shape[1:]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def fingerprint(self) -> str:
        """The SHA-256 of both splits in hex: a resumed run can tell whether it trains on the same data.

        Images that are decoded lazily count by the names and lengths of their files.
        """
        digest = hashlib.sha256()
        for array in (split[key] for split in (self.train, self.test) for key in ("image", "label")):
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(array.data if isinstance(array, np.ndarray) else array.manifest())
        return digest.hexdigest()

    def channel_stats(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The mean and the (biased) standard deviation of each channel of the training images, in [0, 1]."""
        counts = _value_counts(self.train["image"])
        values = np.arange(256) / 255
        mean = counts @ values / counts.sum(1)
        variance = (counts * np.square(values - mean[:, None])).sum(1) / counts.sum(1)
        return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def load(name: str, data_dir: Path | None = None) -> Source:
    """A data set by name, every file of it checked.

    Args:
      name: one of `NAMES`.
      data_dir: ``mnist`` and ``fashion_mnist``: a folder with the four original files or a tensorflow-datasets
        folder, or None to use the cache or the network. ``npz``: the file, or a folder with one.
        ``folder``: the folder above ``train`` and ``test``. ``digits``: None.

    Raises:
      FileNotFoundError: the data are not there, or cannot be read or downloaded.
      ValueError: an unknown name, or data that are damaged or do not fit together.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f", did you mean {near[0]}" if near else ""
        raise ValueError(f"unknown data set {name!r}{hint}? There are: {', '.join(NAMES)}")
    return _LOADERS[name](name, data_dir)


def chosen(name: str | None, data_dir: Path | None) -> tuple[Source, str | None]:
    """A data set by name, or the default one, and a line for the user where there is something to say."""
    return load_default(data_dir) if name is None else (load(name, data_dir), None)


def load_default(data_dir: Path | None) -> tuple[Source, str | None]:
    """MNIST if it can be had, otherwise the embedded digits and a line that says so.

    A ``data_dir`` that does not hold MNIST is an error, as in `load`.
    """
    if data_dir is not None:
        return load("mnist", data_dir), None
    try:
        return load("mnist"), None
    except FileNotFoundError as error:
        notice = (
            f"Training on the 8x8 digits embedded in scikit-learn, because MNIST is not here ({error}). "
            "To train on MNIST, connect to the network or pass --data-dir with its four original files."
        )
        return load("digits"), notice


def _mnist(name: str, data_dir: Path | None) -> Source:
    arrays, origin = mnist.read(name, data_dir)
    return _source(name, arrays, mnist.KEYS, FASHION if name == "fashion_mnist" else DIGITS, origin)


def _digits(name: str, data_dir: Path | None) -> Source:
    """The 1797 digits of scikit-learn: the last 360 test, as their writers are others than those before."""
    if data_dir is not None:
        raise ValueError(f"the data set digits is embedded and takes no folder, got {data_dir}")
    # Importing sklearn.datasets takes seconds; its file is all that is needed.
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the digits are a part of scikit-learn, which is not installed")
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(io.BytesIO(gzip.decompress(paths.read(path, mnist.LIMIT))), delimiter=",")
    images = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    labels = table[:, -1].astype(np.int32)
    arrays = dict(zip(mnist.KEYS, (images[:-360], labels[:-360], images[-360:], labels[-360:]), strict=True))
    return _source(name, arrays, mnist.KEYS, DIGITS, "embedded in scikit-learn")


def _npz(name: str, data_dir: Path | None) -> Source:
    path = _npz_path(data_dir)
    arrays = npz.read(path)
    keys = next((keys for keys in NPZ_KEYS if set(keys) <= set(arrays)), None)
    if keys is None:
        raise ValueError(
            f"{path}: expected {' or '.join(', '.join(k) for k in NPZ_KEYS)}; got {', '.join(arrays)}"
        )
    labels = arrays[keys[1]]
    top = int(labels.max()) if labels.size and labels.dtype.kind in "iu" else 0
    if top >= MAX_CLASSES:
        raise ValueError(f"{path}: label {top} in {keys[1]}; expected classes 0, 1, 2, ... below {MAX_CLASSES}")
    return _source(name, arrays, keys, tuple(map(str, range(top + 1))), str(path))


def _npz_path(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise ValueError("the data set npz needs --data-dir: the .npz file, or a folder that holds one")
    if not data_dir.is_dir():
        return data_dir
    found = sorted(data_dir.glob("*.npz"))
    if len(found) != 1:
        there = paths.listing(data_dir)
        raise FileNotFoundError(f"{data_dir}: expected exactly one .npz file, got {len(found)}; there is: {there}")
    return found[0]


def _folder(name: str, data_dir: Path | None) -> Source:
    if data_dir is None:
        raise ValueError("the data set folder needs --data-dir: the folder above train/<class> and test/<class>")
    from jaxdl.data import folder

    train, test, classes = folder.read(data_dir)
    return Source(name, train, test, classes, f"the images under {data_dir}")


def _source(name: str, arrays: Mapping, keys: Sequence[str], classes: tuple[str, ...], origin: str) -> Source:
    """The checked source of four arrays."""
    train = _split(arrays[keys[0]], arrays[keys[1]], len(classes), f"{origin}: {keys[0]}, {keys[1]}")
    test = _split(arrays[keys[2]], arrays[keys[3]], len(classes), f"{origin}: {keys[2]}, {keys[3]}")
    shapes = [split["image"].shape[1:] for split in (train, test)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{origin}: training images are {shapes[0]}, test images {shapes[1]}; expected one shape")
    return Source(name, train, test, classes, origin)


def _split(images: np.ndarray, labels: np.ndarray, classes: int, where: str) -> Split:
    if images.ndim not in (3, 4) or images.dtype != np.uint8:
        raise ValueError(f"{where}: expected uint8 images (N, H, W) or (N, H, W, C), got {_kind(images)}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{where}: expected integer labels (N,), got {_kind(labels)}")
    if len(images) != len(labels) or images.size == 0:
        raise ValueError(
            f"{where}: expected as many images as labels, and some; got {_kind(images)}, {_kind(labels)}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{where}: labels {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    image = np.ascontiguousarray(images.reshape(*images.shape[:3], -1))
    label = labels.astype(np.int32)
    for array in (image, label):
        array.flags.writeable = False
    return {"image": image, "label": label}


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def _value_counts(images: Any) -> np.ndarray:
    """(C, 256): how often each channel has each value."""
    _, height, width, channels = images.shape
    counts = np.zeros((channels, 256), np.int64)
    step = max(1, CHUNK // (height * width * channels))
    for start in range(0, len(images), step):
        pixels = images[start : start + step].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    return counts


_LOADERS = {"mnist": _mnist, "fashion_mnist": _mnist, "digits": _digits, "npz": _npz, "folder": _folder}
NAMES = tuple(_LOADERS)
