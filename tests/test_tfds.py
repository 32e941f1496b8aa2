"""Preparing and reading tensorflow-datasets folders where TensorFlow is not."""

import gzip
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxdl.data import idx, mnist, tfds

rng = np.random.default_rng(0)
ARRAYS = (
    rng.integers(0, 256, (30, 28, 28), np.uint8),
    rng.integers(0, 10, 30, np.uint8),
    rng.integers(0, 256, (8, 28, 28), np.uint8),
    rng.integers(0, 10, 8, np.uint8),
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for file, array in zip(tfds.FILES, ARRAYS, strict=True):
        (folder / file).write_bytes(gzip.compress(idx.encode(array)))
    return folder


@pytest.fixture(scope="module")
def prepared(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared by the real builder; only the download, and with it the published checksums, is left out."""
    import tensorflow_datasets

    def download(_: object, urls: list[str]) -> list[Path]:
        assert urls == [tfds.URLS["mnist"] + file for file in tfds.FILES]
        return [originals / file for file in tfds.FILES]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorflow_datasets.download.DownloadManager, "download", download)
        return tfds.prepare("mnist", tmp_path_factory.mktemp("tfds"), originals)


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "mnist" / "3.0.1"))


def check(arrays: dict[str, np.ndarray]) -> None:
    assert tuple(arrays) == mnist.KEYS
    for array, expected in zip(arrays.values(), ARRAYS, strict=True):
        np.testing.assert_array_equal(array.reshape(expected.shape), expected)
    assert arrays["x_train"].dtype == np.uint8
    assert arrays["y_train"].dtype == np.int32


def to_tfrecord(folder: Path) -> None:
    """What TensorFlow's writer would have made of the same records."""
    import tensorflow_datasets

    builder: Any = tensorflow_datasets.builder_from_directory(folder)
    for split, info in builder.info.splits.items():
        stored = builder.as_data_source(split).data_source
        records = [stored[index] for index in range(len(stored))]
        framed = (struct.pack("<QI", len(record), 0) + record + bytes(4) for record in records)
        path = folder / Path(info.filepaths[0]).name.replace("array_record", "tfrecord")
        path.write_bytes(b"".join(framed))
    info_file = folder / "dataset_info.json"
    info_file.write_text(info_file.read_text().replace("array_record", "tfrecord"))
    for path in folder.glob("*.array_record*"):
        path.unlink()


def refused(folder: Path, message: str, name: str = "mnist") -> None:
    start = f"^{re.escape(str(folder))}: cannot read this tensorflow-datasets folder: "
    with pytest.raises(ValueError, match=start + message) as caught:
        tfds.read(folder, name)
    assert "\n" not in str(caught.value)


def test_a_prepared_folder_has_the_examples_in_their_order(prepared: Path):
    check(tfds.read(prepared, "mnist"))


def test_tfrecord_files_are_read_without_tensorflow(copy: Path):
    to_tfrecord(copy)
    check(tfds.read(copy, "mnist"))
    info = copy / "dataset_info.json"
    text = info.read_text()
    info.write_text(text.replace('"8"', '"9"'))
    refused(copy, "expected 9 examples, got 8")
    info.write_text(text)
    path = next(copy.glob("*train.tfrecord*"))
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    refused(copy, "mnist-train.tfrecord.* is truncated")
    path.write_bytes(data + b"1234")
    refused(copy, "mnist-train.tfrecord.* is truncated")


def test_the_official_builder_stays_registered(prepared: Path):
    import tensorflow_datasets

    assert prepared.is_dir()
    assert tensorflow_datasets.builder_cls("mnist").__module__ == "tensorflow_datasets.image_classification.mnist"


def test_find_looks_where_a_user_may_point(copy: Path):
    for folder in (copy, copy.parent, copy.parent.parent):
        assert tfds.find(folder, "mnist") == copy
    assert tfds.find(copy.parent.parent, "fashion_mnist") is None
    newer = copy.parent / "3.1.0"
    copy.rename(newer)
    (copy.parent / "3.0.2").mkdir()
    assert tfds.find(newer.parent, "mnist") == newer


def test_standard_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "/data/tfds")
    assert tfds.standard_folder() == Path("/data/tfds")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", "/home/someone")
    assert tfds.standard_folder() == Path("/home/someone/tensorflow_datasets")


def test_another_data_set(prepared: Path):
    refused(prepared, "it holds mnist, not fashion_mnist", "fashion_mnist")


def test_damaged_folders(copy: Path):
    info = copy / "dataset_info.json"
    text = info.read_text()
    info.write_text(text.replace('"8"', '"9"'))
    refused(copy, "index 8 out of bound 8")
    info.write_text(text[:-20])
    refused(copy, "Failed to load")
    info.write_text(text)
    path = next(copy.glob("*train.array_record*"))
    data = path.read_bytes()
    start = data.index(b"\x89PNG")
    path.write_bytes(data[:start] + bytes([data[start] ^ 255]) + data[start + 1 :])
    refused(copy, ".*hash mismatch")
    path.write_bytes(data[:1000])
    refused(copy, ".*64KB")
    path.unlink()
    refused(copy, ".*No such file")


def test_files_that_are_not_the_published_ones_are_not_prepared(originals: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"mnist cannot be prepared: .*wrong checksum"):
        tfds.prepare("mnist", tmp_path, originals)


def test_no_network_fails_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    over = threading.Event()

    def hang(*_: object, **__: object) -> None:
        over.wait(60)
        raise OSError("the thread that asks outlives the question, and must end with the test")

    monkeypatch.setattr(tfds, "PATIENCE", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte.gz cannot be reached: no answer"):
        tfds.prepare("mnist", tmp_path)
    over.set()


def test_a_refused_connection_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setitem(tfds.URLS, "mnist", f"http://127.0.0.1:{port}/")
        with pytest.raises(FileNotFoundError, match=r"cannot be reached: .*refused"):
            tfds.prepare("mnist", tmp_path)


def test_heavy_packages_are_imported_only_when_needed():
    heavy = "tensorflow_datasets sklearn PIL jax"
    program = f"import sys, jaxdl.data.sources; print([m for m in '{heavy}'.split() if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_real_mnist_through_the_real_builder(mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A thousandth of it: the checksums of the whole files are verified, then every 1000th example is kept."""
    decode = idx.decode
    monkeypatch.setattr(idx, "decode", lambda data, name: decode(data, name)[::1000])
    arrays = tfds.read(tfds.prepare("mnist", tmp_path, mnist_dir), "mnist")
    for array, file in zip(arrays.values(), tfds.FILES, strict=True):
        expected = decode((mnist_dir / file).read_bytes(), file)[::1000]
        np.testing.assert_array_equal(array.reshape(expected.shape), expected)
