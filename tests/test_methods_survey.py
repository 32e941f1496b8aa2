"""What is said of a data set, on data whose answer is known."""

import numpy as np
import pytest

from jaxdl.data import sources
from jaxdl.methods import survey

DRAW = np.random.default_rng(0)


def made(image, label, test=30):
    """A source of the given images (uint8); the last are the test images."""
    label = np.asarray(label, np.int32)
    split = [{"image": image[part], "label": label[part]} for part in (slice(-test), slice(-test, None))]
    classes = tuple(map(str, range(label.max() + 1)))
    return sources.Source("made", *split, classes, "made here")


def bars(count, side=8, noise=60):
    """Horizontal or vertical bars, at any place: pictures that a mirror keeps."""
    label = DRAW.integers(0, 2, count)
    image = DRAW.integers(0, noise, (count, side, side, 1))
    for row, (kind, place) in enumerate(zip(label, DRAW.integers(0, side, count), strict=True)):
        image[(row, place) if kind else (row, slice(None), place)] += 180
    return image.astype(np.uint8), label


@pytest.fixture(scope="module")
def digits():
    return survey.survey(sources.load("digits"))


def test_digits_are_pictures_that_may_be_neither_mirrored_nor_moved_much(digits):
    assert (digits.train, digits.test, digits.shape) == (1437, 360, (8, 8, 1))
    assert sum(digits.counts) == 1437
    assert digits.structure > 0.3
    assert digits.chance < 0.15 < 0.9 < digits.linear <= digits.curved
    assert digits.mirrored < 0.6
    assert (digits.duplicates, digits.leaked) == (0, 0)


def test_a_mirror_that_keeps_the_class_is_seen():
    found = survey.survey(made(*bars(400)))
    assert abs(found.mirrored - found.curved) < 3 * found.error


def test_shuffled_pixels_have_no_structure():
    source = sources.load("digits")
    order = DRAW.permutation(64)

    def shuffled(split):
        return {**split, "image": split["image"].reshape(-1, 64)[:, order].reshape(-1, 8, 8, 1)}

    image = np.float32(shuffled(source.train)["image"]) / 255
    assert abs(survey.structure(image)) < 0.2


def test_imbalance_and_the_largest_class():
    label = [0] * 270 + [1] * 30
    image = DRAW.integers(0, 256, (300, 4, 4, 1)).astype(np.uint8)
    order = DRAW.permutation(300)
    found = survey.survey(made(image[order], np.array(label)[order]))
    assert 5 < found.imbalance < 15
    assert found.chance > 0.8
    assert found.curved <= found.chance + 2 * found.error  # noise: nothing to learn


def test_copies_leaks_and_labels_that_disagree():
    image, label = bars(200)
    image, label = np.concatenate([image, image[:100]]), np.concatenate([label, 1 - label[:100]])
    found = survey.survey(made(image, label))
    # The first 200 are distinct; of the last 100, 30 are test images, all of them known.
    assert found.duplicates == pytest.approx(70 / 270)
    assert found.leaked == 1.0
    assert found.near_duplicates > 0.4
    assert found.conflicts == 1.0


def test_near_duplicates_need_not_be_copies():
    image, label = bars(200, noise=2)
    close = image.astype(np.int16) + DRAW.integers(-2, 3, image.shape)
    image = np.concatenate([image, close.clip(0, 255).astype(np.uint8)])
    found = survey.survey(made(image, np.concatenate([label, label])))
    assert found.duplicates < 0.1
    assert found.near_duplicates > 0.9
    assert found.conflicts == 0


def test_large_images_are_averaged_for_the_probes():
    image = np.arange(2 * 128 * 70, dtype=np.float32).reshape(2, 128, 70, 1)
    averaged = survey.small(image)
    assert averaged.shape == (2, 32, 35, 1)
    np.testing.assert_allclose(averaged[0, 0, 0, 0], image[0, :4, :2, 0].mean(), rtol=1e-6)


def test_images_are_moved_down_and_to_the_right():
    image = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(survey.moved(image, 1)[0, :, :, 0], [[0, 0, 0], [0, 1, 2], [0, 4, 5]])
    np.testing.assert_array_equal(survey.moved(image, -1)[0, :, :, 0], [[5, 6, 0], [8, 9, 0], [0, 0, 0]])


def test_one_class_or_a_handful_of_images_tell_nothing():
    image = np.zeros((60, 4, 4, 1), np.uint8)
    with pytest.raises(
        ValueError, match="at least 30 training images of two classes to look at; made has 30 of 1"
    ):
        survey.survey(made(image, [0] * 30 + [1] * 30))
    with pytest.raises(ValueError, match="made has 20 of 2"):
        survey.survey(made(image[:50], [0, 1] * 25))
