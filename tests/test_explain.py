"""Advice as a user asks for it: other data, other advice."""

import shlex

import numpy as np
import pytest
from PIL import Image

from jaxdl import explain, train
from jaxdl.config import TrainConfig, parse
from jaxdl.data import npz
from jaxdl.methods import survey
from jaxdl.methods.advice import Trial

DRAW = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(survey, "LIMIT", 600)


@pytest.fixture
def no_trials(monkeypatch):
    """What is asked is the look at the data: all models come as far."""

    def trial(config, part):
        return Trial(
            config.model.model, config.optim.optimizer, 0.01, 0.1, 0.9, 0.9, len(part.test["label"]), 0.001
        )

    monkeypatch.setattr(explain, "trial", trial)


def advised(argv, capsys):
    """What is printed, and the options of the command line at its end."""
    assert train.main(["--explain", *map(str, argv)]) == 0
    said = capsys.readouterr().out
    words = shlex.split(said.splitlines()[-1])
    assert words[:3] == ["python", "-m", "jaxdl.train"]
    return said, parse(TrainConfig(), words[3:], "test")


@pytest.mark.usefixtures("no_trials")
def test_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said, config = advised(["--dataset", "digits"], capsys)
    assert config.data.dataset == "digits"
    assert config.optim.class_weight == "none"
    assert "flip" not in config.data.augment
    assert "1437 training and 360 test images of 8x8x1, 10 classes of 141 to 146 images" in said
    assert "Machine: 4 x cpu" in said
    assert list(tmp_path.iterdir()) == []  # nothing is trained


@pytest.mark.usefixtures("no_trials")
def test_imbalanced_features(tmp_path, capsys):
    """Numbers in no order, nine of ten of one class."""
    label = (DRAW.random(700) < 0.1).astype(np.uint8)
    image = (DRAW.integers(0, 200, (700, 1, 40)) + 50 * label[:, None, None] * (np.arange(40) % 3 == 0)).astype(
        np.uint8
    )
    arrays = {"x_train": image[:600], "y_train": label[:600], "x_test": image[600:], "y_test": label[600:]}
    npz.write(tmp_path / "made.npz", arrays)
    said, config = advised(["--dataset", "npz", "--data-dir", tmp_path / "made.npz"], capsys)
    assert (config.model.model, config.optim.class_weight, config.data.augment) == ("net", "balanced", "")
    assert "convolutions have nothing to go by" in said


@pytest.mark.usefixtures("no_trials")
def test_a_folder_in_colour(tmp_path, capsys):
    """Smooth red and green blobs, which a mirror leaves as they are."""
    for split, count in (("train", 40), ("test", 6)):
        for place, name in enumerate(("green", "red")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                y, x = np.mgrid[:12, :12] - DRAW.uniform(3, 8, (2, 1, 1))
                pixels = DRAW.uniform(0, 30, (12, 12, 3))
                pixels[..., 1 - place] += 200 * np.exp(-(y**2 + x**2) / 10)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    said, config = advised(["--dataset", "folder", "--data-dir", tmp_path], capsys)
    assert "80 training and 12 test images of 12x12x3, 2 classes of 40 to 40 images" in said
    assert "flip" in config.data.augment


def test_the_command_has_only_what_is_not_the_default():
    options = {"dataset": "npz", "data_dir": "a b", "lr": 0.003, "normalize": True, "epochs": 10, "dropout": 0.0}
    assert (
        explain.command(options) == "python -m jaxdl.train --dataset npz --data-dir 'a b' --lr 0.003 --normalize"
    )


def test_data_that_tell_nothing_are_an_error(tmp_path, capsys):
    arrays = {"x": np.zeros((5, 4, 4), np.uint8), "y": np.array([0, 1, 0, 1, 0])}
    npz.write(tmp_path / "few.npz", {f"{a}_{part}": v for part in ("train", "test") for a, v in arrays.items()})
    assert train.main(["--explain", "--dataset", "npz", "--data-dir", str(tmp_path / "few.npz")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxdl.train: error: expected at least 30 training images of two classes")
    assert said.count("\n") == 1
