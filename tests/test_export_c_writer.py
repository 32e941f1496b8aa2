import numpy as np
from exporting import family

from jaxdl.methods.export.c_writer import Memory, Writer
from jaxdl.methods.export.trace import trace


def test_arrays_share_memory_and_never_while_both_are_needed():
    graph = trace(family("resnet"), 1)
    memory, last, array = Memory(graph), {}, {graph.image: graph.image}
    for place, node in enumerate(graph.nodes):
        array[node.output] = array[node.inputs[0]] if node.op == "reshape" else node.output
        last.update({array[value]: place for value in node.inputs if value in array})
    last[array[graph.logits]] = len(graph.nodes)
    spans = []
    for place, node in enumerate(graph.nodes):
        if node.op != "reshape":
            start, size = memory.take(node.output, place), int(np.prod(node.output.shape))
            for other_start, other_end, until in spans:
                assert until < place or start >= other_end or start + size <= other_start
            spans.append((start, start + size, last[node.output]))
    assert memory.size < sum(end - start for start, end, _ in spans)


def test_names_are_given_out_once():
    writer = Writer(trace(family("net"), 1), {})
    array = np.zeros((2, 3), np.float32)
    assert [writer.array(array, name) for name in ("fc.weight", "fc.weight", "model", "")] == [
        "fc_weight.values", "fc_weight_1.values", "model_1.values", "constant.values"
    ]  # fmt: skip
    union = "union { char bytes[24]; float values[6]; }"
    assert writer.constants[0].startswith(f"/* 2 x 3 */\nstatic const {union} fc_weight = {{\n")
