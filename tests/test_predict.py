import json

import numpy as np
import pytest
from PIL import Image

from jaxdl import predict, train
from jaxdl.data import sources


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    argv = ["--dataset", "digits", "--optimizer", "adam", "--epochs", "5", "--quiet", "--no-tensorboard"]
    assert train.main([*argv, "--normalize", "--out", str(out)]) == 0
    return out


@pytest.fixture
def digit(tmp_path):
    """An image file of a test digit, and its label."""
    test = sources.load("digits").test
    Image.fromarray(test["image"][0, :, :, 0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png", int(test["label"][0])


def test_evaluating_again_gives_what_the_run_said(run, capsys):
    assert predict.main([str(run), "--evaluate"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert capsys.readouterr().out.splitlines() == [
        f"Test loss: {summary['loss']:.4f}",
        f"Accuracy of the network on the 360 test images: {summary['accuracy']:.2%}",
    ]


def test_an_image_is_classified(run, digit, capsys):
    path, label = digit
    assert predict.main([str(run), str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: {label} (")


def test_larger_colour_and_inverted_images_are_brought_to_the_models_form(run, digit, tmp_path, capsys):
    path, label = digit
    large = Image.open(path).resize((40, 40)).convert("RGB")
    Image.fromarray(255 - np.asarray(large)).save(tmp_path / "scan.png")
    assert predict.main([str(run), str(tmp_path / "scan.png"), "--resize", "--invert"]) == 0
    assert f": {label} (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected a run's folder and images, or --evaluate"),
        (["{run}"], "expected a run's folder and images, or --evaluate"),
        (["{tmp}", "{digit}"], "holds no run (no config.json in it)"),
        (["{run}", "{tmp}/none.png"], "none.png"),
        (["{run}", "{tmp}/text.png"], "not an image"),
        (["{run}", "{tmp}/large.png"], "has 20x10 pixels, the model takes 8x8; --resize scales it"),
        (["{run}", "--evaluate", "--data-dir", "{tmp}"], "embedded"),
        (["{run}", "--evalute"], "unknown option --evalute; did you mean --evaluate?"),
    ],
)
def test_a_mistake_is_one_line(run, digit, tmp_path, argv, message, mistake):
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("L", (10, 20)).save(tmp_path / "large.png")
    argv = [part.format(run=run, tmp=tmp_path, digit=digit[0]) for part in argv]
    said = mistake(predict.main, argv)
    assert message in said.err
    assert said.err.startswith("jaxdl.predict: error: ")


def test_a_run_without_weights_has_not_ended(run, digit, tmp_path, capsys):
    unfinished = tmp_path / "r"
    unfinished.mkdir()
    (unfinished / "config.json").write_bytes((run / "config.json").read_bytes())
    assert predict.main([str(unfinished), str(digit[0])]) == 2
    assert "the run has not ended yet" in capsys.readouterr().err
