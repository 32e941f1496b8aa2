import numpy as np
import pytest
from exporting import CLASSES, FAMILIES, assert_near, family, images
from jax import export

from jaxdl.methods.export.trace import trace

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def save():
    from jaxdl.methods.export import onnx_file

    return onnx_file


def graph(program):
    return trace(program, export.symbolic_shape("batch")[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_gives_the_same_logits_for_any_number_of_images(name, save, tmp_path):
    made = family(name)
    save.save(graph(made), CLASSES, tmp_path / "m.onnx")
    loaded = save.load(tmp_path / "m.onnx")
    for count in (1, 5):
        assert_near(loaded.run(images(count)), made.compiled().run(images(count)))


def test_the_file_says_what_it_takes_and_names_the_weights(save, tmp_path):
    save.save(graph(family("cnn")), CLASSES, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    (image,) = model.graph.input
    sizes = [part.dim_param or part.dim_value for part in image.type.tensor_type.shape.dim]
    assert (image.name, sizes) == ("image", ["batch", 8, 8, 1])
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.metadata_props[0].value.split("\n") == list(CLASSES)
    names = {array.name: list(array.dims) for array in model.graph.initializer}
    assert names["conv2.weight"] == [6, 4, 3, 3]
    assert names["fc1.bias"] == [8]
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == kinds.count("MaxPool") == kinds.count("Gemm") == 2
    assert kinds.count("Transpose") == 2  # in front of the first convolution, behind the last pooling


def test_int8_leaves_what_makes_tokens_and_norms_in_float(save, tmp_path):
    made = family("vit")
    save.save_int8(graph(made), CLASSES, tmp_path / "m.onnx", images(60))
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    restored = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    fed = {node.op_type for node in nodes if restored & set(node.input)} - {"QuantizeLinear"}
    assert "MatMul" in fed
    assert not fed & {"Conv", "Sqrt", "Div", "ReduceSum", "Softmax"}
    found, expected = save.load(tmp_path / "m.onnx").run(images()), made.compiled().run(images())
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_constant_is_used(name, save, tmp_path):
    save.save(graph(family(name)), CLASSES, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx").graph
    used = {name for node in model.node for name in node.input}
    assert {array.name for array in model.initializer} <= used


def test_int8_keeps_int8_weights_and_comes_near(save, tmp_path):
    made = family("cnn")
    save.save_int8(graph(made), CLASSES, tmp_path / "m.onnx", images(60))
    arrays = {array.name: array for array in onnx.load(tmp_path / "m.onnx").graph.initializer}
    codes = [
        a
        for name, a in arrays.items()
        if "weight" in name and a.data_type == onnx.TensorProto.INT8 and len(a.dims) > 1
    ]
    assert len(codes) == 4
    found, expected = save.load(tmp_path / "m.onnx").run(images()), made.compiled().run(images())
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
