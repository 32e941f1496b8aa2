import numpy as np
import pytest
from exporting import OPERATIONS, assert_near, images, operation
from jax import export

from jaxdl.methods.export.graph import UnsupportedError
from jaxdl.methods.export.trace import trace

onnx_file = pytest.importorskip("jaxdl.methods.export.onnx_file")


def graph(program):
    return trace(program, export.symbolic_shape("batch")[0])


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_jaxs(name, tmp_path):
    made, batch = operation(OPERATIONS[name]), images(3, (4, 4, 2))
    onnx_file.save(graph(made), ("a",), tmp_path / "m.onnx")
    assert_near(onnx_file.load(tmp_path / "m.onnx").run(batch), made.compiled().run(batch))


def test_what_onnx_cannot_say_is_told(tmp_path):
    with pytest.raises(UnsupportedError, match="float16"):
        onnx_file.save(graph(operation(lambda x: x.astype(np.float16))), ("a",), tmp_path / "m.onnx")
