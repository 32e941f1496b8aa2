import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxdl.engine.tensorboard import TensorBoard
from jaxdl.nn.linear import Linear


class Branch(nnx.Module):
    """One layer used twice, two in a list, dropout and a shortcut."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.shared = Linear(4, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([Linear(4, 4, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.dropout(self.shared(jax.nn.relu(self.shared(x))))
        for layer in self.layers:
            y = layer(y)
        return x + y


@pytest.fixture
def structure(tmp_path):
    """``(graph by node name, text)`` of `Branch` on four images."""
    board = TensorBoard(tmp_path)
    model = Branch()
    board.structure(model, jnp.zeros((3, 4)))
    board.close()
    assert type(model.shared) is Linear
    assert not model.dropout.deterministic
    events = EventAccumulator(str(tmp_path)).Reload()
    graph = events.Graph()
    assert len({node.name for node in graph.node}) == len(graph.node)
    (text,) = events.Tensors("model/text_summary")
    return {node.name: node for node in graph.node}, text.tensor_proto.string_val[0].decode()


def test_the_graph_is_nested_by_module(structure):
    nodes, _ = structure
    assert {name for name in nodes if "/" not in name} == {"image", "relu", "add", "logits"}
    assert {name.rsplit("/", 1)[0] for name in nodes if "/" in name} == {"shared", "layers/0", "layers/1"}
    assert [name for name in nodes if "dot_general" in name] == [
        "shared/dot_general",
        "shared/dot_general_1",
        "layers/0/dot_general",
        "layers/1/dot_general",
    ]


def test_the_graph_follows_the_data(structure):
    nodes, _ = structure
    for product, source in (("shared/dot_general", "image"), ("shared/dot_general_1", "relu")):
        first, turned = nodes[product].input
        assert first == source
        assert nodes[turned].input == ["shared/weight"]
    assert nodes["relu"].input == ["shared/add"]
    assert nodes["add"].input == ["image", "layers/1/add"]
    assert nodes["logits"].input == ["add"]
    assert all(source in nodes for node in nodes.values() for source in node.input)


def test_the_graph_knows_shapes(structure):
    nodes, _ = structure

    def shape(name):
        (found,) = nodes[name].attr["_output_shapes"].list.shape
        return [dim.size for dim in found.dim]

    assert (shape("image"), shape("shared/weight"), shape("add")) == ([3, 4], [4, 4], [3, 4])


def test_the_table_of_parameters(structure):
    _, text = structure
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert rows[2:4] == [["layers.0.bias", "4", "4"], ["layers.0.weight", "4 x 4", "16"]]
    assert rows[-1] == ["**all**", "", f"**{3 * (16 + 4)}**"]
