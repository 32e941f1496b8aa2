import numpy as np

from jaxdl.methods.export.graph import Builder, Constant, Value, constant

X = Value((1, 3), np.dtype(np.float32))


def linear(builder: Builder) -> Value:
    weight = constant(np.array([[1.0, 2], [3, 4], [5, 6]], np.float32), "fc.weight")
    return builder.add("linear", [X, weight, constant(np.array([1.0, -1], np.float32))], (1, 2))


def scaled(builder: Builder, value: Value) -> Value:
    output = Value(value.shape, np.dtype(np.float32))
    builder.affine[output] = value, np.array([2.0, 10]), np.array([0.5, 0])
    return output


def test_what_is_affine_goes_into_the_weights_before_it():
    builder = Builder()
    (node,) = builder.graph(X, scaled(builder, linear(builder))).nodes
    _, weight, bias = node.inputs
    assert isinstance(weight, Constant)
    assert isinstance(bias, Constant)
    assert weight.array.tolist() == [[2, 20], [6, 40], [10, 60]]
    assert bias.array.tolist() == [2.5, -10]
    assert (weight.name, bias.name) == ("fc.weight", "fc.bias")


def test_but_not_where_they_are_used_otherwise_as_well():
    builder = Builder()
    before = linear(builder)
    graph = builder.graph(X, builder.add("add", [before, scaled(builder, before)], (1, 2)))
    assert [node.op for node in graph.nodes] == ["linear", "affine", "add"]


def test_what_is_affine_is_computed_once():
    builder = Builder()
    value = scaled(builder, builder.add("exp", [X], (1, 2)))
    graph = builder.graph(X, builder.add("mul", [value, value], (1, 2)))
    assert [node.op for node in graph.nodes] == ["exp", "affine", "mul"]


def test_what_nobody_needs_is_left_out():
    builder = Builder()
    kept = builder.add("exp", [X], (1, 3))
    builder.add("tanh", [X], (1, 3))
    assert [node.op for node in builder.graph(X, kept).nodes] == ["exp"]
