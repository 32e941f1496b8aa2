import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from exporting import family, images

from jaxdl.methods.export.check import Reference, logits, measure
from jaxdl.methods.export.program import in_python


@pytest.fixture
def tests():
    expected = np.array([[2.0, 1, 0], [0, 3, 1], [1, 0, 4], [5, 0, 1]], np.float32)
    return Reference(images(4), np.array([0, 1, 2, 1]), expected, max_drop=0.1)


def giving(scores):
    """An artefact that always says the same of the test images."""
    return in_python(lambda batch: scores[: len(batch)])


def test_an_equal_one_passes(tests):
    found = measure(giving(tests.expected), tests, int8=False)
    assert (found.max_difference, found.agreement, found.accuracy, found.problem) == (0, 1, 0.75, None)


def test_rounding_passes_and_more_does_not(tests):
    assert measure(giving(tests.expected + 2e-5), tests, int8=False).problem is None
    found = measure(giving(tests.expected + 1e-4), tests, int8=False)
    assert found.problem == "its outputs differ from the model's by 1.0e-04; rounding explains 5.0e-05"


def test_int8_may_differ_but_not_lose(tests):
    shifted = tests.expected + np.array([0, 0.5, 0], np.float32)
    assert measure(giving(shifted), tests, int8=True).problem is None
    found = measure(giving(tests.expected[:, ::-1]), tests, int8=True)
    assert found.problem == "its accuracy of 25.00% is more than 10.00% below the model's 75.00%"


def test_what_is_no_number_does_not_pass(tests):
    broken = np.where(tests.expected == 4, np.nan, tests.expected)
    for int8 in (False, True):
        found = measure(giving(broken), tests, int8=int8)
        assert (found.max_difference, found.problem) == (None, "not all of its outputs are numbers")


@pytest.mark.parametrize("fault", ["eps", "one weight", "order of the pixels"])
def test_small_faults_of_a_port_do_not_pass(fault):
    made, batch = family("resnet"), images(64)
    tests = Reference(batch, np.zeros(64, int), logits(made.compiled(), batch), 0)
    weights = made.weights
    if fault == "eps":  # 1e-3, flax's older default, for 1e-5
        running = weights["bn1"]["running_var"] + (1e-3 - 1e-5)
        weights = weights | {"bn1": weights["bn1"] | {"running_var": running}}
    if fault == "one weight":
        weights = weights | {"fc": weights["fc"] | {"weight": weights["fc"]["weight"].at[0, 0].add(1e-2)}}
    run = dataclasses.replace(made, weights=weights).compiled().run
    if fault == "order of the pixels":
        found = measure(in_python(lambda x: run(np.ascontiguousarray(x.swapaxes(1, 2)))), tests, int8=False)
    else:
        found = measure(in_python(run), tests, int8=False)
    assert jnp.isfinite(found.max_difference)
    assert "differ" in found.problem  # pyright: ignore[reportOperatorIssue]
