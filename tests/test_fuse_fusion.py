import jax
import pytest
from flax import nnx

from jaxdl import parts
from jaxdl.config import ModelOptions
from jaxdl.fuse.fusion import chain_of
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
    assert chain_of(options.model, nnx.to_pure_dict(nnx.state(net, nnx.Param))) == chain
