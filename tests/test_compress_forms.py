"""The forms of a run: what fits into a size, and with how many zeros."""

import pytest

from jaxdl import inference, train
from jaxdl.compress.forms import Forms, arrays_of, options_left, parts_of, stored_shapes
from jaxdl.compress.options import CompressConfig

OPTIONS = ["--dataset", "digits", "--hidden", "32", "--steps", "3", "--quiet", "--no-tensorboard"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dense"
    assert train.main([*OPTIONS, "--out", str(out)]) == 0
    return inference.load(out)


def test_a_smaller_size_takes_more_zeros_and_below_the_least_there_is_none(trained):
    forms = Forms(CompressConfig(), trained)
    small, large = (forms.reaching(size) for size in (forms.least() + 400, forms.least() + 4000))
    assert small
    assert len(large) >= len(small)
    for one in small:
        same = [other for other in large if (other.units, other.rank) == (one.units, one.rank)]
        assert same[0].sparsity < one.sparsity < 1
    assert not forms.reaching(forms.least() // 2)


def test_a_share_of_the_units_goes(trained):
    assert options_left(trained, 0.0) == trained.config.model
    assert options_left(trained, 0.25).hidden == 24
    assert stored_shapes(trained, options_left(trained, 0.25)) == {
        "fc1.weight": (24, 64),
        "fc1.bias": (24,),
        "fc2.weight": (10, 24),
        "fc2.bias": (10,),
    }


def test_arrays_have_torchs_names_and_axes(trained):
    arrays = arrays_of(trained.model, *parts_of(trained.model))
    assert {name: value.shape for name, value in arrays.items()} == stored_shapes(trained, trained.config.model)
