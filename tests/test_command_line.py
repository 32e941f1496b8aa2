"""How a command ends."""

import errno
import sys

import pytest

from jaxdl.command_line import IncompleteError, command_line


def ended(run, **how):
    return command_line("python -m some.thing", **how)(run)(["--word"])


def raising(error):
    def run(_):
        raise error

    return run


def test_the_status_is_that_of_what_runs_the_words():
    assert ended(lambda words: len(words) + 6) == 7


def test_without_words_those_of_the_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program", "a", "b"])
    assert command_line("x")(len)() == 2


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("no such thing"), 2, "some.thing: error: no such thing"),
        (FileNotFoundError(errno.ENOENT, "Nothing there", "a"), 2, "[Errno 2] Nothing there: 'a'"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 1, "No space left on device: 'a'"),
        (KeyboardInterrupt(), 130, "stopped before it was done"),
    ],
)
def test_errors_are_one_line_and_a_status(error, status, line, capsys):
    assert ended(raising(error)) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith(f"{line}\n")
    assert said.err.count("\n") == 1


def test_what_is_left_after_ctrl_c(capsys):
    ended(raising(KeyboardInterrupt()), stopped="go on with --resume")
    assert capsys.readouterr().err == "go on with --resume\n"


def test_a_training_that_did_not_come_to_its_end_has_said_why(capsys):
    assert ended(raising(IncompleteError(143))) == 143
    assert capsys.readouterr().err == ""


def test_a_defect_is_not_hidden():
    with pytest.raises(AttributeError):
        ended(raising(AttributeError()))
