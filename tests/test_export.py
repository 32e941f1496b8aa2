import json
import subprocess

import numpy as np
import pytest

from jaxdl import export, train
from jaxdl.data import sources
from jaxdl.methods.export import c
from jaxdl.methods.export.formats import FORMATS

NAMES = [name for name, form in FORMATS.items() if not form.missing()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    argv = ["--dataset", "digits", "--optimizer", "adam", "--epochs", "5", "--quiet", "--no-tensorboard"]
    assert train.main([*argv, "--normalize", "--out", str(out)]) == 0
    return out


def test_every_artefact_is_written_compared_and_described(run, tmp_path, capsys):
    assert export.main([str(run), "--out", str(tmp_path)]) == 0
    described = json.loads((tmp_path / "export.json").read_text())
    rows = described["artefacts"]
    assert list(rows) == ["model", *NAMES]
    assert described["input"] == {"name": "image", "type": "uint8", "shape": ["batch", 8, 8, 1]}
    assert described["output"]["shape"] == ["batch", 10]
    assert described["classes"] == list("0123456789")
    assert described["test_images"] == 360
    accuracy = json.loads((run / "summary.json").read_text())["accuracy"]
    assert rows["model"]["accuracy"] == pytest.approx(accuracy)
    for name in NAMES:
        assert (tmp_path / FORMATS[name].file).stat().st_size > 0
        assert rows[name]["latency"] > 0
        if not FORMATS[name].int8:
            assert rows[name]["agreement"] == 1
            assert rows[name]["max_difference"] < 1e-4
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"net: 360 test images of digits -> {tmp_path}"
    assert [line.split()[0] for line in said[1 : 3 + len(NAMES)]] == ["artefact", "model", *NAMES]


@pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")
def test_digits_are_classified_without_python(run, tmp_path):
    assert export.main([str(run), "--out", str(tmp_path), "--formats", "c", "c-int8"]) == 0
    test = sources.load("digits").test
    for name in ("model.c", "model-int8.c"):
        c.build(tmp_path / name, tmp_path / "model")
        right = 0
        for place in range(40):
            path = tmp_path / f"{place}.pgm"
            path.write_bytes(b"P5 8 8 255\n" + np.asarray(test["image"][place]).tobytes())
            said = subprocess.run([tmp_path / "model", path], capture_output=True, text=True, check=True).stdout
            right += said.startswith(f"{path}: {test['label'][place]} (")
        assert right >= 36


def test_an_artefact_that_differs_is_deleted_with_status_1(run, tmp_path, capsys, monkeypatch):
    from jaxdl.methods.export import c_operations

    faulty = {**c_operations.EXPRESSIONS, "relu": "{0} > 0 ? {0} : 0.001f * {0}"}
    monkeypatch.setattr(c_operations, "EXPRESSIONS", faulty)
    assert export.main([str(run), "--out", str(tmp_path), "--formats", "c", "stablehlo"]) == 1
    assert "error: c: its outputs differ from the model's by" in capsys.readouterr().err
    assert not (tmp_path / "model.c").exists()
    assert (tmp_path / "model.stablehlo").exists()
    assert list(json.loads((tmp_path / "export.json").read_text())["artefacts"]) == ["model", "stablehlo"]


def test_fewer_images_are_enough_for_a_first_look(run, tmp_path, capsys):
    argv = [str(run), "--out", str(tmp_path), "--formats", "stablehlo", "--test-images", "50"]
    assert export.main(argv) == 0
    assert capsys.readouterr().out.startswith("net: 50 test images of digits")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected a run's folder"),
        (["{tmp}"], "holds no run (no config.json in it)"),
        (["{unfinished}"], "the run has not ended yet"),
        (["{run}", "--formats", "onxx"], "got onxx; did you mean onnx?"),
        (["{run}", "--format", "c"], "unknown option --format; did you mean --formats?"),
        (["{run}", "--calibration", "0"], "must be at least 1"),
        (["{run}", "--data-dir", "{tmp}"], "embedded"),
        (["{run}", "--out", "{file}"], "File exists"),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, argv, message, mistake):
    unfinished, file = tmp_path / "u", tmp_path / "file"
    unfinished.mkdir()
    (unfinished / "config.json").write_bytes((run / "config.json").read_bytes())
    file.write_text("")
    argv = [part.format(run=run, tmp=tmp_path, unfinished=unfinished, file=file) for part in argv]
    said = mistake(export.main, argv)
    assert message in said.err
    assert said.err.startswith("jaxdl.export: error: ")


def test_a_format_that_cannot_express_the_model(run, tmp_path, capsys, monkeypatch):
    """Asked for, it is an error; otherwise the others are written."""
    from jaxdl.methods.export import lowering

    monkeypatch.delitem(lowering.TABLE, "dot_general")
    assert export.main([str(run), "--out", str(tmp_path), "--formats", "c"]) == 2
    assert "the operation dot_general of the model (" in capsys.readouterr().err
    assert export.main([str(run), "--out", str(tmp_path), "--test-images", "20"]) == 0
    assert "c is left out: the operation dot_general" in capsys.readouterr().out
    assert (tmp_path / "model.stablehlo").exists()
