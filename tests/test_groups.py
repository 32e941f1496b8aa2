"""Which configurations share a program."""

import numpy as np
import pytest

from jaxdl.config import TrainConfig, replace
from jaxdl.sweep.groups import groups, with_values


def configs(*settings):
    return [replace(TrainConfig(), setting) for setting in settings]


def test_seeds_and_numbers_share_a_program_and_other_options_do_not():
    found = groups(
        configs(
            {"lr": 0.1, "seed": 0, "optimizer": "adam"},
            {"lr": 0.2, "seed": 5, "optimizer": "adam"},
            {"lr": 0.1, "seed": 0, "optimizer": "adamw"},
            {"lr": 0.3, "seed": 6, "optimizer": "adam"},
        ),
        {"lr", "optimizer"},
    )
    assert [group.places for group in found] == [(0, 1, 3), (2,)]
    assert found[0].seeds == (0, 5, 6)
    np.testing.assert_array_equal(found[0].values["lr"], np.float32([0.1, 0.2, 0.3]))


def test_an_option_that_does_not_vary_stays_a_constant():
    (group,) = groups(configs({"lr": 0.1, "momentum": 0.9}, {"lr": 0.2, "momentum": 0.9}), {"lr"})
    assert list(group.values) == ["lr"]
    assert len(groups(configs({"lr": 0.1}, {"lr": 0.2}), set())) == 2


def test_no_value_is_another_program_than_a_number():
    # adamw without a weight decay has one of its own.
    found = groups(configs({"weight_decay": None}, {"weight_decay": 0.0}, {"weight_decay": 0.1}), {"weight_decay"})
    assert [group.places for group in found] == [(0,), (1, 2)]
    assert found[0].values == {}


def test_augmentations_share_a_program_when_only_their_strengths_differ():
    texts = ["rotate:10,erase:0.2", "rotate:20,erase", "crop:1,rotate", "crop:2,rotate", "crop:2,rotate:5", ""]
    found = groups(configs(*({"augment": text} for text in texts)), {"augment"})
    assert [group.places for group in found] == [(0, 1), (2,), (3, 4), (5,)]
    np.testing.assert_allclose(found[0].values["augment"], [[10, 0.2], [20, 0.5]])
    assert found[3].values == {}
    with pytest.raises(ValueError, match="--augment: 'zoom'"):
        groups(configs({"augment": "zoom"}), {"augment"})


def test_values_take_the_places_of_numbers():
    config = with_values(TrainConfig(), {"lr": 0.5, "l1": 0.25, "dropout": 0.1, "augment": (1.0,)})
    assert (config.optim.lr, config.optim.l1, config.model.dropout, config.data.augment) == (0.5, 0.25, 0.0, "")
