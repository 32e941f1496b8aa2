"""Options with several values: what is read, and what is said of what cannot be."""

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from jaxdl.config import TrainConfig, parse, replace, to_dict
from jaxdl.sweep import settings


def test_every_combination_of_the_values():
    assert settings.product(["lr=0.05,0.1", "weight-decay=0,1e-4"]) == [
        {"lr": 0.05, "weight_decay": 0.0},
        {"lr": 0.05, "weight_decay": 1e-4},
        {"lr": 0.1, "weight_decay": 0.0},
        {"lr": 0.1, "weight_decay": 1e-4},
    ]
    assert settings.product([]) == [{}]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("hidden=none,32", [None, 32]),
        ("nesterov=true,false", [True, False]),
        ("optimizer=adam,sgd", ["adam", "sgd"]),
        ("betas=0.9,0.99/0.8,0.9", [(0.9, 0.99), (0.8, 0.9)]),
        ("milestones=1,2/3", [(1, 2), (3,)]),
        ("augment=none/crop:2,rotate:10", ["", "crop:2,rotate:10"]),
        ("seed=3,5", [3, 5]),
    ],
)
def test_values_have_the_type_of_their_option(text, values):
    assert settings.values(*settings.split(text)) == values


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["hiden=1,2"], "unknown option 'hiden'; did you mean hidden?"),
        (["lr"], "expected OPTION=VALUES, such as lr=0.05,0.1; got 'lr'"),
        (["lr="], "expected OPTION=VALUES"),
        (["lr=fast"], "lr: expected a number; got 'fast'"),
        (["hidden=1.5"], "hidden: expected a whole number; got '1.5'"),
        (
            ["optimizer=adm"],
            "optimizer: expected one of sgd, adam, adamw, rmsprop, adagrad; got 'adm'; did you mean",
        ),
        (["nesterov=yes"], "nesterov: expected true or false; got 'yes'"),
        (["betas=0.9"], "betas: expected 2 numbers with a comma in between; got '0.9'"),
        (["lr=0.1,0.10"], "lr has the value 0.1 twice"),
        (["lr=0.1", "lr=0.2"], "lr is given twice"),
        (["data_dir=a,b"], "data_dir is the same for all runs: it may have one value, as --data-dir"),
        (["devices=1,2"], "devices is the same for all runs"),
    ],
)
def test_errors_say_what_is_wrong(texts, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        settings.product(texts)


@settings_of_hypothesis(max_examples=20)
@given(st.floats(1e-9, 1e9, allow_nan=False))
def test_words_of_a_command_line_give_the_options_again(lr):
    options = {"lr": lr, "nesterov": True, "shuffle": False, "betas": (0.8, 0.9), "hidden": None, "epochs": 3}
    words = settings.arguments(options)
    assert to_dict(parse(TrainConfig(), words, "x")) == to_dict(replace(TrainConfig(), options))


@pytest.mark.parametrize("text", ["lr=0.05", "nesterov=true", "hidden=none", "betas=0.9,0.99", "augment=none"])
def test_what_is_shown_can_be_read(text):
    name, value = settings.split(text)
    assert settings.shown(settings.value(name, value)) == value
