"""Fine-tuning as a user runs it, from a run on the digits."""

import json

import numpy as np
import pytest
import safetensors.numpy

from jaxdl import predict, train
from jaxdl.data import npz, sources
from jaxdl.finetune import __main__ as finetune

QUICK = ["--no-tensorboard", "--steps", "12"]


def weights(run):
    return safetensors.numpy.load_file(run / "weights.safetensors")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small network that knows the digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    argv = ["--dataset", "digits", "--hidden", "12", "--optimizer", "adam", "--epochs", "4", "--normalize"]
    assert train.main([*argv, "--lr", "0.01", "--quiet", "--no-tensorboard", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The digits 0 to 4 in colour and of 10x10 pixels, as a .npz file."""
    digits, arrays = sources.load("digits"), {}
    for name, split in (("train", digits.train), ("test", digits.test)):
        chosen = split["label"] < 5
        image = np.pad(split["image"][chosen], ((0, 0), (1, 1), (1, 1), (0, 0)))
        arrays |= {f"x_{name}": np.repeat(image, 3, -1), f"y_{name}": split["label"][chosen]}
    path = tmp_path_factory.mktemp("data") / "five.npz"
    npz.write(path, arrays)
    return path


def five(path):
    return ["--dataset", "npz", "--data-dir", str(path), "--fit", "center"]


def test_a_new_head_for_other_classes_on_a_frozen_body(run, others, tmp_path, capsys):
    out = tmp_path / "r"
    assert finetune.main([str(run), *five(others), *QUICK, "--freeze", "body", "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:5] == [
        f"from {run}:",
        "  taken: fc1.bias, fc1.weight",
        "  new: fc2.bias (other classes), fc2.weight (other classes)",
        "  skipped in the source: fc2.bias, fc2.weight",
        "  frozen: fc1.bias, fc1.weight",
    ]
    before, after = weights(run), weights(out)
    assert after["fc2.weight"].shape == (5, 12)
    for name in ("fc1.weight", "fc1.bias"):
        assert after[name].tobytes() == before[name].tobytes()
    assert json.loads((out / "summary.json").read_text())["accuracy"] > 0.6  # a head alone, after 12 steps
    kept = json.loads((out / "config.json").read_text())["images"]
    assert kept["mean"] == json.loads((run / "config.json").read_text())["images"]["mean"]
    capsys.readouterr()
    assert predict.main([str(out), "--evaluate"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert f"{summary['accuracy']:.2%}" in capsys.readouterr().out


def test_adapters_are_merged_into_plain_weights(run, tmp_path):
    out = tmp_path / "r"
    argv = [str(run), "--dataset", "digits", "--lora", "2", "--lora-alpha", "4", "--lr", "0.01", "--quiet"]
    assert finetune.main([*argv, *QUICK, "--out", str(out)]) == 0
    before, after = weights(run), weights(out)
    assert before.keys() == after.keys()
    change = after["fc1.weight"].astype(np.float64) - before["fc1.weight"]
    values = np.linalg.svd(change, compute_uv=False)
    assert values[1] > 1e-3
    assert values[2] < 1e-6  # float32's rounding of the sum
    assert after["fc1.bias"].tobytes() == before["fc1.bias"].tobytes()
    assert not np.array_equal(after["fc2.bias"], before["fc2.bias"])  # the head trains
    summary = json.loads((out / "summary.json").read_text())
    assert summary["parameters"] == 12 * 64 + 12 + 12 * 10 + 10


def test_a_run_with_all_options_resumes_bit_for_bit(run, tmp_path):
    argv = [str(run), "--dataset", "digits", "--labels", "40", "--unfreeze-every", "0.2", "--layer-decay", "0.5"]
    argv += ["--lora", "1", "--lr-scale", "fc2.*=2", "--quiet", "--no-tensorboard", "--save-every", "4"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert finetune.main([*argv, "--steps", "12", "--out", str(whole)]) == 0
    assert finetune.main([*argv, "--steps", "8", "--out", str(parts)]) == 0
    assert finetune.main(["--steps", "12", "--out", str(parts), "--resume"]) == 0
    before, after = (path / "weights.safetensors" for path in (whole, parts))
    assert before.read_bytes() == after.read_bytes()


def test_a_torch_checkpoint_under_other_names(run, tmp_path, capsys):
    path = tmp_path / "net.safetensors"
    safetensors.numpy.save_file({f"module.{name}": array for name, array in weights(run).items()}, path)
    argv = [str(path), "--dataset", "digits", "--hidden", "12", *QUICK, "--mean", "0.3", "--std", "0.4"]
    assert finetune.main([*argv, "--out", str(tmp_path / "r")]) == 2
    assert "nothing to take matches '.*': the source has module.fc1.bias" in capsys.readouterr().err
    argv += ["--rename", r"^module\.=", "--lr", "0"]
    assert finetune.main([*argv, "--out", str(tmp_path / "r")]) == 0
    assert weights(tmp_path / "r")["fc2.weight"].tobytes() == weights(run)["fc2.weight"].tobytes()
    assert json.loads((tmp_path / "r" / "config.json").read_text())["images"]["mean"] == [0.3]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected the folder of a run or a .safetensors file; see --help"),
        (["{tmp}/none"], "no weights at {tmp}/none"),
        (["{tmp}"], "{tmp} holds no run (no config.json in it)"),
        (["{unfinished}"], "the run has not ended yet"),
        (["{run}", "--take", "conv.*"], "nothing to take matches 'conv.*'"),
        (["{run}", "--hidden", "13"], "fc1.bias: expected shape (13,), got (12,)"),
        (["{run}", "--freeze", "fc3.*"], "--freeze: no parameter matches 'fc3.*'; the names are fc1.bias"),
        (["{run}", "--freeze", ".*"], "nothing is left to train"),
        (["{run}", "--freeze", "("], "--freeze: '(' is no regular expression"),
        (["{run}", "--labels", "9"], "expected from 10 (one a class) to 1437 training images of digits; got 9"),
        (["{run}", "--labels", "10", "20"], "several numbers of --labels go with --compare-scratch"),
        (["{run}", "--compare-scratch"], "a comparison expects numbers of --labels"),
        (["{run}", "--lora", "13", "--head", "keep"], "expected a rank from 1 to"),
        (["{run}", "--layer-decay", "0"], "--layer-decay expects a factor above 0"),
        (["{run}", "--lr-scale", "fc1=x"], "--lr-scale expects PATTERN=FACTOR, got 'fc1=x'"),
        (["{run}", "--mean", "0.1", "0.2", "--std", "1", "1"], "expected as many numbers in --mean and --std as"),
        (["{run}", "--frezee", "x"], "unknown option --frezee; did you mean --freeze?"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(run, tmp_path, argv, message, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_bytes((run / "config.json").read_bytes())
    words = {"run": run, "tmp": tmp_path, "unfinished": unfinished}
    argv = [word.format(**words) for word in argv]
    said = mistake(finetune.main, [*argv, "--dataset", "digits", "--quiet"])
    assert said.err.startswith("jaxdl.finetune: error: ")
    assert message.format(**words) in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


def test_images_of_another_shape_need_a_way(run, others, tmp_path, capsys):
    argv = [str(run), "--dataset", "npz", "--data-dir", str(others), "--out", str(tmp_path / "r")]
    assert finetune.main(argv) == 2
    assert "the source takes images of 8x8x1, those of npz are 10x10x3; --fit resize scales them" in (
        capsys.readouterr().err
    )


def test_a_run_goes_on_with_the_command_that_began_it(run, tmp_path, capsys):
    out = tmp_path / "r"
    assert finetune.main([str(run), "--dataset", "digits", "--quiet", *QUICK, "--out", str(out)]) == 0
    capsys.readouterr()
    for folder, writer, other in ((out, "finetune", train), (run, "train", finetune)):
        assert other.main(["--out", str(folder), "--resume"]) == 2
        own = other.PROG.removeprefix("python -m ")
        assert capsys.readouterr().err == (
            f"{own}: error: the run in {folder} was written by python -m jaxdl.{writer}; "
            f"only that command goes on with it, not {other.PROG}\n"
        )
    assert finetune.main(["--out", str(out), "--resume", "--quiet"]) == 0
