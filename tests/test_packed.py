"""The packed file: what is read is what was written, in the bytes that were promised."""

import math

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.engine import packed
from jaxdl.engine.packed import Codes, Product


@st.composite
def sparse(draw) -> np.ndarray:
    """Arrays of any share of zeros, with gaps below and beyond what one byte can say."""
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=0, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.normal(size=shape).astype(draw(st.sampled_from([np.float32, np.int8])))
    return np.where(
        rng.random(shape) < draw(st.sampled_from([0, 0.001, 0.05, 0.3, 1])), values, values.dtype.type(0)
    )


def parts(path):
    return safetensors.numpy.load_file(path)


@settings(max_examples=60)
@given(array=sparse())
def test_there_and_back(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "w"
    size = packed.save(path, {"a.weight": array}, {"note": [1, "x"]})
    arrays, about = packed.load(path)
    np.testing.assert_array_equal(arrays["a.weight"], array, strict=True)
    assert about == {"note": [1, "x"]}
    assert size == path.stat().st_size
    stored = sum(part.nbytes for part in parts(path).values())
    assert stored <= packed.size(array.size, np.count_nonzero(array), array.itemsize)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0], [0]),
        ([3, 4], [3, 0]),
        ([254], [254]),
        ([255], [255, 0]),
        ([1, 512], [1, 255, 255, 0]),
        ([], []),
    ],
)
def test_gaps_by_hand(places, expected):
    """255 stands for 255 zeros and no value: 512 has 510 zeros before it, after the value at 1."""
    assert packed._gaps(np.array(places, np.int64)).tolist() == expected
    assert packed._places(np.array(expected, np.uint8)).tolist() == places


def test_each_way_is_taken_where_it_is_the_shortest(tmp_path):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(64, 64)).astype(np.float32)
    arrays = {
        "whole": dense,
        "bits": np.where(rng.random(dense.shape) < 0.5, dense, np.float32(0)),
        "gaps": np.where(rng.random(dense.shape) < 0.02, dense, np.float32(0)),
    }
    packed.save(tmp_path / "w", arrays, {})
    assert set(parts(tmp_path / "w")) == {"whole", "bits.bits", "bits.values", "gaps.gaps", "gaps.values"}


def test_codes_and_products_are_multiplied_out(tmp_path):
    codes = np.array([[1, 0, -127], [0, 0, 2]], np.int8)
    scale = np.array([[0.5], [2]], np.float32)
    left = np.array([[1, 2]], np.float32)
    packed.save(tmp_path / "w", {"q": Codes(codes, scale), "p": Product(left, Codes(codes, scale))}, {})
    arrays, _ = packed.load(tmp_path / "w")
    assert arrays["q"].tolist() == [[0.5, 0, -63.5], [0, 0, 4]]
    assert arrays["p"].tolist() == [[0.5, 0, -55.5]]
    assert arrays["p"].dtype == np.float32


def test_what_is_no_packed_file_says_so(tmp_path):
    path = tmp_path / "w"
    with pytest.raises(FileNotFoundError, match="no packed weights at"):
        packed.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no whole safetensors file"):
        packed.load(path)
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="has plain weights; expected packed ones"):
        packed.load(path)


@settings(max_examples=200)
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_changed_bit_is_noticed_wherever_it_is(place, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "w"
    array = np.where(np.arange(600) % 3 == 0, np.arange(600), 0).astype(np.float32)
    packed.save(path, {"a": array}, {})
    content = bytearray(path.read_bytes())
    content[math.floor(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged: its checksum is|no whole safetensors|plain weights"):
        packed.load(path)
