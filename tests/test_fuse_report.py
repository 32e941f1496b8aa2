import jax
import numpy as np
import pytest
from flax import nnx

from jaxdl import parts
from jaxdl.config import ModelOptions
from jaxdl.fuse import report as fuse_report
from jaxdl.pictures import Pictures


@pytest.mark.parametrize(
    ("options", "chain"),
    [
        (ModelOptions("net", hidden=3, depth=2), ["fc1", "fc2", "fc3"]),
        (ModelOptions("cnn", hidden=3, channels=(2, 2)), ["conv1", "conv2", "fc1", "fc2"]),
        (ModelOptions("vit", hidden=6, depth=1, heads=2), []),
    ],
    ids=lambda value: getattr(value, "model", None),
)
def test_layers_of_a_chain_are_named_from_the_first_to_the_last(options, chain):
    net = nnx.eval_shape(lambda: parts.model(options, Pictures((8, 8, 1), ("a", "b")), jax.random.key(0)))
    assert fuse_report.chain_of(options.model, nnx.to_pure_dict(nnx.state(net, nnx.Param))) == chain


def test_a_row_says_how_far_it_is_above_the_mean(tmp_path):
    row = fuse_report.Row
    members, mean = [row("a", 1, 0.9, 0.3), row("b", 1, 0.92, 0.3)], row("mean of the members", 1, 0.91, 0.3)
    lines = fuse_report.shown(members, mean, [row("ensemble", 2, 0.935, 0.2)], [], tmp_path)
    assert lines[4].split()[:4] == ["ensemble", "2", "93.50%", "0.2000"]
    assert lines[4].endswith("+2.50")
    assert len(np.unique([len(line.split("  ")[0]) for line in lines[1:3]])) == 1
