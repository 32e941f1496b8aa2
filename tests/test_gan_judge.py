import dataclasses

import numpy as np
import pytest

from jaxdl import train
from jaxdl.data import sources
from jaxdl.gan.judge import judge_of
from jaxdl.gan.options import GanOptions

DIGITS = sources.load("digits")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    run = tmp_path_factory.mktemp("classifier") / "run"
    argv = ["--dataset", "digits", "--steps", "2", "--hidden", "6", "--quiet", "--no-tensorboard"]
    assert train.main([*argv, "--out", str(run)]) == 0
    return run


def test_real_images_are_nearer_than_noise(classifier):
    judge = judge_of(GanOptions(classifier=classifier, judged=300), DIGITS)
    noise = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), np.uint8)
    assert judge.of(noise)["distance"] > 10 * judge.real["distance"] > 0
    assert judge.of(np.asarray(DIGITS.test["image"]))["distance"] == pytest.approx(0, abs=1e-4)


def test_images_of_another_shape_or_class_are_an_error(classifier):
    cut = {**DIGITS.test, "image": DIGITS.test["image"][:, :4, :4]}
    other = dataclasses.replace(DIGITS, train=cut, test=cut)
    message = r"takes images \(8, 8, 1\) of 10 classes; digits has \(4, 4, 1\) of 10"
    with pytest.raises(ValueError, match=message):
        judge_of(GanOptions(classifier=classifier), other)


def test_a_layer_that_is_not_there_is_an_error(classifier):
    with pytest.raises(ValueError, match="the model has no layer fc3; did you mean fc"):
        judge_of(GanOptions(classifier=classifier, layer="fc3"), DIGITS)


def test_without_a_classifier_there_is_no_judge():
    assert judge_of(GanOptions(), DIGITS) is None
