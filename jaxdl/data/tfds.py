"""MNIST-like sets through tensorflow-datasets, without TensorFlow: prepare, find and read its folders."""

import itertools
import os
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data import idx

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
URLS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
PATIENCE = 3.0  # seconds


def find(folder: Path, name: str) -> Path | None:
    """The prepared data set in ``folder``: the folder itself, or a version under it, the newest first."""
    found = [
        folder,
        *sorted(folder.glob("[0-9]*"), reverse=True),
        *sorted(folder.glob(f"{name}/[0-9]*"), reverse=True),
    ]
    return next((path for path in found if (path / "dataset_info.json").is_file()), None)


def standard_folder() -> Path:
    """Where tensorflow-datasets itself keeps what it prepares."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def read(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of a prepared data set.

    Args:
      folder: what `find` returned; array_record and tfrecord files are understood.
      name: the data set that must be in it.

    Returns:
      ``x_train, y_train, x_test, y_test``: uint8 (N, H, W, C) and int32 (N,), in the order of the folder.

    Raises:
      ValueError: another data set, damaged, or a number of examples that differs from the one stated.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        if builder.name != name:
            raise ValueError(f"it holds {builder.name}, not {name}")
        counts = {split: builder.info.splits[split].num_examples for split in ("train", "test")}
        train, test = (_arrays(list(_examples(builder, split)), count) for split, count in counts.items())
    except Exception as error:  # the formats and decoders below raise whatever they please on damaged files
        raise ValueError(f"{folder}: cannot read this tensorflow-datasets folder: {_line(error)}") from error
    return {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}


def prepare(name: str, folder: Path, files: Path | None = None) -> Path:
    """Let tensorflow-datasets build a data set as array_record files, its published checksums verified.

    Args:
      name: ``"mnist"`` or ``"fashion_mnist"``.
      folder: where the data set goes, as ``folder/name/version``.
      files: a folder with the four original .gz files; without it they are downloaded.

    Returns:
      The prepared folder; its examples are in the order of the original files.

    Raises:
      FileNotFoundError: the set cannot be had; where there is no network this takes seconds, not minutes.
    """
    if files is None:
        _check_reachable(URLS[name] + FILES[-1])
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    official = _official(name)
    with registered.skip_registration():  # the official builder has taken the name
        builder_class = _without_tensorflow(official)
    builder = builder_class(data_dir=folder, file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=files)
    try:
        builder.download_and_prepare(download_dir=folder / "downloads", download_config=config)
    except Exception as error:  # the downloader has exceptions of its own, without a common base
        raise FileNotFoundError(f"{name} cannot be prepared: {_line(error)}") from error
    return Path(builder.data_dir)


def _check_reachable(url: str) -> None:
    """Fail within seconds: tensorflow-datasets itself would retry for minutes, and a name look-up has no limit."""
    failures: list[str] = ["no answer"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE).close()
            failures.clear()
        except (OSError, ValueError) as error:
            failures[0] = _line(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if failures:
        raise FileNotFoundError(f"{url} cannot be reached: {failures[0]}")


def _official(name: str) -> Any:
    from tensorflow_datasets.image_classification import mnist

    return {"mnist": mnist.MNIST, "fashion_mnist": mnist.FashionMNIST}[name]


def _without_tensorflow(official: Any) -> Any:
    """The official builder, except that gzip and Pillow do what it needs TensorFlow for."""
    import tensorflow_datasets as tfds
    from PIL import Image

    class Builder(official):
        name = official.name  # the folder is called as the official one

        def _info(self) -> Any:
            features = super()._info().features
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
            paths = dl_manager.download([URLS[self.name] + file for file in FILES])
            return {"train": self._generate_examples(*paths[:2]), "test": self._generate_examples(*paths[2:])}

        def _generate_examples(self, images: Path, labels: Path) -> Iterator[tuple[int, dict[str, Any]]]:
            arrays = (idx.decode(path.read_bytes(), str(path)) for path in (images, labels))
            for index, (image, label) in enumerate(zip(*arrays, strict=True)):
                yield index, {"image": Image.fromarray(image), "label": int(label)}

    return Builder


def _examples(builder: Any, split: str) -> Iterable[Mapping[str, Any]]:
    info = builder.info
    if info.file_format.value != "tfrecord":
        return builder.as_data_source(split)
    # tensorflow-datasets leaves this format to TensorFlow, but can parse the records themselves.
    records = itertools.chain.from_iterable(map(_records, info.splits[split].filepaths))
    return map(info.features.deserialize_example_np, records)


def _records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: each is length (8 bytes), its checksum (4), data, its checksum (4)."""
    data = path.read_bytes()
    start = 0
    while start < len(data):
        length = int.from_bytes(data[start : start + 8], "little")
        start, end = start + 12, start + 12 + length
        if end + 4 > len(data):
            raise ValueError(f"{path.name} is truncated")
        yield data[start:end]
        start = end + 4


def _arrays(examples: Sequence[Mapping[str, Any]], count: int) -> tuple[np.ndarray, np.ndarray]:
    if len(examples) != count:
        raise ValueError(f"expected {count} examples, got {len(examples)}")
    images = np.stack([example["image"] for example in examples])
    return images, np.array([example["label"] for example in examples], np.int32)


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
