"""The idx format: what is written can be read, and nothing else can."""

import gzip
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.data import idx

# Two images of 1x3 pixels, written by hand after the format's description.
RAW = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30, 40, 50, 255])
ARRAY = np.array([[[10, 20, 30]], [[40, 50, 255]]], np.uint8)
BLOB = gzip.compress(RAW, mtime=0)


def outcome(data: bytes) -> np.ndarray | str:
    """The array, or the text of a ValueError; any other exception fails the test."""
    try:
        return idx.decode(data, "images")
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("data", [RAW, BLOB])
def test_reads_a_file_written_by_hand(data: bytes):
    array = idx.decode(data, "images")
    np.testing.assert_array_equal(array, ARRAY)
    assert array.dtype == np.uint8
    assert not array.flags.writeable


def test_encode_writes_the_same_bytes():
    assert idx.encode(ARRAY) == RAW


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an idx file, it starts with nothing"),
        (b"\x89PNG\r\n", "not an idx file, it starts with 89 50 4e 47"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1]) + b"1234", "expected unsigned bytes .* got type 0x0d"),
        (RAW[:10], "ends inside its header"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 0]), "holds no items"),
        (RAW[:-1], "which is 6 bytes, but only 5 follow"),
        (RAW + b"x", "which is 6 bytes, but more follow"),
        (gzip.compress(RAW + b"x", mtime=0), "which is 6 bytes, but more follow"),
        (BLOB[:-9], "damaged or truncated gzip data"),
        (BLOB[:-1], "damaged or truncated gzip data"),
        (BLOB + b"x", "damaged or truncated gzip data"),
        (BLOB[:-8] + bytes(4) + BLOB[-4:], "CRC check failed"),
    ],
)
def test_refuses(data: bytes, message: str):
    with pytest.raises(ValueError, match=f"^images: .*{message}"):
        idx.decode(data, "images")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_lies_takes_no_memory(pack):
    lie = bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" * 3
    tracemalloc.start()
    with pytest.raises(ValueError, match="cannot hold"):
        idx.decode(pack(lie + bytes(1000)), "images")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_gzip_is_unpacked_only_as_far_as_the_header_states():
    bomb = gzip.compress(RAW[:16] + bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="which is 6 bytes, but more follow"):
        idx.decode(bomb, "images")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("data", [RAW, BLOB])
def test_every_flipped_bit_and_every_truncation(data: bytes):
    """Only ValueError, or an array: plain idx has no checksum, and a gzip header has bytes of no meaning."""
    flips = [data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :] for i in range(len(data)) for bit in range(8)]
    for found in map(outcome, flips):
        if isinstance(found, str):
            assert found.startswith("images: ")
        else:
            assert found.shape == ARRAY.shape
            assert data is RAW or (found == ARRAY).all()
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"^images: "):
            idx.decode(data[:length], "images")


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_decode_undoes_encode(shape: list[int], packed: bool, random):
    array = np.frombuffer(random.randbytes(int(np.prod(shape))), np.uint8).reshape(shape)
    data = idx.encode(array)
    decoded = idx.decode(gzip.compress(data) if packed else data, "images")
    np.testing.assert_array_equal(decoded, array)


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_give_an_array_or_a_value_error(data: bytes):
    for candidate in (data, idx.GZIP + data, RAW[:4] + data):
        found = outcome(candidate)
        assert "\n" not in found if isinstance(found, str) else found.dtype == np.uint8
