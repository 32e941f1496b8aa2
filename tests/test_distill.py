"""The command as a user runs it, on the embedded digits."""

import json

import pytest
from PIL import Image

from jaxdl import train
from jaxdl.data import sources
from jaxdl.distill import __main__ as distill
from jaxdl.engine.run_folder import read_config

COMMON = ["--quiet", "--no-tensorboard"]
STUDENT = ["--dataset", "digits", "--optimizer", "adam", "--lr", "0.01", "--hidden", "8", "--epochs", "1", *COMMON]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "teacher"
    argv = ["--dataset", "digits", "--optimizer", "adam", "--lr", "0.01", "--epochs", "2", "--normalize", *COMMON]
    assert train.main([*argv, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def run(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "student"
    argv = ["--teacher", str(teacher), *STUDENT, "--generations", "2", "--hint", "fc1", "fc1", "--out", str(out)]
    assert distill.main(argv) == 0
    return out


def test_the_end_is_a_table_of_teacher_and_students(run, teacher):
    rows = {row["name"]: row for row in json.loads((run / "distill.json").read_text())}
    assert list(rows) == ["teacher", "student", "generation 2", "student alone", "all generations together"]
    summaries = {
        "teacher": teacher,
        "student": run,
        "generation 2": run / "generation-2",
        "student alone": run / "alone",
    }
    for name, folder in summaries.items():
        summary = json.loads((folder / "summary.json").read_text())
        assert rows[name]["accuracy"] == pytest.approx(summary["accuracy"], abs=1e-6)
        assert rows[name]["loss"] == pytest.approx(summary["loss"], rel=1e-4)
        assert rows[name]["parameters"] == summary["parameters"]
    assert rows["teacher"]["agreement"] == 1
    with Image.open(run / "distill.png") as image:
        assert image.format == "PNG"


def test_the_student_is_a_plain_run_without_its_regressor(run):
    from jaxdl import inference

    trained = inference.load(run)
    assert set(trained.state.params) == {"fc1", "fc2"}
    assert trained.evaluate(sources.load("digits"))["accuracy"] > 0.3
    assert read_config(run)["technique"]["teacher"]
    assert read_config(run / "generation-2")["technique"]["teacher"] == [str(run)]


def test_a_finished_run_is_only_reported_again(run, capsys):
    before = (run / "weights.safetensors").read_bytes(), (run / "distill.json").read_text()
    assert distill.main(["--out", str(run), "--resume"]) == 0
    assert ((run / "weights.safetensors").read_bytes(), (run / "distill.json").read_text()) == before
    assert "The teacher was worth" in capsys.readouterr().out


def test_augmented_images_and_several_teachers(teacher, run, tmp_path, capsys):
    few = ["--images", "20", "--augment", "crop:1", "--steps", "3", "--no-alone"]
    argv = ["--teacher", str(teacher), str(run), *STUDENT, *few]
    assert distill.main([*argv, "--out", str(tmp_path / "r")]) == 0
    shown = capsys.readouterr().out
    assert "2 teachers" in shown
    assert "worth" not in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected a teacher: --teacher RUN; see --help"),
        (["--teacher", "{tmp}/none"], "holds no run (no config.json in it)"),
        (["--teacher", "{teacher}", "--generations", "0"], "--generations must be at least 1; got 0"),
        (["--teacher", "{teacher}", "--images", "3"], "expected from 10 (one a class) to 1437 training images"),
        (["--teacher", "{teacher}", "--temperature", "0"], "the temperature must be above 0; got 0.0"),
        (
            ["--teacher", "{teacher}", "--soft-weight", "2"],
            "the weight of soft targets must lie in [0, 1]; got 2.0",
        ),
        (["--teacher", "{teacher}", "--hint", "fc7", "fc1"], "the model has no layer fc7"),
        (["--teacher", "{teacher}", "--hint", "fc1", "fc7"], "the model has no layer fc7"),
        (["--teacher", "{teacher}", "{teacher}", "--hint", "fc1", "fc1"], "a hint is of one teacher; got 2"),
        (
            ["--teacher", "{teacher}", "--temprature", "2"],
            "unknown option --temprature; did you mean --temperature?",
        ),
    ],
)
def test_a_mistake_is_one_line(teacher, tmp_path, argv, message, mistake):
    argv = [part.format(teacher=teacher, tmp=tmp_path) for part in argv]
    said = mistake(distill.main, [*argv, *STUDENT, "--out", str(tmp_path / "r")])
    assert said.err.startswith("jaxdl.distill: error: ")
    assert message in said.err
    assert not (tmp_path / "r").exists()
