"""Search spaces: what is read, what a trial is given, and what is said of what cannot be searched."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.config import replace
from jaxdl.tune import search
from jaxdl.tune.options import TuneConfig


def test_ranges_and_choices():
    space = search.space(
        ["lr=log:1e-3:1", "hidden=int:32:520:32", "dropout=0:0.5", "depth=log:1:8", "optimizer=adam,sgd"]
    )
    assert {name: search.shown(domain) for name, domain in space.items()} == {
        "lr": "log:0.001:1",
        "hidden": "32:512:32",  # 520 is no step of it
        "dropout": "0:0.5",
        "depth": "log:1:8",
        "optimizer": "adam,sgd",
    }


def test_a_trial_has_values_of_the_options_types():
    texts = "betas=0.9,0.99/0.8,0.9", "nesterov=true,false", "augment=none/crop:2,flip", "hidden=8:9"
    space = search.space(texts)
    trial = optuna.create_study().ask()
    values = {name: search.suggest(trial, name, domain) for name, domain in space.items()}
    assert values["betas"] in [(0.9, 0.99), (0.8, 0.9)]
    assert isinstance(values["nesterov"], bool)
    assert values["augment"] in ["", "crop:2,flip"]
    assert values["hidden"] in [8, 9]
    # What a study stores gives the same values again.
    assert {name: search.value(name, stored) for name, stored in trial.params.items()} == values


@given(st.integers(2, 7))
def test_a_grid_has_the_ends_of_ranges_and_every_choice(points):
    grid = search.grid(search.space(["lr=log:0.01:1", "hidden=8:16:4", "optimizer=adam,sgd"]), points)
    assert len(grid) == points * min(points, 3) * 2
    assert {point["lr"] for point in grid} >= {0.01, 1.0}
    assert {point["hidden"] for point in grid} <= {8, 12, 16}
    assert len({tuple(point.items()) for point in grid}) == len(grid)


def test_middles_and_corners_lie_in_their_domains():
    space = search.space(["lr=log:0.01:1", "hidden=8:16:4", "optimizer=adam,sgd", "dropout=0:0.5"])
    assert [search.middle(domain) for domain in space.values()] == pytest.approx([0.1, 12, "adam", 0.25])
    assert [search.corners(domain) for domain in space.values()] == [[0.01, 1], [8, 16], ["adam", "sgd"], [0, 0.5]]


def test_without_a_space_there_is_that_of_the_model_and_what_is_given_is_not_searched():
    default = search.of(TuneConfig())
    assert {"lr", "hidden", "depth", "momentum", "dropout"} <= default.keys()
    assert default.keys() - search.of(replace(TuneConfig(), {"hidden": 64, "lr": 0.1})).keys() == {"hidden", "lr"}
    assert "channels" in search.of(replace(TuneConfig(), {"model": "cnn"}))
    assert "lr" in search.of(replace(TuneConfig(), {"model": "vit"}))
    assert list(search.of(replace(TuneConfig(), {"search": ("lr=0:1",)}))) == ["lr"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden=32:64", "unknown option 'hiden'; did you mean hidden?"),
        ("lr=1:0.1", "lr: expected a range with LOW below HIGH; got '1:0.1'"),
        ("lr=log:0:1", "lr: a logarithmic range begins above 0; got 'log:0:1'"),
        ("lr=int:1:2", "lr takes numbers with a fraction: float:LOW:HIGH or log:LOW:HIGH; got 'int:1:2'"),
        ("hidden=float:1:2", "hidden takes whole numbers: int:LOW:HIGH or log:LOW:HIGH; got 'float:1:2'"),
        ("hidden=1.5:3", "hidden: expected a whole number; got '1.5'"),
        ("lr=lgo:1:2", "lr: unknown scale 'lgo'; did you mean log? (there are log int float)"),
        ("lr=log:1", "lr: expected LOW:HIGH; got 'log:1'"),
        ("lr=0:1:2", "lr: expected a step above 0 that fits the range; got '0:1:2'"),
        ("lr=1:2:3:4", "lr: expected LOW:HIGH or LOW:HIGH:STEP; got '1:2:3:4'"),
        ("optimizer=0:1", "optimizer: expected one of sgd, adam, adamw, rmsprop, adagrad; got '0:1'"),
        ("epochs=1:9", "epochs is the same for all trials"),
        ("data_dir=a,b", "data_dir is the same for all runs"),
        ("lr", "expected OPTION=VALUES"),
    ],
)
def test_errors_say_what_is_wrong(text, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared
        search.of(replace(TuneConfig(), {"search": (text,)}))
    assert str(error.value).startswith(message)


def test_an_option_is_searched_once():
    with pytest.raises(ValueError, match="lr is searched twice"):
        search.space(["lr=0:1", "lr=0.1,0.2"])
