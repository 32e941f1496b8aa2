"""A folder of images by class, as torchvision's ImageFolder: decoded when they are asked for."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxdl.data import paths

# torchvision.datasets.folder.IMG_EXTENSIONS
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
TEST_NAMES = ("test", "val")
MAX_PIXELS = 1 << 26
GRAY, COLOR = ("1", "L"), ("P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


class Images:
    """Image files that read as one uint8 array (N, H, W, C); C is 1 for gray images and 3 for others."""

    def __init__(self, files: Sequence[Path], shape: tuple[int, int, int]):
        self.files = tuple(files)
        self.shape = (len(files), *shape)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 4
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Any) -> np.ndarray:
        """As NumPy indexes the first axis: an integer, a slice, or integers (n,) that give (n, H, W, C)."""
        indices = np.arange(len(self))[key]
        chosen = [self.files[index] for index in indices.ravel()]
        images = list(self._pool.map(lambda file: _decode(file, self.shape[1:]), chosen))
        return np.array(images, np.uint8).reshape(*indices.shape, *self.shape[1:])

    def subset(self, rows: np.ndarray) -> "Images":
        """The images of these rows (n,), still undecoded."""
        return Images([self.files[row] for row in rows], self.shape[1:])

    def manifest(self) -> bytes:
        """The class, name and length of every file, which stand for the content in a fingerprint."""
        lines = (f"{file.parent.name}/{file.name} {file.stat().st_size}\n" for file in self.files)
        return "".join(lines).encode()


def read(root: Path) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """The splits and classes of ``root/train/<class>/*.png`` and ``root/test/<class>/...`` (or ``val``).

    Returns:
      ``train`` and ``test``, each with ``image`` (decoded lazily) and ``label`` int32 (N,), and the class names in
      sorted order. Transparency is dropped.

    Raises:
      FileNotFoundError: a split is missing.
      ValueError: a class without images, an unknown class, an image that is damaged or differs in size.
    """
    paths.folder(root)
    train, test = _split(root, ("train",)), _split(root, TEST_NAMES)
    classes = tuple(sorted(entry.name for entry in train.iterdir() if _visible_folder(entry)))
    if not classes:
        raise ValueError(f"{train}: expected a folder of images for each class; there is: {paths.listing(train)}")
    if unknown := sorted({entry.name for entry in test.iterdir() if _visible_folder(entry)} - set(classes)):
        raise ValueError(f"{test}: class {unknown[0]!r} is not among those of {train}: {', '.join(classes)}")
    train_files, test_files = ([_files(split / name) for name in classes] for split in (train, test))
    if empty := [name for name, files in zip(classes, train_files, strict=True) if not files]:
        raise ValueError(f"{train / empty[0]}: no images ({' '.join(sorted(SUFFIXES))}) in this class")
    if not any(test_files):
        raise ValueError(f"{test}: no images ({' '.join(sorted(SUFFIXES))}) in any class")
    shape = _shape([file for files in train_files + test_files for file in files])
    return _arrays(train_files, shape), _arrays(test_files, shape), classes


def read_image(path: Path, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """One image file as uint8 (H, W, ``channels``), gray for 1 and colour for 3.

    Args:
      size: (H, W) to scale it to; None leaves it as it is.

    Raises:
      FileNotFoundError: there is no such file, or it cannot be read.
      ValueError: it is no image, damaged, or refused for its size.
    """
    _header(path)
    with _opened(path) as image:
        image = image.convert("L" if channels == 1 else "RGB")
        if size is not None:
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(image.height, image.width, channels)


def _split(root: Path, names: Sequence[str]) -> Path:
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"{root}: expected a folder {' or '.join(names)}; there is: {paths.listing(root)}")
    return found


def _visible_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _files(folder: Path) -> list[Path]:
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(file for file in entries if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))


def _arrays(groups: Sequence[Sequence[Path]], shape: tuple[int, int, int]) -> dict[str, Any]:
    label = np.repeat(np.arange(len(groups), dtype=np.int32), [len(group) for group in groups])
    return {"image": Images([file for group in groups for file in group], shape), "label": label}


def _shape(files: Sequence[Path]) -> tuple[int, int, int]:
    """The one shape (H, W, C) of all images, read from their headers only."""
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_header, files))
    size = headers[0][0]
    for file, (other, _) in zip(files, headers, strict=True):
        if other != size:
            raise ValueError(
                f"{file}: {_times(other)} pixels, but {files[0]} has {_times(size)}; make them all alike"
            )
    return (size[1], size[0], 1 if all(mode in GRAY for _, mode in headers) else 3)


def _header(file: Path) -> tuple[tuple[int, int], str]:
    with _opened(file) as image:
        size, mode = image.size, image.mode
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{file}: states {_times(size)} pixels, more than {MAX_PIXELS}: refused")
    if mode not in GRAY + COLOR:
        raise ValueError(f"{file}: expected 8 bits per channel, got Pillow's mode {mode!r}; save it as 8-bit")
    return size, mode


def _decode(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    with _opened(file) as image:
        # The file may have changed since its header was read.
        if image.size != (shape[1], shape[0]):
            raise ValueError(f"now {_times(image.size)} pixels, was {shape[1]}x{shape[0]}")
        # Pillow warns where a palette's transparency is dropped, unless it goes through RGBA.
        plain = image.convert("RGBA") if image.mode == "P" else image
        return np.asarray(plain.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except (FileNotFoundError, PermissionError) as error:
        raise FileNotFoundError(f"{file}: cannot read it: {error.strerror}") from None
    except Exception as error:  # the decoders raise whatever they please on damaged files
        raise ValueError(f"{file}: not an image that can be read ({error})") from None


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
