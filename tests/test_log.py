"""The console and the JSON lines: what they show and keep, and what happens when the disk or the reader goes."""

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.engine.log import Console, JsonLines, read_records

TRAIN = {
    "kind": "train",
    "step": 100,
    "epoch": 0.1,
    "loss": 2.2,
    "accuracy": 0.2,
    "batch_loss": 2.13449,
    "lr": 0.01,
}
EVAL = {"kind": "eval", "step": 938, "epoch": 1.0, "loss": 0.33214, "accuracy": 0.91018}


def write_steps(path: Path, steps, resume_step=None) -> None:
    log = JsonLines(path, resume_step)
    for step in steps:
        log.write({"kind": "train", "step": step, "loss": 1 / step})
    log.close()


def steps_of(path: Path) -> list[int]:
    return [record["step"] for record in read_records(path)]


def test_a_record_is_one_line_and_there_at_once(tmp_path):
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.write(TRAIN)
    assert (tmp_path / "metrics.jsonl").read_text() == json.dumps(TRAIN) + "\n"
    log.write(EVAL)
    assert read_records(tmp_path / "metrics.jsonl") == [TRAIN, EVAL]
    log.close()
    log.close()


def test_not_finite_values_are_strict_json(tmp_path):
    log = JsonLines(tmp_path / "m")
    log.write({"kind": "train", "step": 1, "a": math.nan, "b": math.inf, "c": -math.inf})
    log.close()
    line = (tmp_path / "m").read_text()
    assert line == '{"kind": "train", "step": 1, "a": "NaN", "b": "Infinity", "c": "-Infinity"}\n'
    (record,) = read_records(tmp_path / "m")
    assert math.isnan(record["a"])
    assert (record["b"], record["c"]) == (math.inf, -math.inf)


def test_a_new_run_starts_the_file_anew(tmp_path):
    write_steps(tmp_path / "m", [1, 2])
    write_steps(tmp_path / "m", [3])
    assert steps_of(tmp_path / "m") == [3]


def test_resume_equals_an_undisturbed_run(tmp_path):
    write_steps(tmp_path / "whole", range(1, 10))
    write_steps(tmp_path / "halves", range(1, 8))
    write_steps(tmp_path / "halves", range(5, 10), resume_step=4)
    assert (tmp_path / "halves").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["halves", "whole"]


def test_resume_without_a_file_begins_one(tmp_path):
    write_steps(tmp_path / "m", [5], resume_step=4)
    assert steps_of(tmp_path / "m") == [5]


@given(cut=st.integers(1, 200))
def test_a_cut_anywhere_loses_at_most_the_last_record(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "m"
    write_steps(path, [1, 2, 3])
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, 0)])
    kept = [step for step, line in enumerate(whole.splitlines(), 1) if line in path.read_bytes()]
    assert steps_of(path) == kept
    write_steps(path, [9], resume_step=8)
    assert steps_of(path) == [*kept, 9]


@pytest.mark.parametrize("damaged", [b"{oops\n", b"3\n", b"\xff\n", b"\n"])
def test_a_damaged_line_is_an_error_with_its_number(tmp_path, damaged):
    good = b'{"kind": "eval", "step": 1}\n'
    (tmp_path / "m").write_bytes(good + damaged + good)
    with pytest.raises(ValueError, match="m, line 2: expected a JSON object, got b"):
        read_records(tmp_path / "m")
    with pytest.raises(ValueError, match="line 2"):
        JsonLines(tmp_path / "m", resume_step=1)
    assert (tmp_path / "m").read_bytes() == good + damaged + good


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_oserror():
    log = JsonLines("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        log.write(TRAIN)
    with contextlib.suppress(OSError):  # a device cannot be synced
        log.close()


def console(stream, **options) -> Console:
    return Console(9380, 938, 10, stream=stream, **options)


def test_plain_output_is_the_classic_lines():
    out = io.StringIO()
    shown = console(out)
    shown.progress(67, 2.2, 0.1)
    shown.write(TRAIN)
    shown.write(EVAL)
    shown.write(TRAIN | {"step": 938 + 100})
    shown.write(TRAIN | {"step": 9380})
    shown.message("done")
    shown.close()
    assert out.getvalue().splitlines() == [
        "Epoch [1/10], Step [100/938], Loss: 2.1345",
        "Epoch [1/10], Test loss: 0.3321, Test accuracy: 91.02%",
        "Epoch [2/10], Step [100/938], Loss: 2.1345",
        "Epoch [10/10], Step [938/938], Loss: 2.1345",
        "done",
    ]


def test_quiet_shows_nothing():
    out = io.StringIO()
    shown = console(out, quiet=True)
    shown.write(TRAIN)
    shown.write(EVAL)
    shown.progress(1, 2.2, 0.1)
    shown.message("done")
    shown.close()
    assert out.getvalue() == ""


def test_a_stream_without_the_letters_still_gets_the_message():
    raw = io.BytesIO()
    shown = console(io.TextIOWrapper(raw, "ascii", write_through=True))
    shown.message("café")
    assert raw.getvalue() == b"caf\\xe9\n"


def test_the_reader_of_a_pipe_may_leave():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        shown = console(stream)
        os.close(reader)
        shown.message("nobody reads this")
        shown.write(EVAL)
        shown.close()
        stream.write("nor is this an error")


def test_the_interpreter_does_not_complain_about_a_pipe_that_closed():
    code = (
        "from jaxdl.engine.log import Console\n"
        "console = Console(1000, 100, 10)\n"
        "for k in range(100_000): console.message('x' * 100)\n"
        "print('more'); console.close()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_other_errors_of_the_stream_surface():
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        shown = console(io.TextIOWrapper(full, write_through=True))
        with pytest.raises(OSError, match="No space left"):
            shown.message("lost")


@pytest.fixture
def terminal(monkeypatch):
    """``(stream, read)``: a terminal of 100 columns, and what it was sent since the last reading."""
    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    with os.fdopen(slave, "w") as stream:

        def read() -> str:
            print(end="\0", file=stream, flush=True)  # what is sent takes its time to arrive
            sent = b""
            while not sent.endswith(b"\0"):
                sent += os.read(master, 1 << 16)
            return sent[:-1].decode()

        yield stream, read
    os.close(master)


def test_a_terminal_gets_a_bar(terminal):
    stream, read = terminal
    shown = console(stream, first_step=938)
    assert "938/9380" in read()
    shown.progress(1000, 0.5, 0.875)
    shown.write(TRAIN)
    drawn = read()
    assert "Epoch [2/10]" in drawn
    assert "1000/9380" in drawn
    assert "steps/s, loss 0.5000, accuracy 87.50%" in drawn
    assert "Step [" not in drawn
    shown.write(EVAL)
    above = read()
    assert "Epoch [1/10], Test loss: 0.3321, Test accuracy: 91.02%\r\n" in above
    assert above.rstrip().endswith("accuracy 87.50%]")  # the bar comes back below
    shown.close()


def test_the_bar_is_drawn_at_most_ten_times_a_second_and_ends_in_its_last_state(terminal, monkeypatch):
    stream, read = terminal
    now = 1000.0
    monkeypatch.setattr("jaxdl.engine.log.time.monotonic", lambda: now)
    shown = console(stream)
    read()
    for step in range(1, 101):
        now += 0.01
        shown.progress(step, 1.0, 0.5)
    assert read().count("\r") in (10, 11)
    shown.progress(9380, 0.25, 0.9)
    shown.close()
    assert "9380/9380" in read()
    shown.close()
    shown.message("Accuracy of the network: 90.00%")
    assert read() == "Accuracy of the network: 90.00%\r\n"


@pytest.mark.parametrize(("term", "columns"), [("dumb", 100), ("xterm", 0)])
def test_a_terminal_that_cannot_draw_gets_lines(terminal, monkeypatch, term, columns):
    stream, read = terminal
    monkeypatch.setenv("TERM", term)
    termios.tcsetwinsize(stream.fileno(), (24, columns))
    console(stream).write(TRAIN)
    assert read() == "Epoch [1/10], Step [100/938], Loss: 2.1345\r\n"


def test_a_terminal_that_hangs_up_is_left(terminal):
    stream, _ = terminal
    reader, writer = os.pipe()
    shown = console(stream)
    os.close(reader)
    os.dup2(writer, stream.fileno())
    os.close(writer)
    shown.progress(10, 1.0, 0.5)
    shown.write(EVAL)
    shown.message("nobody")
    shown.close()
