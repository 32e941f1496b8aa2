"""The command as a user runs it, on the embedded digits."""

import json

import pytest
import safetensors.numpy
from PIL import Image

from jaxdl import inference
from jaxdl.data import sources
from jaxdl.methods.multitask import tasks
from jaxdl.multitask import __main__ as multitask

TRAIN = ["--dataset", "digits", "--optimizer", "adam", "--lr", "0.01", "--hidden", "16", "--epochs", "3"]
QUIET = ["--quiet", "--no-tensorboard"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    assert multitask.main([*TRAIN, *QUIET, "--tasks", "label", "slant", "--out", str(out)]) == 0
    return out


def test_the_end_is_a_table_of_the_tasks_together_and_alone(run):
    rows = {row["name"]: row["errors"] for row in json.loads((run / "multitask.json").read_text())}
    assert list(rows) == ["together", "label alone", "slant alone"]
    assert set(rows["together"]) == {"label", "slant"}
    assert set(rows["slant alone"]) == {"slant"}
    accuracy = json.loads((run / "summary.json").read_text())["accuracy"]
    assert rows["together"]["label"] == pytest.approx(1 - accuracy, abs=1e-6)
    spread = float(tasks.slant(sources.load("digits").test, 10).std())  # the error of who always says the mean
    for name in ("together", "slant alone"):
        assert 0 < rows[name]["slant"] < 0.8 * spread
    with Image.open(run / "multitask.png") as image:
        assert image.format == "PNG"


def test_the_run_is_a_plain_classifier_and_the_heads_lie_beside_it(run):
    assert set(inference.load(run).state.params) == {"fc1", "fc2"}
    assert inference.load(run).evaluate(sources.load("digits"))["accuracy"] > 0.7
    arrays = safetensors.numpy.load_file(run / "multitask.safetensors")
    assert {"model.fc1.weight", "heads.slant.weight", "heads.slant.bias"} <= set(arrays)


def test_gradients_that_are_looked_at_train_and_resume(tmp_path, capsys):
    how = ["--weighting", "gradnorm", "--pcgrad", "--no-alone"]
    assert multitask.main([*TRAIN, *QUIET, *how, "--out", str(tmp_path / "r")]) == 0
    first = (tmp_path / "r" / "multitask.json").read_text()
    assert multitask.main(["--out", str(tmp_path / "r"), "--resume"]) == 0
    assert (tmp_path / "r" / "multitask.json").read_text() == first
    errors = json.loads(first)[0]["errors"]
    assert errors["label"] < 0.5
    assert errors["parity"] < 0.4
    assert "degrees off" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--tasks", "label", "sex"], "unknown task 'sex'"),
        (["--tasks", "label", "label"], "each once; got label, label"),
        (["--weights", "1", "2"], "--weights expects one number for each of label, parity, slant"),
        (["--augment", "rotate:10"], "--augment rotate:10 would change the slant of an image"),
        (["--tasks", "label", "parity", "--augment", "mixup"], "--augment mixup mixes labels, and only those"),
        (["--weightning", "fixed"], "unknown option --weightning; did you mean --weighting?"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, argv, message, mistake):
    said = mistake(multitask.main, [*TRAIN, *argv, "--out", str(tmp_path / "r")])
    assert said.err.startswith("jaxdl.multitask: error: ")
    assert message in said.err
    assert not (tmp_path / "r").exists()
