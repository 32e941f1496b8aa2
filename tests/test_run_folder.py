import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdl
from jaxdl.config import TrainConfig
from jaxdl.engine.run_folder import RunFolder, command_of, new_path, read_config, resumed


def test_one_process_at_a_time_holds_a_folder(tmp_path):
    hold = "import sys, pathlib; from jaxdl.engine.run_folder import RunFolder\n"
    hold += f"folder = RunFolder(pathlib.Path({str(tmp_path)!r}), resume=False)\n"
    hold += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=rf"in use by another process \(pid {other.pid}\)"):
            RunFolder(tmp_path, resume=True)
        other.kill()
    RunFolder(tmp_path, resume=True).close()  # the lock ended with its process, however it ended


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a run already; --resume goes on with it"):
        RunFolder(tmp_path, resume=False)
    RunFolder(tmp_path, resume=True).close()


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_something_else_is_left_alone(tmp_path, resume):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"not empty and no run \(it holds thesis.txt\)"):
        RunFolder(tmp_path, resume=resume)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(ValueError, match="is a file; choose another --out"):
        RunFolder(tmp_path / "f", resume=False)


def test_an_error_leaves_the_lock_free(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(ValueError, match="holds a run already"):
            RunFolder(tmp_path, resume=False)


def test_new_paths_count_up(tmp_path):
    assert [new_path(tmp_path / "runs", "mnist-net").name for _ in range(3)] == [
        "mnist-net-1",
        "mnist-net-2",
        "mnist-net-3",
    ]


def test_config_is_read_or_one_line_says_why_not(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"options": ')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"options": {}, "images": {}, "data": {}}))
    assert read_config(tmp_path)["options"] == {}


def test_a_run_is_resumed_by_the_command_that_wrote_it(tmp_path):
    known = {"command": "python -m jaxdl.train", "options": {}}
    (tmp_path / "config.json").write_text(json.dumps(known))
    assert resumed(tmp_path, TrainConfig()) == known
    (tmp_path / "config.json").write_text(json.dumps(known | {"command": "python -m jaxdl.prune"}))
    with pytest.raises(ValueError, match=r"written by python -m jaxdl\.prune; only that command goes on with it"):
        resumed(tmp_path, TrainConfig())
    (tmp_path / "config.json").write_text("{}")  # of a version that did not say
    assert resumed(tmp_path, TrainConfig()) == {}


COMMANDS = sorted(path.parent.name for path in Path(jaxdl.__file__).parent.glob("*/__main__.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_a_command_tell_its_name(name):
    command = importlib.import_module(f"jaxdl.{name}.__main__")
    assert command_of(getattr(command, f"{name.title()}Config")()) == command.PROG
