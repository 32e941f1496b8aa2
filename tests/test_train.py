"""The main job as a user runs it, on the embedded digits."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from jaxdl import train
from jaxdl.config import TrainConfig, replace
from jaxdl.engine.log import TIMING, read_records

DIGITS = ["--dataset", "digits", "--batch-size", "32", "--dropout", "0.2", "--optimizer", "adam"]


def spawn(*argv, before=(), **variables):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "JAX_NUM_CPU_DEVICES": "1", **variables}
    command = [*before, sys.executable, "-m", "jaxdl.train", *DIGITS, *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def digest(run: Path) -> str:
    return hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest()


def timeless(run: Path) -> list[dict]:
    return [
        {name: value for name, value in record.items() if name not in TIMING}
        for record in read_records(run / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An undisturbed run of four epochs, with a checkpoint every 20 steps."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train.main([*DIGITS, "--epochs", "4", "--save-every", "20", "--out", str(out)]) == 0
    return out


def test_a_run_leaves_what_a_person_wants(run):
    expected = {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "weights.safetensors",
        "curves.png",
        "confusion.png",
    }
    assert {path.name for path in run.iterdir()} == expected | {"checkpoints", "tensorboard", ".lock"}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["accuracy"] > 0.85
    assert summary["steps"] == 4 * 45
    assert read_records(run / "metrics.jsonl")[-1]["accuracy"] == summary["accuracy"]
    options = json.loads((run / "config.json").read_text())["options"]
    assert (options["dataset"], options["optimizer"], options["epochs"]) == ("digits", "adam", 4)


def test_torch_gets_the_same_accuracy_from_the_weights(run):
    from jaxdl.data import sources

    test = sources.load("digits").test
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    loaded = safetensors.torch.load_file(run / "weights.safetensors")
    net.load_state_dict({name.replace("fc1", "1").replace("fc2", "3"): value for name, value in loaded.items()})
    logits = net(torch.tensor(test["image"]).float() / 255)
    accuracy = (logits.argmax(1) == torch.tensor(test["label"])).double().mean().item()
    assert accuracy == json.loads((run / "summary.json").read_text())["accuracy"]


def test_the_last_line_is_the_documents(tmp_path, capsys):
    assert train.main([*DIGITS, "--epochs", "1", "--out", str(tmp_path / "r"), "--log-every", "20"]) == 0
    shown = capsys.readouterr().out.splitlines()
    accuracy = json.loads((tmp_path / "r" / "summary.json").read_text())["accuracy"]
    assert shown[-1] == f"Accuracy of the network on the 360 test images: {accuracy:.2%}"
    assert [line for line in shown if line.startswith("Epoch [1/1], Step [20/45], Loss: ")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_resumes_bit_for_bit(run, tmp_path, number):
    out = tmp_path / "r"
    options = ["--epochs", "4", "--save-every", "20", "--chunk-steps", "45", "--out", out]
    # Small chunks would be other programs: the undisturbed run's are told to this one, which is what auto gives.
    with spawn(*options) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("Epoch [2/4]"):
                process.send_signal(number)
                break
        process.stdout.read()
        said = process.stderr.read()
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        # It may also have been too fast for the signal, which then found the last step done.
        assert process.returncode in (128 + number, 0), said
        assert process.returncode == 0 or f"stopped by {number.name} after step" in said
    with spawn("--out", out, "--resume") as process:
        assert process.communicate()[1] == ""
    assert process.returncode == 0
    assert digest(out) == digest(run)
    assert timeless(out) == timeless(run)


def test_resuming_a_run_that_has_ended_changes_nothing(run, capsys):
    before = digest(run), timeless(run)
    assert train.main(["--out", str(run), "--resume"]) == 0
    assert (digest(run), timeless(run)) == before
    assert capsys.readouterr().out.splitlines()[-1].startswith("Accuracy of the network on the 360 test images")


def test_resuming_without_a_run_starts_one(tmp_path):
    assert train.main([*DIGITS, "--steps", "3", "--out", str(tmp_path / "r"), "--resume", "--quiet"]) == 0


def test_a_longer_run_goes_on_from_the_shorter(tmp_path, run):
    out = tmp_path / "r"
    assert train.main([*DIGITS, "--epochs", "2", "--save-every", "20", "--out", str(out), "--quiet"]) == 0
    assert train.main(["--epochs", "4", "--out", str(out), "--resume", "--quiet"]) == 0
    assert digest(out) == digest(run)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--optimizer", "sgd", "--hidden", "64"], "--hidden was None, is 64; --optimizer was adam, is sgd"),
        (["--seed", "1"], "--seed was 0, is 1"),
        (["--dataset", "mnist"], "--dataset was digits, is mnist"),
    ],
)
def test_resuming_with_other_options_lists_what_differs(run, argv, message, capsys):
    assert train.main([*argv, "--out", str(run), "--resume"]) == 2
    assert (
        capsys.readouterr().err
        == f"jaxdl.train: error: the run in {run} was started with other options: {message}\n"
    )


def test_the_length_of_a_run_whose_schedule_needs_it_is_fixed():
    recorded = replace(TrainConfig(), {"schedule": "one_cycle"})
    with pytest.raises(ValueError, match="--epochs was 10, is 20"):
        train.same_run(recorded, replace(recorded, {"epochs": 20}))
    assert train.same_run(TrainConfig(), replace(TrainConfig(), {"epochs": 20})).run.epochs == 20


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    out = tmp_path / "r"
    # The penalty on an overflowing parameter is what breaks it, some steps in.
    argv = ["--dataset", "digits", "--lr", "1.5", "--momentum", "1.5", "--save-every", "5", "--chunk-steps", "5"]
    assert train.main([*argv, "--epochs", "40", "--out", str(out), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the loss is ")
    step = int(said.split(" at step ")[1].split(";")[0])
    last = max(int(path.name) for path in (out / "checkpoints").iterdir())
    assert f"the last good checkpoint is that of step {last}" in said
    assert 0 < last < step
    assert said.count("\n") == 1


@pytest.mark.parametrize("kilobytes", [3, 20, 30])  # config.json has 2
def test_a_disk_that_takes_no_more_is_one_line(tmp_path, kilobytes):
    """No file may grow beyond the limit: the records, the checkpoint or the weights hit it first."""
    out = tmp_path / "r"
    limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash"]
    options = ["--steps", 100, "--log-every", 1, "--out", out]
    with spawn(*options, before=limited, JAX_ENABLE_COMPILATION_CACHE="false") as process:
        said = process.communicate()[1]
    assert process.returncode == 1
    assert said.startswith(f"error: cannot write to {out}: ")
    assert said.count("\n") == 1
    with spawn("--out", out, "--resume") as process:
        assert process.communicate()[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--recipe", "cn"], "--recipe must be one of mlp, cnn, cnn-short; got cn; did you mean cnn?"),
        (["--resume"], "--resume needs the folder of the run: --out RUN"),
        (
            ["--dataset", "digits", "--momentum", "0.9", "--optimizer", "adam"],
            "--momentum has no meaning for adam",
        ),
        (["--dataset", "digits", "--batch-size", "9999"], "--batch-size must lie between 1 and the 1437"),
        (["--dataset", "digits", "--epochs", "0"], "expected at least one step, got --epochs 0"),
        (["--dataset", "digits", "--dropout", "1.5"], "dropout"),
        (["--dataset", "digits", "--lr", "-1"], "the rate must be 0 or more, got -1.0"),
        (["--dataset", "digits", "--augment", "corp:2"], "did you mean crop"),
        (["--dataset", "digits", "--devices", "9"], "--devices must lie between 1 and the 4 there are"),
        (
            ["--dataset", "digits", "--devices", "4", "--stages", "4"],
            "a model of 2 layers has no 4 stages: fc1, fc2",
        ),
        (["--dataset", "digits", "--stages", "2"], "--stages 2 does not divide the number of devices, 1"),
        (["--dataset", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["--dataset", "npz"], "npz"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxdl.train: error: ")
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_mnist_the_digits_are_used_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    from jaxdl.data import sources

    def absent(name, data_dir=None):
        if name == "mnist":
            raise FileNotFoundError("no network")
        return load(name, data_dir)

    load = sources.load
    monkeypatch.setattr(sources, "load", absent)
    monkeypatch.chdir(tmp_path)
    assert train.main(["--steps", "2"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "digits" in first
    assert "--data-dir" in first
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-net-1"]


def test_streamed_data_trains_to_the_same_weights(tmp_path):
    argv = [*DIGITS, "--steps", "50", "--quiet", "--augment", "crop:1"]
    for placement in ("resident", "streamed"):
        assert train.main([*argv, "--placement", placement, "--out", str(tmp_path / placement)]) == 0
    resident, streamed = (
        safetensors.torch.load_file(tmp_path / name / "weights.safetensors") for name in ("resident", "streamed")
    )
    for name, value in resident.items():
        torch.testing.assert_close(value, streamed[name], rtol=1e-4, atol=1e-5)


def test_several_devices_train_to_the_same_accuracy(tmp_path, run):
    out = tmp_path / "r"
    assert (
        train.main(
            [*DIGITS, "--epochs", "4", "--devices", "4", "--chunk-steps", "5", "--quiet", "--out", str(out)]
        )
        == 0
    )
    accuracy = json.loads((out / "summary.json").read_text())["accuracy"]
    assert accuracy == pytest.approx(json.loads((run / "summary.json").read_text())["accuracy"], abs=0.02)


@pytest.mark.parametrize(
    "split",
    [["--devices", "2", "--stages", "2"], ["--devices", "4", "--tensor", "4"], ["--devices", "4", "--fsdp"]],
    ids=" ".join,
)
def test_a_split_model_trains_to_the_same_weights_and_resumes_on_one_device(split, tmp_path):
    argv = [*DIGITS, "--dropout", "0", "--chunk-steps", "5", "--quiet"]
    assert train.main([*argv, "--steps", "10", "--out", str(tmp_path / "whole")]) == 0
    out = ["--out", str(tmp_path / "split")]
    assert train.main([*argv, "--steps", "5", *split, *out]) == 0
    assert train.main([*argv, "--steps", "10", "--resume", *out]) == 0
    whole, parts = (
        safetensors.torch.load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "split")
    )
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def test_a_second_run_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert train.main(["--dataset", "digits", "--steps", "1", "--quiet", "--no-tensorboard"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["digits-net-1", "digits-net-2"]
    assert not (tmp_path / "runs" / "digits-net-1" / "tensorboard").exists()
