import pytest

from jaxdl.reinforce.options import ReinforceOptions, completed


def test_options_of_the_algorithm_have_values():
    ppo, plain = (completed(ReinforceOptions(algorithm=name)) for name in ("ppo", "reinforce"))
    assert (ppo.clip, ppo.baseline) == (0.2, None)
    assert (plain.clip, plain.baseline) == (None, "value")
    assert completed(ReinforceOptions(lr=0.5)).lr == 0.5


def test_an_option_of_the_other_algorithm_is_an_error():
    with pytest.raises(ValueError, match="--passes has no meaning for reinforce"):
        completed(ReinforceOptions(algorithm="reinforce", passes=2))
