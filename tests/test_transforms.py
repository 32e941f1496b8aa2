"""Augmentation against torch's sampling in float64, cases worked by hand, and laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from jaxdl.data import transforms

CLASSES = 5
ERASE = jax.jit(transforms.random_erasing(1.0, (0.1, 0.3), (0.5, 2.0)))
MIX = jax.jit(transforms.mixup(0.2, CLASSES))
AFFINE = jax.jit(transforms.affine)
RANDOM = ["crop:2", "flip", "rotate:30", "affine", "erase:1", "mixup"]


def batch_of(n: int = 6, height: int = 9, width: int = 7, channels: int = 2) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.1, 1, (n, height, width, channels)).astype(jnp.zeros(()).dtype)
    return {"image": jnp.asarray(image), "label": jnp.arange(n, dtype=jnp.int32) % CLASSES}


def columns(*values: float) -> jax.Array:
    """One image of one row."""
    return jnp.array(values)[None, None, :, None]


# Values.


def test_to_float_has_the_bits_of_torch():
    stored = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = torch.from_numpy(stored).to(torch.float32).div(255).numpy()
    got = jax.jit(transforms.to_float)(jax.random.key(0), {"image": jnp.asarray(stored)})["image"]
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, expected)


def test_to_float_refuses_what_is_float_already():
    with pytest.raises(TypeError, match="expects uint8 images; got float32"):
        transforms.to_float(jax.random.key(0), batch_of())


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), ([0.5, 0.1], [0.25, 0.5])])
def test_normalize_by_hand(mean, std):
    image = jnp.array([[[[1.0, 0.6]]]])
    got = transforms.normalize(mean, std)(jax.random.key(0), {"image": image})["image"]
    expected = [2.0, 0.4] if np.ndim(mean) == 0 else [2.0, 1.0]
    np.testing.assert_allclose(got.ravel(), expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_normalize_equals_torch():
    image, mean, std = batch_of(channels=3)["image"], [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    got = jax.jit(transforms.normalize(mean, std))(jax.random.key(0), {"image": image})["image"]
    means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    expected = torch.from_numpy(np.array(image)).sub(means).div(stds)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-14)


def test_normalize_refuses_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"deviations above 0; got \[0.0\]"):
        transforms.normalize(0.5, 0.0)
    with pytest.raises(ValueError, match="3 values for images of 2 channels"):
        transforms.normalize([0.1, 0.2, 0.3], 1.0)(jax.random.key(0), batch_of())


# Geometry.


def test_crop_takes_the_window_at_the_corner():
    image = batch_of(3)["image"]
    got = transforms.crop(image, jnp.array([[0, 0], [2, 1], [4, 3]]), (5, 4))
    for i, (row, col) in enumerate([(0, 0), (2, 1), (4, 3)]):
        np.testing.assert_array_equal(got[i], image[i, row : row + 5, col : col + 4])


def test_random_crop_gives_every_shift_of_the_padded_image():
    image = jnp.ones((400, 3, 4, 1))
    got = np.asarray(transforms.random_crop(1)(jax.random.key(0), {"image": image})["image"])
    # What stays of ones tells the shift: a zero row above, below or neither; a zero column likewise.
    above, below = got[:, 0].max((1, 2)) == 0, got[:, -1].max((1, 2)) == 0
    left, right = got[:, :, 0].max((1, 2)) == 0, got[:, :, -1].max((1, 2)) == 0
    seen = set(zip(below.astype(int) - above, right.astype(int) - left, strict=True))
    assert seen == {(row, col) for row in (-1, 0, 1) for col in (-1, 0, 1)}
    np.testing.assert_array_equal(got.sum((1, 2, 3)), (3 - (above | below)) * (4 - (left | right)))


def test_flip_by_hand_and_twice():
    image = columns(1.0, 2.0, 3.0)
    flip = transforms.random_horizontal_flip(1.0)
    once = flip(jax.random.key(0), {"image": image})
    np.testing.assert_array_equal(once["image"], columns(3.0, 2.0, 1.0))
    np.testing.assert_array_equal(flip(jax.random.key(1), once)["image"], image)


def test_flip_takes_about_half():
    image = jnp.tile(columns(0.0, 1.0), (1000, 1, 1, 1))
    flipped = transforms.random_horizontal_flip()(jax.random.key(0), {"image": image})["image"][:, 0, 0, 0]
    assert 420 < flipped.sum() < 580  # five standard deviations


def torch_affine(image, angle, scale, shift) -> np.ndarray:
    """The same through affine_grid, whose coordinates are halves of the width and of the height."""
    height, width = image.shape[1:3]
    theta = np.zeros((len(image), 2, 3))
    for i, (a, s, (down, right)) in enumerate(zip(angle, scale, shift, strict=True)):
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) / s  # (x, y) to (x, y)
        to_pixels = np.diag([width / 2, height / 2])
        theta[i, :, :2] = np.linalg.inv(to_pixels) @ turn @ to_pixels
        theta[i, :, 2] = np.linalg.inv(to_pixels) @ turn @ [-right, -down]
    pictures = torch.from_numpy(np.array(image)).permute(0, 3, 1, 2)
    grid = F.affine_grid(torch.from_numpy(theta), list(pictures.shape), align_corners=False)
    sampled = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.permute(0, 2, 3, 1).numpy()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [(9, 7), (7, 9), (8, 8), (1, 5)])
def test_affine_equals_torch(size):
    rng = np.random.default_rng(1)
    image = batch_of(8, *size, channels=3)["image"]
    angle = rng.uniform(-math.pi, math.pi, 8)
    scale, shift = rng.uniform(0.3, 2, 8), rng.uniform(-12, 12, (8, 2))
    shift[:4] /= 6  # four stay in the picture, four leave it in part or altogether
    got = AFFINE(image, *map(jnp.asarray, (angle, scale, shift)))
    np.testing.assert_allclose(got, torch_affine(image, angle, scale, shift), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_rotation_by_right_angles_is_exact():
    image = batch_of(4, 7, 7)["image"]
    angle = jnp.asarray(np.arange(4) * (math.pi / 2))
    got = AFFINE(image, angle, jnp.ones(4), jnp.zeros((4, 2)))
    expected = [np.rot90(image[i], i) for i in range(4)]  # counter-clockwise
    np.testing.assert_allclose(got, expected, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_affine_shifts_down_and_right_and_magnifies():
    image, one = columns(0.0, 0.0, 4.0, 0.0, 0.0), jnp.ones(1)
    moved = AFFINE(image, 0 * one, one, jnp.array([[0.0, 1.5]]))
    np.testing.assert_allclose(moved, columns(0.0, 0.0, 0.0, 2.0, 2.0), atol=1e-15)
    larger = AFFINE(image, 0 * one, 2 * one, jnp.zeros((1, 2)))
    np.testing.assert_allclose(larger, columns(0.0, 2.0, 4.0, 2.0, 0.0), atol=1e-15)
    down = AFFINE(image.reshape(1, 5, 1, 1), 0 * one, one, jnp.array([[2.0, 0.0]]))
    np.testing.assert_allclose(down.ravel(), [0, 0, 0, 0, 4], atol=1e-15)


def test_random_affine_draws_over_its_whole_range_and_not_beyond(monkeypatch):
    drawn = {}

    def record(image, angle, scale, shift):
        drawn.update(angle=np.rad2deg(angle), scale=scale, row=shift[:, 0], col=shift[:, 1])
        return image

    monkeypatch.setattr(transforms, "affine", record)
    transforms.random_affine(20, 0.25, 0.1)(jax.random.key(0), batch_of(2000, 8, 16, 1))
    for name, low, high in [("angle", -20, 20), ("scale", 0.9, 1.1), ("row", -2, 2), ("col", -4, 4)]:
        span = high - low
        assert low - 1e-5 <= drawn[name].min() < low + 0.01 * span, name
        assert high + 1e-5 >= drawn[name].max() > high - 0.01 * span, name
        assert abs(drawn[name].mean() - (low + high) / 2) < 0.05 * span, name
    assert np.abs(np.corrcoef(list(drawn.values())) - np.eye(4)).max() < 0.1  # none follows another


def test_an_affine_of_degrees_alone_only_turns(monkeypatch):
    batch = batch_of()
    still = jax.jit(transforms.random_affine(0))(jax.random.key(3), batch)["image"]
    np.testing.assert_array_equal(still, batch["image"])
    monkeypatch.setattr(transforms, "affine", lambda _, *drawn: drawn)
    angle, scale, shift = transforms.random_affine(25)(jax.random.key(3), batch)["image"]
    assert len(set(angle.tolist())) == 6
    assert (set(scale.tolist()), set(shift.ravel().tolist())) == ({1}, {0})


# Erasing and mixing.


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_erased_is_one_rectangle_within_its_bounds(seed):
    height, width = 9, 14
    got = np.asarray(ERASE(jax.random.key(seed), {"image": jnp.ones((32, height, width, 2))})["image"])
    for gone in got[..., 0] == 0:
        rows, cols = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        h, w = len(rows), len(cols)
        assert gone.sum() == h * w == (np.ptp(rows) + 1) * (np.ptp(cols) + 1)
        # Sides are rounded, each by half a pixel at the most.
        assert (h - 0.5) * (w - 0.5) <= 0.3 * height * width
        assert (h + 0.5) * (w + 0.5) >= 0.1 * height * width
        assert (h - 0.5) / (w + 0.5) <= 2
        assert (h + 0.5) / (w - 0.5) >= 0.5
    np.testing.assert_array_equal(got[..., 0], got[..., 1])


def test_erasing_keeps_what_it_leaves_and_leaves_about_half():
    image = batch_of(1000, 8, 8, 1)["image"]
    got = jax.jit(transforms.random_erasing())(jax.random.key(0), {"image": image})["image"]
    assert bool(jnp.all((got == image) | (got == 0)))
    assert 420 < jnp.any(got == 0, (1, 2, 3)).sum() < 580


def test_erased_areas_and_ratios_are_uniform():
    image = jnp.ones((1000, 40, 60, 1))
    erase = jax.jit(transforms.random_erasing(1.0, (0.05, 0.25), (0.5, 2.0)))
    gone = np.asarray(erase(jax.random.key(0), {"image": image})["image"])[..., 0] == 0
    height, width = gone.any(2).sum(1), gone.any(1).sum(1)
    area, ratio = height * width / (40 * 60), np.log2(height / width)
    np.testing.assert_allclose(np.quantile(area, [0.25, 0.5, 0.75]), [0.1, 0.15, 0.2], atol=0.012)
    np.testing.assert_allclose(np.quantile(ratio, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.12)
    assert abs(np.corrcoef(area, ratio)[0, 1]) < 0.15
    np.testing.assert_allclose(gone.mean(0), gone.mean(0)[::-1, ::-1], atol=0.1)  # no side is preferred


def test_erasing_gives_up_where_no_rectangle_fits():
    image = jnp.ones((4, 6, 6, 1))  # all of the image would have to go
    erase = jax.jit(transforms.random_erasing(1.0, (1.0, 1.0), (1.0, 1.0)))
    got = erase(jax.random.key(0), {"image": image})["image"]
    np.testing.assert_array_equal(got, image)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_mixup_blends_images_and_labels_by_the_same_share(seed):
    label = jnp.array([0, 3, 1, 4], jnp.int32)
    # Each image is its own one-hot label, so the blend of images has to be the blend of labels.
    image = jax.nn.one_hot(label, CLASSES)[:, None, :, None]
    got = MIX(jax.random.key(seed), {"image": image, "label": label})
    np.testing.assert_array_equal(got["image"][:, 0, :, 0], got["label"])
    np.testing.assert_allclose(got["label"].sum(1), 1, rtol=1e-6)
    rows, partners = jnp.arange(4), jnp.roll(label, 1)
    np.testing.assert_allclose(got["label"][rows, label] + got["label"][rows, partners], 1, rtol=1e-6)


def test_mixup_shares_follow_the_beta_distribution():
    label = jnp.arange(4000, dtype=jnp.int32) % 2  # a neighbour always has the other label
    batch = {"image": jnp.zeros((4000, 1, 1, 1)), "label": label}
    share = jax.jit(transforms.mixup(0.4, 2))(jax.random.key(0), batch)["label"][jnp.arange(4000), label]
    assert abs(share.mean() - 0.5) < 0.03
    assert abs(share.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.01


def test_mixup_wants_class_numbers():
    mixed = {**batch_of(), "label": jnp.zeros((6, CLASSES))}
    with pytest.raises(ValueError, match=r"integer labels of shape \(B,\); got float32\(6, 5\)"):
        MIX(jax.random.key(0), mixed)


# All of them.


@pytest.mark.parametrize("spec", RANDOM)
def test_draws_depend_on_the_key_and_the_example_alone(spec):
    batch, transform = batch_of(32), jax.jit(transforms.parse(spec, CLASSES))
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
    transform = jax.jit(transforms.parse("crop:2,affine", CLASSES))
    scanned = jax.jit(lambda: jax.lax.scan(lambda c, key: (c, transform(key, batch)), None, keys)[1])()
    assert scanned["image"].shape == (3, *shape)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(scanned["image"][i], transform(key, batch)["image"], atol=1e-6)


def test_other_entries_pass_through():
    batch = {**batch_of(), "weight": jnp.arange(6)}
    got = jax.eval_shape(transforms.parse(",".join(RANDOM), CLASSES), jax.random.key(0), batch)
    assert {name: (x.shape, x.dtype) for name, x in got.items()} == {
        "image": ((6, 9, 7, 2), jnp.float32),
        "label": ((6, CLASSES), jnp.float32),
        "weight": ((6,), jnp.int32),
    }


def test_compose_gives_each_transform_its_own_key():
    keys = []

    def spy(key, batch):
        keys.append(jax.random.key_data(key).tolist())
        return batch

    transforms.compose(spy, spy)(jax.random.key(0), {})
    assert keys[0] != keys[1]


@pytest.mark.parametrize("spec", ["", " "])
def test_nothing_asked_for_is_the_identity(spec):
    batch = batch_of()
    assert transforms.parse(spec, CLASSES)(jax.random.key(0), batch) is batch


def test_images_have_to_be_prepared():
    stored = {"image": jnp.zeros((2, 4, 4, 1), jnp.uint8)}
    with pytest.raises(TypeError, match=r"floating-point images .* got uint8\(2, 4, 4, 1\)"):
        transforms.random_crop(2)(jax.random.key(0), stored)


# The command line.


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
    transforms.parse(spec, CLASSES)
    assert called == [arguments]


def test_parse_keeps_the_order():
    image = columns(0.0, 0.0, 1.0)
    shifted = transforms.parse("flip:1,crop:1", CLASSES)(
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
        transforms.parse(spec, CLASSES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_parse_collects_all_that_is_wrong():
    with pytest.raises(ValueError, match=r"did you mean flip\?.*; 'crop:0': crop expects"):
        transforms.parse("flp,crop:0,rotate", CLASSES)


@pytest.mark.parametrize(("scale", "ratio"), [((0.5, 0.1), (0.3, 3.3)), ((0.1, 0.2), (0.0, 1.0))])
def test_erasing_refuses_empty_ranges(scale, ratio):
    with pytest.raises(ValueError, match="erase expects a range of"):
        transforms.random_erasing(0.5, scale, ratio)


@pytest.mark.parametrize("text", ["crop:1,affine:9:0.2:0.3,flip", "rotate:20,erase:0.8"])
def test_numbers_may_be_arrays_of_which_a_program_knows_nothing(text):
    frame, numbers = transforms.strengths(text)
    image = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
    batch = {"image": jnp.asarray(image), "label": jnp.arange(6, dtype=jnp.int32) % CLASSES}
    own = transforms.parse(frame, CLASSES, jnp.asarray(numbers, jnp.float32))(jax.random.key(3), batch)
    plain = transforms.parse(text, CLASSES)(jax.random.key(3), batch)
    for name in plain:
        np.testing.assert_allclose(own[name], plain[name], rtol=1e-5, atol=1e-5)
    assert (np.asarray(own["image"]) != image).any()


def test_what_is_left_of_an_augmentation_without_its_strengths():
    assert transforms.strengths("crop, rotate:20,affine:5") == ("crop:2,rotate,affine", (20.0, 5.0, 0.1, 0.1))
    assert transforms.strengths("") == ("", ())
    with pytest.raises(ValueError, match="unknown name; did you mean rotate"):
        transforms.strengths("rotat:3")
