import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxdl.data import sources, subset

DIGITS = sources.load("digits")


def made(labels):
    """A source whose images are their row numbers."""
    labels = np.asarray(labels, np.int32)
    rows = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    classes = tuple(map(str, range(labels.max() + 1)))
    split = {"image": rows, "label": labels}
    return sources.Source("made", split, split, classes, "made here")


def rows_of(split):
    return split["image"].ravel()


def test_labelled_images_are_as_many_of_each_class():
    few = subset.labelled(DIGITS, 25, seed=3)
    counts = np.bincount(few.train["label"], minlength=10)
    assert set(counts) == {2, 3}
    assert counts.sum() == 25
    assert few.test is DIGITS.test


def test_the_seed_chooses_the_images_and_their_labels_stay_with_them():
    first, same, other = (subset.labelled(DIGITS, 50, seed).train for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["image"], same["image"])
    assert not np.array_equal(first["image"], other["image"])
    known = {image.tobytes(): label for image, label in zip(*DIGITS.train.values(), strict=True)}
    assert [known[image.tobytes()] for image in first["image"]] == list(first["label"])


def test_a_class_that_has_too_few_gives_all():
    few = subset.labelled(made([0] * 20 + [1] * 2), 10, seed=0)
    np.testing.assert_array_equal(np.bincount(few.train["label"]), [8, 2])


@pytest.mark.parametrize("count", [0, 9, 1438])
def test_fewer_labels_than_classes_or_more_than_images_are_an_error(count):
    with pytest.raises(
        ValueError, match=rf"from 10 \(one a class\) to 1437 training images of digits; got {count}"
    ):
        subset.labelled(DIGITS, count, seed=0)


def test_repeated_images_fill_an_epoch():
    few = made([0, 1, 2])
    np.testing.assert_array_equal(rows_of(subset.repeated(few, 7).train), [0, 1, 2] * 3)
    assert subset.repeated(few, 3) is few


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_held_out_and_kept_images_are_all_and_share_none(labels, share, seed):
    source = made(labels)
    if max(np.bincount(labels)) < 2:
        with pytest.raises(ValueError, match="no class with two training images"):
            subset.hold_out(source, share, seed)
        return
    kept, held = subset.hold_out(source, share, seed)
    assert sorted([*rows_of(kept.train), *rows_of(held)]) == list(range(len(labels)))
    for name, count in enumerate(np.bincount(labels)):
        out = int((held["label"] == name).sum())
        assert out == (min(max(round(share * count), 1), count - 1) if count else 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_outside_0_to_1_is_an_error(share):
    with pytest.raises(ValueError, match="--validation expects a share between 0 and 1"):
        subset.hold_out(DIGITS, share, 0)


def test_images_in_a_folder_stay_undecoded(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.full((4, 4), 10 * number + 100 * (name == "b"), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    source = sources.load("folder", tmp_path)
    kept, held = subset.hold_out(source, 0.3, 0)
    assert type(kept.train["image"]) is type(source.train["image"])
    assert kept.train["image"].shape == (4, 4, 4, 1)
    both = np.concatenate([kept.train["image"][:], held["image"][:]])[:, 0, 0, 0]
    assert sorted(both) == [0, 10, 20, 100, 110, 120]
    assert dataclasses.replace(source, train=held).fingerprint() != source.fingerprint()
