"""Options of a study."""

import pytest

from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.tune.options import ALIKE, ASIDE, FREE, TuneConfig, check, given


def test_every_name_in_the_lists_is_an_option():
    assert {*FREE, *ASIDE, *ALIKE} <= to_dict(TuneConfig()).keys()
    assert not {*ALIKE} & {*FREE, *ASIDE}


def test_what_is_given_is_what_differs_from_the_default():
    assert given(TuneConfig()) == []
    assert given(replace(TuneConfig(), {"hidden": 7, "trials": 3})) == ["hidden", "trials"]


def test_options_of_training_have_their_defaults_but_for_the_budget():
    differ = [name for name, value in to_dict(TrainConfig()).items() if to_dict(TuneConfig())[name] != value]
    assert differ == ["epochs", "validation"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at_once": 0}, "--at-once must be at least 1; got 0"),
        ({"devices": 2}, "--devices has no meaning for a study"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        check(replace(TuneConfig(), options))
