import numpy as np
import pytest
from exporting import CLASSES, FAMILIES, OPERATIONS, assert_near, family, images, operation

from jaxdl.methods.export import c
from jaxdl.methods.export.c_source import Memory, source
from jaxdl.methods.export.graph import UnsupportedError
from jaxdl.methods.export.trace import trace

compiled = pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def fast_to_compile(monkeypatch):
    monkeypatch.setattr(c, "FLAGS", ("-std=c11", "-O1"))


@compiled
@pytest.mark.parametrize("name", FAMILIES)
def test_the_program_of_a_model_gives_its_logits(name, tmp_path):
    made = family(name)
    c.save(trace(made, 1), CLASSES, tmp_path / "m.c")
    assert_near(c.load(tmp_path / "m.c").run(images()), made.compiled().run(images()))


@compiled
def test_colours_are_the_last_axis(tmp_path):
    made = family("cnn", (9, 8, 3))
    c.save(trace(made, 1), CLASSES, tmp_path / "m.c")
    batch = images(4, (9, 8, 3))
    assert_near(c.load(tmp_path / "m.c").run(batch), made.compiled().run(batch))


@compiled
def test_operations_are_jaxs(tmp_path):
    """All in one program, because a compiler takes its time to start."""
    batch = images(3, (4, 4, 2))
    for name, function in OPERATIONS.items():
        made = operation(function)
        expected = made.compiled().run(batch)
        graph = trace(made, 1)
        c.save(graph, ("a",) * expected.shape[1], tmp_path / "m.c")
        np.testing.assert_allclose(
            c.load(tmp_path / "m.c").run(batch), expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name
        )


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


def test_only_what_is_called_is_written():
    text = source(trace(family("net"), 1), {}, CLASSES, "model.c")
    assert "static void linear(" in text
    assert "static void conv(" not in text
    assert r"a \"quoted\" one" in text or "a \\042quoted\\042 one" in text


def test_what_c_cannot_say_is_told():
    with pytest.raises(UnsupportedError, match="float32 or bool, the model has float16"):
        source(trace(operation(lambda x: x.astype(np.float16)), 1), {}, ("a",), "model.c")
