"""Images brought to another shape, against torch and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image

from jaxdl.data import resize

KEY = jax.random.key(0)


def fitted(image, shape, *arguments):
    return np.asarray(resize.fit(shape, *arguments)(KEY, {"image": jnp.asarray(image)})["image"])


def drawn(*shape):
    return np.random.default_rng(0).uniform(size=shape)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "target"), [((8, 8), (28, 28)), ((32, 24), (9, 28)), ((7, 7), (7, 7))])
def test_scaling_is_torchs_antialiased_bilinear(size, target):
    image = drawn(2, *size, 3)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(image).permute(0, 3, 1, 2), target, mode="bilinear", antialias=True
    )
    mine = fitted(image, (*target, 3), "resize")
    np.testing.assert_allclose(mine, theirs.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_a_margin_stays_black():
    image = drawn(1, 8, 8, 1)
    mine = fitted(image, (28, 28, 1), "resize", 4)
    np.testing.assert_array_equal(mine[0, 4:24, 4:24], fitted(image, (20, 20, 1), "resize")[0])
    assert mine.sum() == mine[0, 4:24, 4:24].sum()


def test_center_cuts_and_pads():
    image = np.arange(1, 13, dtype=np.float32).reshape(1, 2, 6, 1)
    # torchvision's CenterCrop((4, 3)) begins at column round((6 - 3) / 2), and Python rounds 1.5 to 2.
    expected = [[0, 0, 0], [3, 4, 5], [9, 10, 11], [0, 0, 0]]
    np.testing.assert_array_equal(fitted(image, (4, 3, 1), "center")[0, :, :, 0], expected)


def test_gray_becomes_colour_and_colour_gray():
    gray = np.float32(drawn(2, 4, 4, 1))
    np.testing.assert_array_equal(fitted(gray, (4, 4, 3), "resize"), np.repeat(gray, 3, -1))
    colour = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    mine = fitted(np.float32(colour[None]), (4, 4, 1), "center")[0, :, :, 0]
    theirs = np.asarray(Image.fromarray(colour).convert("L"), np.float32)
    np.testing.assert_allclose(mine, theirs, atol=0.51)  # Pillow rounds to whole numbers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 4, 1), "strech"), "expected resize or center, got 'strech'"),
        (((4, 4, 1), "resize", 2), "--margin 2 does not go with resize to 4x4"),
        (((4, 4, 1), "center", 1), "--margin 1 does not go with center"),
    ],
)
def test_what_cannot_be_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        resize.fit(*arguments)


def test_channels_that_cannot_be_converted_are_an_error():
    with pytest.raises(ValueError, match="images of 4 channels cannot be made ones of 3"):
        fitted(np.ones((1, 2, 2, 4), np.float32), (2, 2, 3), "resize")
