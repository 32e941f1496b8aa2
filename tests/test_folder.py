"""A folder of images by class: what torchvision's ImageFolder would give, decoded lazily."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import folder, sources

GRAY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


def save(path: Path, pixels: np.ndarray = GRAY, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Classes ant (two images to train on, one to test) and bee (one and one), gray, 2x3."""
    save(tmp_path / "train/bee/0.png", GRAY + 1)
    save(tmp_path / "train/ant/1.png", GRAY + 3)
    save(tmp_path / "train/ant/0.PNG", GRAY + 2)
    save(tmp_path / "test/ant/0.png", GRAY + 4)
    save(tmp_path / "test/bee/0.bmp", GRAY + 5)
    return tmp_path


def test_classes_are_sorted_and_images_in_the_order_of_their_names(root: Path):
    (root / "train/ant/notes.txt").write_text("no image")
    (root / "train/ant/.hidden.png").write_text("no image")
    (root / "train/.git").mkdir()
    source = sources.load("folder", root)
    assert source.classes == ("ant", "bee")
    np.testing.assert_array_equal(source.train["label"], [0, 0, 1])
    assert source.train["label"].dtype == np.int32
    expected = np.stack([GRAY + 2, GRAY + 3, GRAY + 1])[..., None]
    np.testing.assert_array_equal(source.train["image"][:], expected)
    np.testing.assert_array_equal(source.test["image"][:], np.stack([GRAY + 4, GRAY + 5])[..., None])
    assert source.image_shape == (2, 3, 1)
    assert str(root) in source.origin


def test_images_index_as_an_array_does(root: Path):
    images = sources.load("folder", root).train["image"]
    whole = images[:]
    assert (images.shape, images.dtype, images.ndim, len(images)) == ((3, 2, 3, 1), np.uint8, 4, 3)
    nothing = np.zeros(0, int)
    for key in (1, -1, slice(1, None), np.array([2, 0, 2]), [0], np.array([True, False, True]), nothing):
        np.testing.assert_array_equal(images[key], whole[key])
        assert images[key].dtype == np.uint8
    with pytest.raises(IndexError):
        images[3]


def test_val_stands_in_for_test_and_a_class_may_be_missing_there(root: Path):
    (root / "test").rename(root / "val")
    (root / "val/bee/0.bmp").unlink()
    (root / "val/bee").rmdir()
    np.testing.assert_array_equal(sources.load("folder", root).test["label"], [0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_one_image_that_is_not_gray_makes_all_rgb(root: Path, mode: str):
    color = np.stack([GRAY, 200 - GRAY, GRAY // 40 * 51], axis=-1)
    color -= color % 51  # the colours that Pillow's palette has
    path = root / "train/ant/2.tiff"
    Image.fromarray(color).convert(mode).save(path)
    source = sources.load("folder", root)
    assert source.image_shape == (2, 3, 3)
    index = source.train["image"].files.index(path)
    np.testing.assert_array_equal(source.train["image"][index], color)
    np.testing.assert_array_equal(source.test["image"][0], np.repeat((GRAY + 4)[..., None], 3, axis=2))


def test_a_palette_with_transparency_warns_of_nothing(root: Path):
    image = Image.fromarray(GRAY).convert("P")
    image.save(root / "train/ant/2.png", transparency=bytes(range(256)))
    train, _, _ = folder.read(root)
    assert train["image"][2].shape == (2, 3, 3)


def test_statistics_are_those_of_the_decoded_images(root: Path):
    source = sources.load("folder", root)
    pixels = np.asarray(source.train["image"][:], np.float64) / 255
    (mean,), (std,) = source.channel_stats()
    assert mean == pytest.approx(pixels.mean(), rel=1e-14)
    assert std == pytest.approx(pixels.std(), rel=1e-14)


def test_fingerprint_follows_names_and_lengths(root: Path):
    before = sources.load("folder", root).fingerprint()
    assert sources.load("folder", root).fingerprint() == before
    (root / "test/ant/0.png").rename(root / "test/ant/1.png")
    renamed = sources.load("folder", root).fingerprint()
    with (root / "test/ant/1.png").open("ab") as file:
        file.write(b"x")
    assert len({before, renamed, sources.load("folder", root).fingerprint()}) == 3


def refused(root: Path, message: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=message) as caught:
        folder.read(root)
    assert "\n" not in str(caught.value)


def test_sizes_that_differ_name_the_first_offender(root: Path):
    odd = save(root / "train/bee/1.png", np.zeros((4, 5), np.uint8))
    save(root / "test/bee/9.png", np.zeros((9, 9), np.uint8))
    refused(root, f"^{re.escape(str(odd))}: 5x4 pixels, but .*0.PNG has 3x2")


def test_missing_and_misplaced_folders(root: Path, tmp_path: Path):
    refused(tmp_path / "nowhere", "cannot open this folder: No such file", FileNotFoundError)
    refused(root / "train/ant/1.png", "expected a folder, got a file")
    (root / "test").rename(root / "exam")
    refused(root, "expected a folder test or val; there is: exam, train", FileNotFoundError)
    (root / "exam/ant").rename(root / "exam/cow")
    (root / "exam").rename(root / "test")
    refused(root, "class 'cow' is not among those of .*: ant, bee")


def test_empty_classes_and_splits(root: Path):
    (root / "train/cow").mkdir()
    refused(root, "train/cow: no images .* in this class")
    for entry in (root / "train").iterdir():
        entry.rename(root / entry.name)
    refused(root, "expected a folder of images for each class; there is: nothing")


def test_a_test_split_without_images(root: Path):
    for file in root.glob("test/*/*"):
        file.unlink()
    refused(root, "test: no images .* in any class")


def test_sixteen_bits_are_refused(root: Path):
    save(root / "train/ant/2.png", np.zeros((2, 3), np.uint16))
    refused(root, "2.png: expected 8 bits per channel, got Pillow's mode 'I;16'")


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_decompression_bombs_are_refused(root: Path, side: int):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    (root / "train/ant/2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    refused(root, "2.png: .*(refused|decompression bomb)")


def test_damaged_images_are_named_at_load_or_when_decoded(root: Path):
    path = root / "train/ant/0.PNG"
    data = path.read_bytes()
    path.write_bytes(data[:10])
    refused(root, "0.PNG: not an image that can be read")
    path.write_bytes(data[: len(data) // 2 + 10])
    train, _, _ = folder.read(root)
    with pytest.raises(ValueError, match=r"0\.PNG: not an image that can be read"):
        train["image"][:2]


def test_every_flipped_bit_of_a_png(root: Path):
    """ValueError and nothing else, or an image of the right shape."""
    path = root / "train/ant/0.PNG"
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1 << index % 8]) + data[index + 1 :])
        try:
            train, _, _ = folder.read(root)
            image = train["image"][0]
        except ValueError:
            continue
        assert image.shape in ((2, 3, 1), (2, 3, 3))


def test_files_that_change_or_vanish_after_loading(root: Path):
    train, _, _ = folder.read(root)
    save(root / "train/ant/0.PNG", np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"0\.PNG: .*now 5x4 pixels, was 3x2"):
        train["image"][0]
    (root / "train/ant/1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.png: cannot read it: No such file"):
        train["image"][1]
