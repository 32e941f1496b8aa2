import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnx_nodes = pytest.importorskip("jaxdl.methods.onnx_nodes")


def sums():
    """(batch, 1, 2, 1) images -> their sum under each of two classes."""
    nodes = onnx_nodes.Nodes()
    flat = nodes.emit("Flatten", [nodes.emit("Cast", [onnx_nodes.IMAGE], to=onnx.TensorProto.FLOAT)])
    nodes.emit("MatMul", [flat, nodes.array(np.ones((2, 2), np.float32), "ones")], onnx_nodes.LOGITS)
    return nodes


def test_a_name_is_given_out_once():
    nodes = onnx_nodes.Nodes()
    assert [nodes.fresh("a"), nodes.fresh("a"), nodes.fresh("image")] == ["a", "a_1", "image_1"]
    assert [nodes.array(np.float32(1)), nodes.array(np.float32(1))] == ["constant", "constant_1"]
    assert nodes.emit("Relu", ["x"]) == "relu"


def test_constants_keep_shape_and_type():
    nodes = onnx_nodes.Nodes()
    arrays = [np.uint8(3), np.arange(6, dtype=np.int8).reshape(2, 3).T]
    for array in arrays:
        nodes.array(array)
    for array, constant in zip(arrays, nodes.constants, strict=True):
        found = onnx.numpy_helper.to_array(constant)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_the_model_says_what_it_takes_and_gives():
    model = sums().model((1, 2, 1), 2, {"classes": "a b"})
    sizes = [
        [part.dim_param or part.dim_value for part in end.type.tensor_type.shape.dim]
        for end in (model.graph.input[0], model.graph.output[0])
    ]
    assert sizes == [["batch", 1, 2, 1], ["batch", 2]]
    assert (model.metadata_props[0].key, model.metadata_props[0].value) == ("classes", "a b")
    found = onnx.reference.ReferenceEvaluator(model).run(None, {"image": np.asarray([[[[1], [2]]]], np.uint8)})[0]
    np.testing.assert_array_equal(found, [[3, 3]])


def test_a_model_that_does_not_fit_is_found():
    with pytest.raises(onnx.shape_inference.InferenceError):
        sums().model((1, 3, 1), 2)
