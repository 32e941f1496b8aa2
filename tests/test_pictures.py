import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.config import DataOptions
from jaxdl.data import sources
from jaxdl.pictures import Pictures

SOURCE, KEY = sources.load("digits"), jax.random.key(0)


def image(pictures, **options):
    return pictures.inputs(**options)(KEY, SOURCE.train)["image"]


def test_plain_inputs_are_the_stored_numbers_in_the_unit_interval():
    found = image(Pictures.of(SOURCE, DataOptions()))
    np.testing.assert_allclose(found, np.asarray(SOURCE.train["image"]) / 255, atol=1e-7)


def test_normalized_inputs_have_mean_zero_and_deviation_one():
    found = image(Pictures.of(SOURCE, DataOptions(normalize=True)))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-4)


def test_images_are_brought_to_the_shape_and_augmented_with_black():
    small = Pictures((4, 4, 1), SOURCE.classes, (0.5,), (0.25,), fit="resize")
    assert image(small).shape == (len(SOURCE.train["label"]), 4, 4, 1)
    moved = image(small, augment="crop:4")
    assert (np.asarray(moved) == -2).all((1, 2, 3)).any()  # black, normalized: a window beside the image


def test_they_are_the_same_after_json():
    seen = Pictures((8, 8, 1), ("a", "b"), (0.5,), (0.25,), "resize", 2)
    assert Pictures.from_json(json.loads(json.dumps(dataclasses.asdict(seen)))) == seen
