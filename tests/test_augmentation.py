"""What a text asks for, and that each of its transforms is random in the same way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.data import augmentation, transforms

CLASSES = 5
RANDOM = ["crop:2", "flip", "rotate:30", "affine", "erase:1", "mixup"]


def batch_of(n: int = 6, height: int = 9, width: int = 7, channels: int = 2) -> dict[str, jax.Array]:
    image = np.random.default_rng(0).uniform(0.1, 1, (n, height, width, channels)).astype(np.float32)
    return {"image": jnp.asarray(image), "label": jnp.arange(n, dtype=jnp.int32) % CLASSES}


def columns(*values: float) -> jax.Array:
    """One image of one row."""
    return jnp.array(values)[None, None, :, None]


@pytest.mark.parametrize("spec", RANDOM)
def test_draws_depend_on_the_key_and_the_example_alone(spec):
    batch, transform = batch_of(32), jax.jit(augmentation.parse(spec, CLASSES))
    if spec != "mixup":  # which needs neighbours that differ
        batch["image"] = jnp.broadcast_to(batch["image"][:1], batch["image"].shape)
    once, again, other = (transform(jax.random.key(seed), batch) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once["image"], again["image"])
    np.testing.assert_array_equal(once["label"], again["label"])
    assert not np.array_equal(once["image"], other["image"])
    kinds = len({bytes(np.asarray(row)) for row in once["image"]})
    assert kinds == 2 if spec == "flip" else kinds > 10


@pytest.mark.parametrize("shape", [(2, 5, 8, 1), (3, 8, 5, 3)])
def test_inside_scan_as_outside_of_it(shape):
    batch, keys = batch_of(*shape), jax.random.split(jax.random.key(0), 3)
    transform = jax.jit(augmentation.parse("crop:2,affine", CLASSES))
    scanned = jax.jit(lambda: jax.lax.scan(lambda c, key: (c, transform(key, batch)), None, keys)[1])()
    assert scanned["image"].shape == (3, *shape)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(scanned["image"][i], transform(key, batch)["image"], atol=1e-6)


def test_other_entries_pass_through():
    batch = {**batch_of(), "weight": jnp.arange(6)}
    got = jax.eval_shape(augmentation.parse(",".join(RANDOM), CLASSES), jax.random.key(0), batch)
    assert {name: (x.shape, x.dtype) for name, x in got.items()} == {
        "image": ((6, 9, 7, 2), jnp.float32),
        "label": ((6, CLASSES), jnp.float32),
        "weight": ((6,), jnp.int32),
    }


@pytest.mark.parametrize("spec", ["", " "])
def test_nothing_asked_for_is_the_identity(spec):
    batch = batch_of()
    assert augmentation.parse(spec, CLASSES)(jax.random.key(0), batch) is batch


@pytest.mark.parametrize(
    ("spec", "maker", "arguments"),
    [
        ("crop", "random_crop", (2,)),
        ("crop:3", "random_crop", (3,)),
        (" flip:0.9 ", "random_horizontal_flip", (0.9,)),
        ("rotate", "random_affine", (10,)),
        ("affine:5", "random_affine", (5, 0.1, 0.1)),
        ("affine:5:0.2:0.3", "random_affine", (5, 0.2, 0.3)),
        ("erase:1", "random_erasing", (1,)),
        ("mixup:1", "mixup", (1, CLASSES)),
    ],
)
def test_parse_builds_what_it_says(monkeypatch, spec, maker, arguments):
    called = []
    monkeypatch.setattr(transforms, maker, lambda *given: called.append(given) or transforms.to_float)
    augmentation.parse(spec, CLASSES)
    assert called == [arguments]


def test_parse_keeps_the_order():
    image = columns(0.0, 0.0, 1.0)
    shifted = augmentation.parse("flip:1,crop:1", CLASSES)(
        jax.random.key(0), {"image": jnp.tile(image, (50, 1, 1, 1))}
    )
    # Flipped to the first column and then shifted by at most one: nothing is left in the last.
    assert shifted["image"][:, :, 2].max() == 0
    assert shifted["image"][:, :, :2].max() == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rotat:10", "'rotat:10': unknown name; did you mean rotate?"),
        ("zoom", "there are crop flip rotate affine erase mixup"),
        ("crop,,flip", "'': unknown name"),
        ("crop:two", "'crop:two': expected numbers after crop; got two"),
        ("crop:2:3", "at most 1 numbers after crop; got 2"),
        ("crop:0", "whole pixels, at least 1; got 0"),
        ("crop:1.5", "whole pixels, at least 1; got 1.5"),
        ("crop:nan", "whole pixels"),
        ("crop:inf", "whole pixels"),
        ("flip:2", "flip expects a probability between 0 and 1; got 2"),
        ("erase:nan", "erase expects a probability between 0 and 1; got nan"),
        ("rotate:200", "degrees between 0 and 180; got 200"),
        ("affine:10:2", "translation between 0 and 1"),
        ("affine:10:0.1:1", "of at least 0 and below 1; got 1"),
        ("mixup:0", "alpha above 0; got 0"),
        ("mixup,mixup", "mixup can be given once only"),
    ],
)
def test_parse_says_what_is_wrong(spec, message):
    with pytest.raises(ValueError, match=r"^--augment: ") as error:
        augmentation.parse(spec, CLASSES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_parse_collects_all_that_is_wrong():
    with pytest.raises(ValueError, match=r"did you mean flip\?.*; 'crop:0': crop expects"):
        augmentation.parse("flp,crop:0,rotate", CLASSES)


@pytest.mark.parametrize("text", ["crop:1,affine:9:0.2:0.3,flip", "rotate:20,erase:0.8"])
def test_numbers_may_be_arrays_of_which_a_program_knows_nothing(text):
    frame, numbers = augmentation.strengths(text)
    image = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
    batch = {"image": jnp.asarray(image), "label": jnp.arange(6, dtype=jnp.int32) % CLASSES}
    own = augmentation.parse(frame, CLASSES, jnp.asarray(numbers, jnp.float32))(jax.random.key(3), batch)
    plain = augmentation.parse(text, CLASSES)(jax.random.key(3), batch)
    for name in plain:
        np.testing.assert_allclose(own[name], plain[name], rtol=1e-5, atol=1e-5)
    assert (np.asarray(own["image"]) != image).any()


def test_what_is_left_of_an_augmentation_without_its_strengths():
    assert augmentation.strengths("crop, rotate:20,affine:5") == ("crop:2,rotate,affine", (20.0, 5.0, 0.1, 0.1))
    assert augmentation.strengths("") == ("", ())
    with pytest.raises(ValueError, match="unknown name; did you mean rotate"):
        augmentation.strengths("rotat:3")
