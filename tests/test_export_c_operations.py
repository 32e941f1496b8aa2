import numpy as np
import pytest
from exporting import OPERATIONS, images, operation

from jaxdl.methods.export import c
from jaxdl.methods.export.c_operations import statements
from jaxdl.methods.export.c_writer import Writer
from jaxdl.methods.export.graph import UnsupportedError
from jaxdl.methods.export.trace import trace


@pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")
def test_operations_are_jaxs(tmp_path, monkeypatch):
    """All in one program, because a compiler takes its time to start."""
    monkeypatch.setattr(c, "FLAGS", ("-std=c11", "-O1"))
    batch = images(3, (4, 4, 2))
    for name, function in OPERATIONS.items():
        made = operation(function)
        expected = made.compiled().run(batch)
        graph = trace(made, 1)
        c.save(graph, ("a",) * expected.shape[1], tmp_path / "m.c")
        np.testing.assert_allclose(
            c.load(tmp_path / "m.c").run(batch), expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name
        )


def test_what_c_cannot_say_is_told():
    graph = trace(operation(lambda x: x.astype(np.float16)), 1)
    writer = Writer(graph, {})
    with pytest.raises(UnsupportedError, match="float32 or bool, the model has float16"):
        [statements(writer, node, place) for place, node in enumerate(graph.nodes)]
