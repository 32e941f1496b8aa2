import dataclasses
import json

import pytest

from jaxdl.engine import seeds


@dataclasses.dataclass(frozen=True)
class Options:
    """Of a command."""

    lr: float = 0.1
    """Rate."""


@dataclasses.dataclass(frozen=True)
class Config:
    """All."""

    own: Options = dataclasses.field(default_factory=Options)
    run: seeds.SeedOptions = dataclasses.field(default_factory=seeds.SeedOptions)


def opened(config, data=None):
    return seeds.folder(config, config.run, "x", {"name": "a"} if data is None else data)


def test_the_folder_says_what_was_asked_for_and_has_one_a_seed(tmp_path):
    config = seeds.read_options(["--lr", "0.5", "--seeds", "2", "--out", str(tmp_path / "run")], Config(), "x")
    with opened(config) as folder, seeds.seed_folder(folder, config, 3) as own:
        assert own.path == tmp_path / "run" / "seed-3"
        assert json.loads(own.config.read_text())["options"] == {
            "lr": 0.5, "seed": 3, "seeds": 1, "out": None, "resume": False, "quiet": False
        }  # fmt: skip
    known = json.loads((tmp_path / "run" / "config.json").read_text())
    assert known["options"]["seeds"] == 2
    assert known["data"] == {"name": "a"}
    assert {"jaxdl", "jax"} <= known["versions"].keys()


def test_a_resumed_command_keeps_its_options_and_may_have_more_seeds(tmp_path):
    out = ["--out", str(tmp_path / "run")]
    with opened(seeds.read_options(["--lr", "0.5", *out], Config(), "x")):
        pass
    config = seeds.read_options(["--resume", "--seeds", "4", *out], Config(), "x")
    assert (config.own.lr, config.run.seeds) == (0.5, 4)
    with opened(config):
        pass
    with pytest.raises(ValueError, match=r"started with other options: --lr was 0.5, is 0.2"):
        seeds.read_options(["--resume", "--lr", "0.2", *out], Config(), "x")
    with (
        pytest.raises(ValueError, match="was started on other data"),
        opened(config, {"name": "b"}),
    ):
        pass


class OtherConfig(Config):
    """Of another command with the same options."""


def test_the_run_of_another_command_is_not_resumed(tmp_path):
    out = ["--out", str(tmp_path / "run")]
    with opened(seeds.read_options(out, OtherConfig(), "x")):
        pass
    with pytest.raises(ValueError, match=r"written by python -m jaxdl\.other; only that command goes on with it"):
        seeds.read_options(["--resume", *out], Config(), "x")
    assert seeds.read_options(["--resume", *out], OtherConfig(), "x").run.resume


def test_a_run_that_never_began_is_resumed_from_its_start(tmp_path):
    config = seeds.read_options(["--resume", "--out", str(tmp_path / "run"), "--lr", "0.7"], Config(), "x")
    assert config.own.lr == 0.7


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["--resume"], "--resume needs the folder of the run"),
    ],
)
def test_what_makes_no_sense_is_an_error(argv, message):
    with pytest.raises(ValueError, match=message):
        seeds.read_options(argv, Config(), "x")


def test_a_folder_with_a_run_needs_resume(tmp_path):
    config = seeds.read_options(["--out", str(tmp_path / "run")], Config(), "x")
    with opened(config):
        pass
    with pytest.raises(ValueError, match="holds a run already; --resume goes on with it"), opened(config):
        pass
