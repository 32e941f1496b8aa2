import pytest

from jaxdl import train
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_set_of_options(name):
    given = to_dict(replace(TrainConfig(), RECIPES[name]))
    assert {option: given[option] for option in RECIPES[name]} == RECIPES[name]


def test_options_beside_a_recipe_win():
    config = train.read_options(["--recipe", "cnn", "--epochs", "1"], TrainConfig(), train.PROG)
    assert config.model.model == "cnn"
    assert config.run.epochs == 1
    assert config.run.recipe == "cnn"
