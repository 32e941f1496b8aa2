"""Augmentation against torch's sampling in float64, cases worked by hand, and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.data import transforms, warp

CLASSES = 5
ERASE = jax.jit(transforms.random_erasing(1.0, (0.1, 0.3), (0.5, 2.0)))
MIX = jax.jit(transforms.mixup(0.2, CLASSES))


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


def test_random_affine_draws_over_its_whole_range_and_not_beyond(monkeypatch):
    drawn = {}

    def record(image, angle, scale, shift):
        drawn.update(angle=np.rad2deg(angle), scale=scale, row=shift[:, 0], col=shift[:, 1])
        return image

    monkeypatch.setattr(warp, "affine", record)
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
    monkeypatch.setattr(warp, "affine", lambda _, *drawn: drawn)
    angle, scale, shift = transforms.random_affine(25)(jax.random.key(3), batch)["image"]
    assert len(set(angle.tolist())) == 6
    assert (set(scale.tolist()), set(shift.ravel().tolist())) == ({1}, {0})


# Erasing and mixing.


@settings(max_examples=10)
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


@settings(max_examples=10)
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


def test_compose_gives_each_transform_its_own_key():
    keys = []

    def spy(key, batch):
        keys.append(jax.random.key_data(key).tolist())
        return batch

    transforms.compose(spy, spy)(jax.random.key(0), {})
    assert keys[0] != keys[1]


def test_images_have_to_be_prepared():
    stored = {"image": jnp.zeros((2, 4, 4, 1), jnp.uint8)}
    with pytest.raises(TypeError, match=r"floating-point images .* got uint8\(2, 4, 4, 1\)"):
        transforms.random_crop(2)(jax.random.key(0), stored)


@pytest.mark.parametrize(("scale", "ratio"), [((0.5, 0.1), (0.3, 3.3)), ((0.1, 0.2), (0.0, 1.0))])
def test_erasing_refuses_empty_ranges(scale, ratio):
    with pytest.raises(ValueError, match="erase expects a range of"):
        transforms.random_erasing(0.5, scale, ratio)
