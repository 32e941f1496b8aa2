import dataclasses

import numpy as np
import pytest

from jaxdl.data import sources
from jaxdl.methods.multitask import tasks

DIGITS = sources.load("digits")


def picture(rows):
    image = np.zeros((1, 5, 5, 1), np.uint8)
    for row, column in rows:
        image[0, row, column] = 255
    return {"image": image}


@pytest.mark.parametrize(
    ("columns", "degrees"), [((2, 2, 2, 2, 2), 0), ((4, 3, 2, 1, 0), 45), ((0, 1, 2, 3, 4), -45)]
)
def test_a_slant_is_the_angle_of_the_stroke(columns, degrees):
    found = tasks.slant(picture(enumerate(columns)), 10)
    np.testing.assert_allclose(found, [degrees], atol=1e-9)


def test_targets_by_hand():
    split = {"label": np.array([0, 3, 5, 9]), "image": np.zeros((4, 2, 2, 1), np.uint8)}
    split["image"][1, 0, 0] = 255
    assert tasks.parity(split, 10).tolist() == [0, 1, 1, 1]
    assert tasks.large(split, 10).tolist() == [False, False, True, True]
    assert tasks.ink(split, 10).tolist() == [0, 0.25, 0, 0]
    assert np.isfinite(tasks.slant(split, 10)).all()


def test_numbers_are_learned_in_units_of_the_training_images():
    source, found = tasks.with_targets(DIGITS, ["label", "parity", "slant"])
    assert [task.name for task in found] == ["label", "parity", "slant"]
    values = source.train["task_slant"]
    assert values.dtype == np.float32
    np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=1e-5)
    degrees = source.test["task_slant"] * found[2].std + found[2].mean
    np.testing.assert_allclose(degrees, tasks.slant(DIGITS.test, 10), rtol=1e-4, atol=1e-4)
    assert set(np.unique(source.train["task_parity"])) == {0.0, 1.0}
    assert "label" in source.train
    assert source.fingerprint() == DIGITS.fingerprint()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["label", "parety"], "unknown task 'parety'; did you mean parity?; there are label, parity, large"),
        (["label", "label"], "each once; got label, label"),
        ([], "one task or more, each once; got none"),
    ],
)
def test_a_wrong_task_is_an_error(names, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        tasks.with_targets(DIGITS, names)


def test_a_number_that_never_changes_is_an_error():
    blank = dataclasses.replace(DIGITS, train={**DIGITS.train, "image": np.zeros_like(DIGITS.train["image"])})
    with pytest.raises(ValueError, match="the task ink has nothing to learn: it is 0 for every image"):
        tasks.with_targets(blank, ["label", "ink"])
