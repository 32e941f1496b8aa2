"""MNIST and Fashion-MNIST: from their original files, a tensorflow-datasets folder, the cache, or the network."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxdl import files
from jaxdl.data import idx, npz, paths, tfds

KEYS = ("x_train", "y_train", "x_test", "y_test")
TORCHVISION = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}
LIMIT = 1 << 26  # bytes; the longest of the files has 47 million

# sha256 of each original file, in the order of tfds.FILES: as published, and unpacked where that is known.
PUBLISHED = {
    "mnist": (
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion_mnist": (
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",),
    ),
}


def read(name: str, data_dir: Path | None) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of MNIST or Fashion-MNIST, and a line on where they came from.

    Args:
      name: ``"mnist"`` or ``"fashion_mnist"``.
      data_dir: a folder with the four original files, gzipped or not (or the folder above torchvision's), or a
        folder prepared by tensorflow-datasets. None: the cache, the folder of tensorflow-datasets, the network.

    Returns:
      ``x_train, y_train, x_test, y_test``.

    Raises:
      FileNotFoundError: the data are not there, or cannot be read or downloaded.
      ValueError: a file is damaged, or is not the published one.
    """
    if data_dir is None:
        return _at_hand(name)
    root = paths.folder(data_dir)
    for folder in (root, root / TORCHVISION[name]):
        if any(_original(folder, file) for file in tfds.FILES):
            return _read_originals(name, folder), f"the original files in {folder}"
    if prepared := tfds.find(root, name):
        return _read_prepared(name, prepared)
    raise FileNotFoundError(
        f"{root}: holds neither the original files of {name} ({tfds.FILES[0]}, ...) nor a tensorflow-datasets "
        f"folder; there is: {paths.listing(root)}"
    )


def _at_hand(name: str) -> tuple[dict[str, np.ndarray], str]:
    kept = _kept_path(name)
    prepared = tfds.find(tfds.standard_folder(), name)
    if prepared and not kept.exists():
        return _read_prepared(name, prepared)
    return _kept(kept, lambda: _download(name)), f"the published files, kept decoded in {kept}"


def _download(name: str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        return tfds.read(tfds.prepare(name, Path(folder)), name)


def _read_prepared(name: str, folder: Path) -> tuple[dict[str, np.ndarray], str]:
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir())
    state = _sha256(repr((str(folder.resolve()), files)).encode())
    kept = _kept_path(f"{name}-{state[:16]}")
    return _kept(kept, lambda: tfds.read(folder, name)), f"the tensorflow-datasets folder {folder}"


def _kept_path(stem: str) -> Path:
    return files.cache() / f"{stem}.npz"


def _kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What was decoded before, which reads five times faster; a damaged copy is made again."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return npz.read(path)
    arrays = make()
    with contextlib.suppress(OSError):  # without a place to keep them the arrays are as good
        files.make_cache()
        npz.write(path, arrays)
    return arrays


def _original(folder: Path, file: str) -> Path | None:
    """Gzipped first: those have a published checksum for both data sets."""
    found = (folder / file, folder / file.removesuffix(".gz"))
    return next((path for path in found if path.exists()), None)


def _read_originals(name: str, folder: Path) -> dict[str, np.ndarray]:
    found = [_original(folder, file) for file in tfds.FILES]
    files = [path for path in found if path is not None]
    if len(files) < len(found):
        missing = ", ".join(file for file, path in zip(tfds.FILES, found, strict=True) if path is None)
        raise FileNotFoundError(
            f"{folder}: missing {missing} (with or without .gz); there is: {paths.listing(folder)}"
        )
    contents = [paths.read(path, LIMIT) for path in files]

    def decode() -> dict[str, np.ndarray]:
        with ThreadPoolExecutor() as pool:
            arrays = pool.map(_checked, [name] * 4, files, contents, PUBLISHED[name])
        return dict(zip(KEYS, arrays, strict=True))

    as_published = all(_sha256(data) == known[0] for data, known in zip(contents, PUBLISHED[name], strict=True))
    return _kept(_kept_path(name), decode) if as_published else decode()


def _checked(name: str, path: Path, data: bytes, published: tuple[str, ...]) -> np.ndarray:
    fresh = f"get a fresh copy from {tfds.URLS[name]}"
    try:
        array = idx.decode(data, str(path))
    except ValueError as error:
        raise ValueError(f"{error}; {fresh}") from None
    unpacked_unknown = len(published) == 1 and not data.startswith(idx.GZIP)
    # Packed anew, or not packed, the content is still the published one.
    if not (unpacked_unknown or _sha256(data) in published or _sha256(idx.encode(array)) in published):
        raise ValueError(f"{path}: not the published file of {name} (sha256 {_sha256(data)[:16]}...); {fresh}")
    return array


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
