import jax.numpy as jnp
import pytest
from exporting import FAMILIES, family, operation
from jax import export

from jaxdl.methods.export.graph import UnsupportedError
from jaxdl.methods.export.trace import trace


def test_a_convolutional_network_is_read_layer_by_layer():
    graph = trace(family("cnn"), 1)
    expected = "cast affine conv relu max_pool conv relu max_pool reshape linear relu linear"
    assert [node.op for node in graph.nodes] == expected.split()
    names = [node.inputs[1].name for node in graph.nodes if node.op in ("conv", "linear")]
    assert names == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]


def test_batch_norm_goes_into_its_convolution():
    operations = {node.op for node in trace(family("resnet"), 1).nodes[2:]}
    assert operations == {"conv", "relu", "max_pool", "add", "sum", "reshape", "linear"}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_number_of_images_may_stay_open(name):
    (batch,) = export.symbolic_shape("b")
    opened = trace(family(name), batch)
    assert opened.logits.shape == (batch, 3)
    kinds = [
        [node.op for node in graph.nodes if node.op != "broadcast"] for graph in (opened, trace(family(name), 1))
    ]
    assert kinds[0] == kinds[1]


def test_an_operation_without_translation_is_named_with_its_line():
    with pytest.raises(UnsupportedError, match=r"the operation sort of the model \(.*test_export_trace.py:\d+"):
        trace(operation(lambda x: jnp.sort(x, 1)), 1)


def test_a_model_that_fixes_the_number_of_images_is_told_what_to_write():
    (batch,) = export.symbolic_shape("b")
    with pytest.raises(UnsupportedError, match=r"write x.shape\[0\] rather than len\(x\)"):
        trace(operation(lambda x: x.reshape(len(x), -1)), batch)
