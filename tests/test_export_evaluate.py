import jax
import numpy as np
import pytest
from exporting import FAMILIES, OPERATIONS, assert_near, family, images, operation

from jaxdl.methods.export.evaluate import evaluate, ranges
from jaxdl.methods.export.trace import trace


@pytest.mark.parametrize("name", FAMILIES)
def test_the_graph_of_a_model_computes_what_it_does(name):
    made, batch = family(name), images(4)
    graph = trace(made, 4)
    assert_near(np.asarray(jax.jit(lambda x: evaluate(graph, x)[0])(batch)), made.compiled().run(batch))


@pytest.mark.parametrize("name", OPERATIONS)
def test_so_does_that_of_an_operation(name):
    made, batch = operation(OPERATIONS[name]), images(3, (4, 4, 2))
    graph = trace(made, 3)
    assert_near(np.asarray(jax.jit(lambda x: evaluate(graph, x)[0])(batch)), made.compiled().run(batch))


def test_ranges_are_those_of_the_inputs_and_hold_zero():
    graph, batch = trace(family("net"), 1), images(60)
    first, second = (node for node in graph.nodes if node.op == "linear")
    found = ranges(graph, batch, [first, second])
    x = (batch / 255 - 0.2) / 0.4
    assert found[first] == pytest.approx((x.min(), x.max()))
    assert found[second][0] == 0
    assert found[second][1] > 0
