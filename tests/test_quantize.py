import json

import numpy as np
import pytest
import safetensors.numpy

from jaxdl import predict, train
from jaxdl.quantize import __main__ as quantize


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    argv = ["--dataset", "digits", "--optimizer", "adam", "--epochs", "5", "--quiet", "--no-tensorboard"]
    assert train.main([*argv, "--normalize", "--hidden", "32", "--out", str(out)]) == 0
    return out


def quantized(run, out, *argv):
    assert quantize.main([str(run), "--out", str(out), "--calibration-images", "200", *argv]) == 0
    return json.loads((out / "quantize.json").read_text())["rows"]


@pytest.mark.parametrize("argv", [[], ["--method", "dynamic"], ["--no-per-channel", "--calibration", "histogram"]])
def test_a_run_in_int8_is_smaller_as_good_and_usable_like_a_run(run, tmp_path, argv, capsys):
    rows = quantized(run, tmp_path / "q", "--no-onnx", *argv)
    assert [row["form"] for row in rows] == ["float32", "int8"]
    assert rows[1]["accuracy"] > rows[0]["accuracy"] - 0.02
    assert rows[1]["bytes"] < 0.45 * rows[0]["bytes"]  # 2410 weights only: names and scales take their part
    assert (tmp_path / "q" / "quantize.png").exists()
    capsys.readouterr()
    assert predict.main([str(tmp_path / "q"), "--evaluate"]) == 0
    assert f"on the 360 test images: {rows[1]['accuracy']:.2%}" in capsys.readouterr().out


def test_onnx_files_are_measured_too(run, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    rows = quantized(run, tmp_path / "q")
    assert [(row["runtime"], row["form"]) for row in rows[2:]] == [
        ("onnxruntime", "float32"),
        ("onnxruntime", "int8"),
    ]
    assert rows[2]["agreement"] == 1
    assert rows[3]["accuracy"] == pytest.approx(rows[1]["accuracy"], abs=0.003)  # one image of 360


def test_training_for_int8_starts_from_the_run_and_ends_in_int8(run, tmp_path, capsys):
    argv = ["--method", "qat", "--epochs", "2", "--lr", "0.001", "--no-tensorboard", "--no-onnx"]
    rows = quantized(run, tmp_path / "q", *argv)
    assert rows[1]["accuracy"] > rows[0]["accuracy"] - 0.02
    weights = [
        safetensors.numpy.load_file(folder / "weights.safetensors")["fc1.weight"]
        for folder in (run, tmp_path / "q")
    ]
    assert 0 < np.abs(weights[1] - weights[0]).max() < 0.1
    capsys.readouterr()
    assert predict.main([str(tmp_path / "q"), "--evaluate"]) == 0
    assert f"{rows[1]['accuracy']:.2%}" in capsys.readouterr().out


def test_training_for_int8_goes_on_where_it_was_stopped(run, tmp_path):
    options = ["--method", "qat", "--no-tensorboard", "--no-onnx", "--schedule", "constant", "--save-every", "10"]
    quantized(run, tmp_path / "parts", *options, "--steps", "10")
    quantized(run, tmp_path / "parts", *options, "--steps", "20", "--resume")
    quantized(run, tmp_path / "once", *options, "--steps", "20")
    files = [(tmp_path / name / "quantized.safetensors").read_bytes() for name in ("parts", "once")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected the folder of a run"),
        (["{tmp}"], "holds no run (no config.json in it)"),
        (["{tmp}/unfinished"], "the run has not ended yet"),
        (["{run}", "--calibration-images", "0"], "--calibration-images must lie between 1 and the 1437"),
        (["{run}", "--calibration-images", "9999"], "--calibration-images must lie between 1 and the 1437"),
        (["{run}", "--calibration", "percentile", "--percentile", "0"], "--percentile must be above 0"),
        (["{run}", "--method", "static", "--epochs", "3"], "--epochs has no meaning for --method static"),
        (["{run}", "--method", "fp4"], "fp4"),
        (["{run}", "--methd", "qat"], "unknown option --methd; did you mean --method?"),
        (["{run}", "--out", "{run}"], "holds a run already"),
        (["{broken}"], "fc1 cannot be quantized: a weight is NaN or infinite"),
        (["{broken}", "--method", "dynamic"], "fc1 cannot be quantized: a weight is NaN or infinite"),
        (["--compare", "{run}"], "no report at"),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, argv, message, mistake):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_bytes((run / "config.json").read_bytes())
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((run / "config.json").read_bytes())
    arrays = safetensors.numpy.load_file(run / "weights.safetensors")
    arrays["fc1.weight"][0, 0] = np.nan
    safetensors.numpy.save_file(arrays, broken / "weights.safetensors", {"format": "pt"})
    argv = [part.format(run=run, tmp=tmp_path, broken=broken) for part in argv]
    argv += [] if "--out" in argv else ["--out", str(tmp_path / "new")]
    said = mistake(quantize.main, argv)
    assert message in said.err
    assert said.err.startswith("jaxdl.quantize: error: ")


def test_what_is_in_int8_is_not_quantized_again(run, tmp_path, capsys):
    quantized(run, tmp_path / "q", "--no-onnx")
    capsys.readouterr()
    assert quantize.main([str(tmp_path / "q"), "--out", str(tmp_path / "again")]) == 2
    assert "is in int8 already" in capsys.readouterr().err


def test_int8_is_not_trained_further(run, tmp_path, capsys):
    quantized(run, tmp_path / "q", "--no-onnx")
    capsys.readouterr()
    assert train.main(["--out", str(tmp_path / "q"), "--resume"]) == 2
    assert "was written by python -m jaxdl.quantize; only that command goes on with it" in capsys.readouterr().err
