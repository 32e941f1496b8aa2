"""Several processes train one model, as a user starts them, on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from jaxdl import train
from jaxdl.config import ScaleOptions
from jaxdl.engine import processes
from jaxdl.engine.log import read_records

DIGITS = ["--dataset", "digits", "--batch-size", "30", "--lr", "0.1", "--chunk-steps", "24"]
STOPPED = 20.0  # seconds in which the others have to end; what is seen is a tenth


def start(count, *argv):
    """Processes with addresses of their own; 30 is no multiple of 4, and the last batch has 27 examples."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    place = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count), "--start-timeout", "60"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "jaxdl.train", *place, "--process-id", str(number), *map(str, argv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(count)
    ]


def finish(started):
    """Exit status, output and errors of each."""
    said = [process.communicate(timeout=120) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def test_a_run_that_lost_a_process_goes_on_with_four_and_ends_as_one_alone(tmp_path):
    alone, out = tmp_path / "alone", tmp_path / "r"
    epochs = ["--epochs", "20", "--save-every", "24", "--no-tensorboard"]
    assert train.main([*DIGITS, *epochs, "--quiet", "--out", str(alone)]) == 0

    options = [*DIGITS, *epochs, "--epochs", "4000", "--placement", "streamed", "--out", out]
    first, second = started = start(2, *options)
    assert first.stdout is not None
    next(line for line in first.stdout if line.startswith("Epoch [2/"))
    second.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (status, _, errors), _ = finish(started)
    assert time.monotonic() - killed < STOPPED
    assert status == 1
    assert errors.splitlines()[-1] == (
        "error: process 1 has ended, so this one (process 0) stops too; go on with --resume"
    )
    reached = max(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdecimal())
    assert 24 <= reached < 20 * 48

    ended = finish(start(4, "--out", out, "--resume", "--epochs", 20, "--placement", "streamed"))
    assert [status for status, *_ in ended] == [0] * 4, ended
    last = ended[0][1].splitlines()[-1]
    assert last == f"Accuracy of the network on the 360 test images: {accuracy(out):.2%}"
    assert not [text for _, text, _ in ended[1:] if "Epoch" in text or "Accuracy" in text]
    whole, resumed = (safetensors.numpy.load_file(run / "weights.safetensors") for run in (alone, out))
    for name, value in whole.items():
        np.testing.assert_allclose(resumed[name], value, rtol=1e-3, atol=1e-5)
    steps = [[record["step"] for record in read_records(run / "metrics.jsonl")] for run in (alone, out)]
    assert steps[0] == steps[1]
    assert accuracy(out) == pytest.approx(accuracy(alone), abs=0.01)
    options = json.loads((out / "config.json").read_text())["options"]
    assert [options[name] for name in ("coordinator", "process_id", "num_processes")] == [None] * 3


def accuracy(run):
    return json.loads((run / "summary.json").read_text())["accuracy"]


class Together:
    """Two processes that are one: the first, and one that has said something else."""

    is_first = True

    def __init__(self, other):
        self.other = other

    def exchange(self, value):
        return [value, self.other]


@pytest.fixture
def joined(monkeypatch):
    return lambda other: monkeypatch.setattr(processes, "_group", Together(other))


def test_what_differs_is_listed(joined):
    joined({"lr": 0.1, "seed": 1, "epochs": 3})
    with pytest.raises(ValueError, match=r"must have the same options; got lr None and 0.1; seed 0 and 1"):
        processes.agree("options", {"lr": None, "seed": 0, "epochs": 3})


def test_the_first_clock_counts_and_any_signal(joined):
    joined([True, 15])
    assert processes.decide(False, None) == (False, 15)
    joined([False, None])
    assert processes.decide(True, 2) == (True, 2)


def test_what_the_first_could_not_do_is_told_to_all(joined):
    joined(None)
    assert processes.from_first(lambda: "path") == "path"

    def fail():
        raise OSError("no space left")

    with pytest.raises(ValueError, match="no space left"):
        processes.from_first(fail)


def test_alone_nothing_is_exchanged():
    processes.start(ScaleOptions(), {})
    assert not processes.several()
    assert processes.is_first()
    assert processes.decide(True, 15) == (True, 15)
    assert processes.from_first(lambda: 3) == 3
    assert processes.leave(7) == 7
    processes.agree("options", {"lr": 1})
