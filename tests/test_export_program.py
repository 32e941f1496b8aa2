import jax
import numpy as np
import pytest
from exporting import CLASSES, FAMILIES, SHAPE, family, images

from jaxdl.methods.export.program import in_python


@pytest.mark.parametrize("name", FAMILIES)
def test_it_takes_stored_images_and_gives_float32_logits(name):
    logits = family(name).compiled().run(images(3))
    assert (logits.shape, logits.dtype) == ((3, len(CLASSES)), np.float32)


def test_scaling_and_normalising_are_part_of_it():
    made = family("net")
    weights = made.weights
    x = (images(2).reshape(2, -1) / 255 - 0.2) / 0.4
    hidden = np.maximum(x @ weights["fc1"]["weight"].T + weights["fc1"]["bias"][None], 0)
    expected = hidden @ weights["fc2"]["weight"].T + weights["fc2"]["bias"][None]
    np.testing.assert_allclose(made.compiled().run(images(2)), expected, rtol=1e-5)


def test_the_weights_can_be_inside():
    made = family("cnn")
    np.testing.assert_array_equal(jax.jit(made.baked())(images()), jax.jit(made.apply)(made.weights, images()))


def test_the_latency_is_that_of_one_image():
    batches = []
    assert in_python(batches.append).latency(images(1)[0]) > 0
    assert {batch.shape for batch in batches} == {(1, *SHAPE)}
