"""Other numbers lead to other advice."""

import dataclasses

import pytest

from jaxdl.methods import advice
from jaxdl.methods.advice import Trial
from jaxdl.methods.survey import Survey

PICTURES = Survey(
    train=60000,
    test=10000,
    shape=(28, 28, 1),
    counts=(6000,) * 10,
    mean=0.13,
    std=0.31,
    duplicates=0.0,
    leaked=0.0,
    near_duplicates=0.0,
    conflicts=0.0,
    structure=0.74,
    chance=0.1,
    linear=0.86,
    curved=0.93,
    half=0.925,
    mirrored=0.48,
    shifted=0.5,
    shift=2,
    error=0.009,
)
NET = Trial("net", "adam", 0.003, 0.03, 0.93, 0.92, 800, 0.0005)
CNN = Trial("cnn", "adam", 0.002, 0.02, 0.97, 0.97, 800, 0.02)
SGD = Trial("cnn", "sgd", 0.05, 0.5, 0.96, 0.965, 800, 0.02)


def options(seen=PICTURES, trials=(NET, CNN, SGD), **changes):
    return advice.advice(dataclasses.replace(seen, **changes), list(trials))[0]


def reasons(seen=PICTURES, trials=(NET, CNN, SGD), **changes):
    return {r.topic: r for r in advice.advice(dataclasses.replace(seen, **changes), list(trials))[1]}


def test_the_model_that_came_further_is_taken():
    assert options()["model"] == "cnn"
    assert "net 92.0%, cnn 97.0%" in reasons()["model"].why


def test_of_models_as_good_the_faster_is_taken():
    close = dataclasses.replace(CNN, accuracy=0.925)
    assert options(trials=[NET, close])["model"] == "net"


def test_features_get_no_convolutions():
    found = reasons(trials=[NET], structure=0.02)
    assert found["model"].choice == "net"
    assert "correlate by 0.02 only" in found["model"].why
    assert found["augmentation"].choice == "none"


def test_the_optimizer_that_came_further_is_taken():
    worse = dataclasses.replace(SGD, accuracy=0.7)
    assert options(trials=[NET, CNN, worse])["optimizer"] == "adam"
    better = options(
        trials=[NET, dataclasses.replace(CNN, accuracy=0.95), dataclasses.replace(SGD, accuracy=0.99)]
    )
    assert (better["optimizer"], better["momentum"], better["lr"]) == ("sgd", 0.9, 0.05)


def test_rare_classes_weigh_more():
    assert "class_weight" not in options()
    found = reasons(counts=(900, 100), chance=0.9)
    assert options(counts=(900, 100), chance=0.9)["class_weight"] == "balanced"
    assert "9.0 images of the largest for one of the smallest" in found["loss"].why


def test_labels_that_disagree_are_smoothed():
    assert "label_smoothing" not in options(near_duplicates=0.3, conflicts=0.0)
    assert options(near_duplicates=0.3, conflicts=0.1)["label_smoothing"] == 0.1


def test_few_images_are_regularised_where_more_would_help():
    few = {"train": 1000, "counts": (100,) * 10}
    assert options(**few, half=0.88)["early_stop"] == 5
    # Enough images, and no gap between those seen and others:
    assert not {"dropout", "early_stop"} & options().keys()
    gap = dataclasses.replace(CNN, train_accuracy=1.0, accuracy=0.95)
    assert options(trials=[NET, gap])["dropout"] == 0.25


def test_augmentation_is_what_the_probe_does_not_know_but_the_class_allows():
    assert options()["augment"] == "crop:2"
    assert options(mirrored=0.93)["augment"] == "crop:2,flip"
    assert options(mirrored=0.93, shifted=0.93)["augment"] == "flip"
    assert options(shifted=0.93)["augment"] == ""


def test_the_length_is_bounded_by_the_time_a_step_takes():
    assert options()["epochs"] == 7  # 3000 updates at 469 an epoch
    slow = [dataclasses.replace(one, seconds=1.0) for one in (NET, CNN)]
    assert options(trials=slow)["epochs"] == 1
    assert "here" in reasons(trials=slow)["length"].why


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leaked": 0.1}, "CAUTION: 10.0% of the test images are among the training images"),
        ({"counts": (5, 0)}, "CAUTION: no training image of dog"),
        ({"std": 0.01}, "CAUTION: hardly any contrast"),
        ({"curved": 0.11}, "CAUTION: no probe beats the largest class"),
    ],
)
def test_what_is_wrong_with_the_data_is_said(changes, message):
    seen = dataclasses.replace(PICTURES, **{"counts": (5, 5), **changes})
    assert any(line.startswith(message) for line in advice.described(seen, ("cat", "dog")))
    clean = advice.described(dataclasses.replace(PICTURES, counts=(5, 5)), ("cat", "dog"))
    assert not [line for line in clean if "CAUTION" in line]
