"""MNIST and Fashion-MNIST from files, folders, the cache: small files stand in for the published ones."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from jaxdl import files
from jaxdl.data import idx, mnist, npz, tfds

rng = np.random.default_rng(0)
ARRAYS = (
    rng.integers(0, 256, (12, 4, 4), np.uint8),
    rng.integers(0, 10, 12, np.uint8),
    rng.integers(0, 256, (5, 4, 4), np.uint8),
    rng.integers(0, 10, 5, np.uint8),
)
CONTENTS = {file: idx.encode(array) for file, array in zip(tfds.FILES, ARRAYS, strict=True)}


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The small files are the published ones, and nothing outside the test's folder is read."""
    packed = [gzip.compress(content, mtime=0) for content in CONTENTS.values()]
    digests = [tuple(map(mnist._sha256, pair)) for pair in zip(packed, CONTENTS.values(), strict=True)]
    monkeypatch.setitem(mnist.PUBLISHED, "mnist", tuple(digests))
    monkeypatch.setitem(mnist.PUBLISHED, "fashion_mnist", tuple(pair[:1] for pair in digests))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return write(tmp_path / "packed", lambda content: gzip.compress(content, mtime=0), ".gz")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / "plain", bytes, "")


def write(folder: Path, pack, suffix: str) -> Path:
    folder.mkdir(parents=True)
    for file, content in CONTENTS.items():
        (folder / (file.removesuffix(".gz") + suffix)).write_bytes(pack(content))
    return folder


def check(arrays: dict[str, np.ndarray]) -> None:
    assert tuple(arrays) == mnist.KEYS
    for array, expected in zip(arrays.values(), ARRAYS, strict=True):
        np.testing.assert_array_equal(array.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_reads_the_original_files_packed_or_not(packed: Path, plain: Path, name: str):
    for folder in (packed, plain):
        arrays, origin = mnist.read(name, folder)
        check(arrays)
        assert origin == f"the original files in {folder}"


@pytest.mark.parametrize(("name", "inside"), [("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw")])
def test_reads_the_folder_torchvision_downloads_to(tmp_path: Path, name: str, inside: str):
    folder = write(tmp_path / "data" / inside, bytes, "")
    arrays, origin = mnist.read(name, tmp_path / "data")
    check(arrays)
    assert str(folder) in origin


def test_files_packed_anew_are_still_the_published_ones(tmp_path: Path):
    folder = write(tmp_path / "again", lambda content: gzip.compress(content, mtime=1), ".gz")
    check(mnist.read("mnist", folder)[0])
    with pytest.raises(ValueError, match="not the published file of fashion_mnist"):
        mnist.read("fashion_mnist", folder)


@pytest.mark.parametrize(("file", "suffix"), [(file, suffix) for file in tfds.FILES for suffix in (".gz", "")])
def test_a_valid_file_that_is_not_the_published_one(packed: Path, plain: Path, file: str, suffix: str):
    folder = packed if suffix else plain
    path = folder / (file.removesuffix(".gz") + suffix)
    changed = bytearray(CONTENTS[file])
    changed[-1] ^= 1
    path.write_bytes(gzip.compress(changed) if suffix else changed)
    with pytest.raises(
        ValueError, match=f"{path}: not the published file of mnist .* get a fresh copy from https:"
    ):
        mnist.read("mnist", folder)


def test_a_damaged_file_says_what_is_wrong_and_where_to_get_another(packed: Path):
    path = packed / tfds.FILES[0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        ValueError, match=f"{path}: damaged or truncated gzip data .*fresh copy from {tfds.URLS['mnist']}"
    ):
        mnist.read("mnist", packed)


def test_missing_files_are_named_with_what_is_there(packed: Path):
    (packed / tfds.FILES[1]).unlink()
    (packed / tfds.FILES[2]).unlink()
    message = (
        "missing train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz .* there is: t10k-labels.*, train-images"
    )
    with pytest.raises(FileNotFoundError, match=message):
        mnist.read("mnist", packed)


def test_folders_that_hold_no_data(tmp_path: Path):
    (tmp_path / "readme").touch()
    with pytest.raises(FileNotFoundError, match=r"neither the original files of mnist .* there is: readme"):
        mnist.read("mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match="cannot open this folder: No such file"):
        mnist.read("mnist", tmp_path / "none")
    with pytest.raises(ValueError, match="expected a folder, got a file"):
        mnist.read("mnist", tmp_path / "readme")


def test_a_file_too_long_to_be_one_of_them(plain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mnist, "LIMIT", 100)
    with pytest.raises(ValueError, match="longer than 100 bytes"):
        mnist.read("mnist", plain)


def test_published_files_are_decoded_once_and_kept_private(packed: Path, monkeypatch: pytest.MonkeyPatch):
    mnist.read("mnist", packed)
    kept = files.cache() / "mnist.npz"
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(idx, "decode", None)
    check(mnist.read("mnist", packed)[0])
    arrays, origin = mnist.read("mnist", None)
    check(arrays)
    assert str(kept) in origin


def test_a_damaged_copy_is_made_again(packed: Path):
    mnist.read("mnist", packed)
    kept = files.cache() / "mnist.npz"
    kept.write_bytes(kept.read_bytes()[:-50])
    check(mnist.read("mnist", packed)[0])
    assert npz.read(kept).keys() == set(mnist.KEYS)


def test_plain_files_are_not_kept_as_they_read_as_fast(plain: Path):
    mnist.read("mnist", plain)
    assert not files.cache().exists()


def test_without_a_place_to_keep_copies_all_works(packed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(packed / tfds.FILES[0]))
    check(mnist.read("mnist", packed)[0])


def test_with_nothing_at_hand_it_is_downloaded_once(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def prepare(name: str, folder: Path) -> Path:
        asked.append(name)
        return folder

    monkeypatch.setattr(tfds, "prepare", prepare)
    monkeypatch.setattr(tfds, "read", lambda *_: dict(zip(mnist.KEYS, ARRAYS, strict=True)))
    check(mnist.read("mnist", None)[0])
    check(mnist.read("mnist", None)[0])
    assert asked == ["mnist"]


def test_the_digests_are_those_of_the_real_files(mnist_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    for file, (packed, unpacked) in zip(tfds.FILES, mnist.PUBLISHED["mnist"], strict=True):
        data = (mnist_dir / file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == packed
        assert hashlib.sha256(gzip.decompress(data)).hexdigest() == unpacked


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_digests_are_those_of_tensorflow_datasets(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    from tensorflow_datasets.core.download import checksums

    table = checksums.get_all_url_infos()
    for file, digests in zip(tfds.FILES, mnist.PUBLISHED[name], strict=True):
        assert table[tfds.URLS[name] + file].checksum == digests[0]
