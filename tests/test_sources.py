"""The sources by name, what they promise, and the errors on bad data."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_digits

from jaxdl.data import sources, tfds

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Neither the user's folders nor the network are at hand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setitem(tfds.URLS, "mnist", "http://127.0.0.1:9/")


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    valid = {
        "x_train": rng.integers(0, 256, (20, 3, 4), np.uint8),
        "y_train": np.arange(20) % 5,
        "x_test": rng.integers(0, 256, (6, 3, 4), np.uint8),
        "y_test": np.arange(6) % 5,
    }
    return {**valid, **changes}


def save(path: Path, **contents: np.ndarray) -> Path:
    np.savez(path, **contents)  # pyright: ignore[reportArgumentType]
    return path


def test_digits_are_those_of_scikit_learn():
    source = sources.load("digits")
    images, labels = load_digits(return_X_y=True)
    # Values 0..16 become 0..255, rounded; no product is half-way, so the rounding rule does not matter.
    expected = np.array([round(value * 255 / 16) for value in range(17)], np.uint8)[images.astype(int)]
    both = np.concatenate([source.train["image"], source.test["image"]])
    np.testing.assert_array_equal(both.reshape(1797, 64), expected)
    np.testing.assert_array_equal(np.concatenate([source.train["label"], source.test["label"]]), labels)
    assert (len(source.train["label"]), len(source.test["label"])) == (1437, 360)
    assert source.image_shape == (8, 8, 1)
    assert source.num_classes == 10


def test_digits_take_no_folder(tmp_path: Path):
    with pytest.raises(ValueError, match="embedded and takes no folder"):
        sources.load("digits", tmp_path)


def test_an_unknown_name_names_the_nearest_and_all():
    with pytest.raises(
        ValueError, match=r"'minst', did you mean mnist\? There are: mnist, fashion_mnist, digits, npz, folder"
    ):
        sources.load("minst")
    with pytest.raises(ValueError, match=r"'xyz'\? There are: mnist"):
        sources.load("xyz")


def test_the_default_without_mnist_is_the_digits_and_one_line():
    source, notice = sources.load_default(None)
    assert source.name == "digits"
    assert notice is not None
    assert "\n" not in notice
    assert "8x8 digits" in notice
    assert "--data-dir" in notice


def test_an_explicit_mnist_that_cannot_be_had_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="cannot be reached"):
        sources.load("mnist")
    with pytest.raises(FileNotFoundError, match="neither the original files of mnist"):
        sources.load_default(tmp_path)


def test_the_real_mnist(mnist_dir: Path):
    source, notice = sources.load_default(mnist_dir)
    assert (source.name, notice) == ("mnist", None)
    assert source.train["image"].shape == (60000, 28, 28, 1)
    assert source.test["image"].shape == (10000, 28, 28, 1)
    # The first labels and the class counts stand on the data set's page; the statistics in torch's MNIST example.
    assert source.train["label"][:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(source.test["label"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    (mean,), (std,) = source.channel_stats()
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)


@pytest.mark.parametrize("keys", sources.NPZ_KEYS)
def test_npz_by_either_naming_as_file_or_folder(tmp_path: Path, keys: tuple[str, ...]):
    contents = dict(zip(keys, arrays().values(), strict=True))
    path = save(tmp_path / "set.npz", **contents)
    for place in (path, tmp_path):
        source = sources.load("npz", place)
        np.testing.assert_array_equal(source.train["image"][..., 0], contents[keys[0]])
        np.testing.assert_array_equal(source.test["label"], contents[keys[3]])
        assert source.classes == ("0", "1", "2", "3", "4")
        assert source.origin == str(path)


def test_every_split_is_uint8_with_channels_and_int32_and_read_only(tmp_path: Path):
    images = np.asfortranarray(rng.integers(0, 256, (20, 3, 4, 3), np.uint8))
    path = save(tmp_path / "set.npz", **arrays(x_train=images, x_test=images[:6], y_test=np.zeros(6, np.uint64)))
    source = sources.load("npz", path)
    assert source.image_shape == (3, 4, 3)
    for split in (source.train, source.test):
        assert split["image"].dtype == np.uint8
        assert split["label"].dtype == np.int32
        assert not split["image"].flags.writeable
        assert not split["label"].flags.writeable
    np.testing.assert_array_equal(source.train["image"], images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((20, 3, 4), np.float32)}, r"uint8 images .* got float32 \(20, 3, 4\)"),
        ({"x_test": np.zeros((6, 12), np.uint8)}, r"x_test, y_test: expected uint8 images .* got uint8 \(6, 12\)"),
        ({"y_train": np.zeros(20, np.float32)}, r"integer labels \(N,\), got float32 \(20,\)"),
        ({"y_train": np.zeros((20, 1), int)}, r"integer labels \(N,\), got int64 \(20, 1\)"),
        (
            {"y_train": np.zeros(19, int)},
            r"as many images as labels, and some; got uint8 \(20, 3, 4\), int64 \(19,\)",
        ),
        (
            {"x_test": np.zeros((0, 3, 4), np.uint8), "y_test": np.zeros(0, int)},
            "as many images as labels, and some",
        ),
        ({"x_train": np.zeros((0, 3, 4), np.uint8), "y_train": np.zeros(0, int)}, "as many images as labels, and"),
        ({"x_train": np.zeros((20, 0, 4), np.uint8)}, "as many images as labels, and some"),
        ({"y_train": np.arange(20) - 1}, "x_train, y_train: labels -1 to 18, expected 0 to 18"),
        ({"y_test": np.arange(6)}, "x_test, y_test: labels 0 to 5, expected 0 to 4"),
        ({"y_train": np.full(20, 1 << 40)}, "label 1099511627776 in y_train; expected classes"),
        ({"x_test": np.zeros((6, 4, 3), np.uint8)}, r"training images are \(3, 4, 1\), test images \(4, 3, 1\)"),
    ],
)
def test_arrays_that_are_no_data_set(tmp_path: Path, changes: dict[str, np.ndarray], message: str):
    path = save(tmp_path / "set.npz", **arrays(**changes))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{message}") as caught:
        sources.load("npz", path)
    assert "\n" not in str(caught.value)


def test_npz_places_that_hold_no_data_set(tmp_path: Path):
    with pytest.raises(ValueError, match="npz needs --data-dir"):
        sources.load("npz")
    with pytest.raises(FileNotFoundError, match=r"exactly one \.npz file, got 0; there is: nothing"):
        sources.load("npz", tmp_path)
    path = save(tmp_path / "a.npz", image=np.zeros(1))
    with pytest.raises(
        ValueError, match=r"expected x_train, y_train, x_test, y_test or train_image, .*; got image"
    ):
        sources.load("npz", path)
    save(tmp_path / "b.npz", image=np.zeros(1))
    with pytest.raises(FileNotFoundError, match=r"got 2; there is: a\.npz, b\.npz"):
        sources.load("npz", tmp_path)
    with pytest.raises(FileNotFoundError, match="cannot read it: No such file"):
        sources.load("npz", tmp_path / "c.npz")


def test_folder_needs_a_place():
    with pytest.raises(ValueError, match="folder needs --data-dir"):
        sources.load("folder")


def test_the_fingerprint_covers_every_byte_shape_and_split():
    digits = sources.load("digits")
    assert digits.fingerprint() == sources.load("digits").fingerprint()
    image = digits.train["image"].copy()
    image[700, 3, 3, 0] ^= 1
    label = digits.train["label"].copy()
    label[-1] ^= 1
    flat = digits.train["image"].reshape(-1, 4, 16, 1)
    others = [
        dataclasses.replace(digits, train={**digits.train, "image": image}),
        dataclasses.replace(digits, train={**digits.train, "label": label}),
        dataclasses.replace(digits, train={**digits.train, "image": flat}),
        dataclasses.replace(digits, train=digits.test, test=digits.train),
    ]
    assert len({source.fingerprint() for source in (digits, *others)}) == 5
    assert re.fullmatch("[0-9a-f]{64}", digits.fingerprint())


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3, st.integers(1, 4))), st.integers(1, 64))
@settings(max_examples=40)
def test_channel_stats_are_those_of_the_scaled_images(images: np.ndarray, chunk: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK", chunk)
        mean, std = sources.Source("npz", {"image": images}, {}, (), "").channel_stats()
    scaled = images / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-12, atol=1e-15)
    # NumPy's own rounding, measured: 1.1e-15 where all pixels are 188 and the deviation is 0.
    np.testing.assert_allclose(std, scaled.std((0, 1, 2)), rtol=1e-12, atol=1e-14)
