import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdl.config import TrainConfig, nearest, parse, replace, to_dict


def test_options_become_a_config():
    config = parse(
        TrainConfig(), ["--lr", "0.1", "--milestones", "3", "5", "--no-shuffle", "--data_dir", "x"], "train"
    )
    assert config.optim.lr == 0.1
    assert config.optim.milestones == (3, 5)
    assert config.data.shuffle is False
    assert str(config.data.data_dir) == "x"


def test_defaults_come_from_the_config_given():
    config = parse(replace(TrainConfig(), {"lr": 0.5, "epochs": 3}), ["--epochs", "4"], "train")
    assert (config.optim.lr, config.run.epochs) == (0.5, 4)


def test_dict_and_back():
    config = parse(TrainConfig(), ["--out", "a/b", "--milestones", "1", "2", "--betas", "0.8", "0.9"], "train")
    assert replace(TrainConfig(), to_dict(config)) == config


def test_replace_names_the_nearest_option():
    with pytest.raises(ValueError, match=r"unknown option 'momentun'; did you mean momentum\?"):
        replace(TrainConfig(), {"momentun": 0.9})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learnin-rate", "1"], "train: error: unknown option --learnin-rate; see --help\n"),
        (["--momentun", "1"], "train: error: unknown option --momentun; did you mean --momentum?; see --help\n"),
        (["--batchsize=1"], "train: error: unknown option --batchsize; did you mean --batch-size?; see --help\n"),
        (
            ["--model", "cmm"],
            "train: error: invalid choice 'cmm' for argument '--model'. Expected one of ('net', 'cnn', ",
        ),
        (["--epochs"], "train: error: Missing value for argument '--epochs'. Expected 1 values.\n"),
        (["--epochs", "x"], "train: error: Error parsing --epochs: "),
        (["mnist"], "train: error: Unrecognized options: mnist\n"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(TrainConfig(), argv, "python -m train")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_help_lists_every_option_without_loading_jax():
    code = "import sys\nfrom jaxdl.train import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: print('jax' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("False\n")
    for name in to_dict(TrainConfig()):
        assert f"--{name.replace('_', '-')}" in shown, name


def test_nearest_is_empty_when_nothing_is_near():
    assert nearest("xyz", ["momentum"]) == ""


def test_a_list_of_paths_survives_the_way_through_json():
    @dataclasses.dataclass(frozen=True)
    class Options:
        runs: tuple[Path, ...] = ()
        sizes: tuple[int, int] | None = None

    @dataclasses.dataclass(frozen=True)
    class Config:
        own: Options = dataclasses.field(default_factory=Options)

    given = {"runs": (Path("a"), Path("b")), "sizes": (3, 4)}
    config = replace(Config(), given)
    assert to_dict(config) == {"runs": ["a", "b"], "sizes": [3, 4]}
    assert replace(Config(), to_dict(config)) == config
    assert config.own.runs == given["runs"]
