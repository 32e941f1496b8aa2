"""Compositions as text, as bytes and as codes."""

import math

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.engine import packed
from jaxdl.methods import compose
from jaxdl.methods.compose import Composition

SHAPES = {"conv.weight": (12, 3, 5, 5), "conv.bias": (12,), "fc.weight": (40, 300), "fc.bias": (40,)}


@settings(max_examples=50)
@given(units=st.floats(0, 0.99), rank=st.floats(0.01, 1), sparsity=st.floats(0, 0.99), soft=st.floats(0, 1))
def test_text_says_it_all(units, rank, sparsity, soft):
    composition = Composition(*(round(value, 4) for value in (units, rank, sparsity, soft)))
    assert compose.parse(str(composition)) == composition


def test_the_plainest_composition_has_a_name():
    assert str(Composition()) == "int8"
    assert compose.parse("int8") == Composition()


@pytest.mark.parametrize(
    "text", ["", "sparsity", "sparsity:x", "sparsity:1", "units:-1", "rank:0", "wdith:0.5", "soft:2"]
)
def test_what_is_no_composition_is_an_error(text):
    with pytest.raises(ValueError, match="--composition is a list such as"):
        compose.parse(text)


@settings(max_examples=60)
@given(room=st.integers(0, 20_000), seed=st.integers(0, 2**32), even=st.booleans())
def test_a_sparsity_keeps_to_its_room_wherever_the_zeros_are(room, seed, even, tmp_path_factory):
    sparsity = compose.sparsity_for(SHAPES, room)
    weights = {name: math.prod(shape) for name, shape in SHAPES.items() if name.endswith("weight")}
    total = sum(weights.values())
    if sparsity is None:
        assert room < compose.least_room(SHAPES)
        return
    kept = total - round(sparsity * total)
    assert kept >= 0.01 * total - 1
    rng = np.random.default_rng(seed)
    flat = np.zeros(total, np.int8)
    flat[rng.choice(total, kept, replace=False) if even else np.arange(kept)] = 5
    parts = np.split(flat, [weights["conv.weight"]])
    path = tmp_path_factory.mktemp("room") / "w"
    arrays = {name: part.reshape(SHAPES[name]) for name, part in zip(weights, parts, strict=True)}
    packed.save(path, arrays, {})
    assert sum(part.nbytes for part in safetensors.numpy.load_file(path).values()) <= room


def test_layers_worth_two_factors():
    assert compose.ranks(SHAPES, 1) == {}
    assert compose.ranks(SHAPES, 0.5) == {"fc": 17}  # 17 * 340 of 12000; the convolution has 12 outputs
    assert compose.factored(SHAPES, {"fc": 17}) == {
        "conv.weight": (12, 3, 5, 5),
        "conv.bias": (12,),
        "fc.bias": (40,),
        "fc.left_weight": (40, 17),
        "fc.right_weight": (17, 300),
    }


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_codes_are_torchs():
    weight = np.random.default_rng(0).normal(size=(6, 3, 2, 2)).astype(np.float32)
    observer = torch.ao.quantization.PerChannelMinMaxObserver(
        dtype=torch.qint8, qscheme=torch.per_channel_symmetric, ch_axis=0
    )
    observer(torch.tensor(weight))
    scale, zero_point = observer.calculate_qparams()
    theirs = torch.quantize_per_channel(torch.tensor(weight), scale, zero_point, 0, torch.qint8)
    ours = compose.codes(weight)
    np.testing.assert_array_equal(ours.scale.ravel(), scale.numpy())
    np.testing.assert_array_equal(ours.codes, theirs.int_repr().numpy())


def test_factors_are_packed_as_one_weight(tmp_path):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(4, 2)).astype(np.float32), rng.normal(size=(2, 3, 2, 2)).astype(np.float32)
    bias = np.ones(4, np.float32)
    arrays = {"c.left_weight": left, "c.right_weight": right, "c.bias": bias}
    packed.save(tmp_path / "w", compose.pack(arrays), {})
    loaded, _ = packed.load(tmp_path / "w")
    assert set(loaded) == {"c.weight", "c.bias"}
    assert loaded["c.weight"].shape == (4, 3, 2, 2)
    exact = np.einsum("or,rihw->oihw", left, right)
    np.testing.assert_allclose(loaded["c.weight"], exact, atol=0.05)
    np.testing.assert_array_equal(loaded["c.bias"], bias)
