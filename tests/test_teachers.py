import dataclasses

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from flax import nnx

from jaxdl import parts, teachers, tree
from jaxdl.config import ModelOptions
from jaxdl.data import sources
from jaxdl.engine import weights
from jaxdl.methods import distill
from jaxdl.pictures import Pictures

DIGITS = sources.load("digits")
SEEN = Pictures((8, 8, 1), DIGITS.classes)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "net", "hidden": 24, "depth": 3},
        {"model": "cnn", "hidden": 9, "channels": (3, 5)},
        {"model": "resnet18", "stem": "cifar"},
        {"model": "resnet34", "stem": "imagenet"},
        {"model": "resnet50", "stem": "cifar"},
        {"model": "vit", "hidden": 128, "patch": 2, "depth": 12, "heads": 2},
    ],
    ids=lambda options: options["model"],
)
def test_a_model_is_read_off_its_weights(options):
    net = nnx.eval_shape(lambda: parts.model(ModelOptions(**options), SEEN, jax.random.key(0)))
    known = weights.layouts(net)
    values = tree.flatten(nnx.to_pure_dict(nnx.state(net, (nnx.Param, nnx.BatchStat))))
    blank = {name: np.broadcast_to(np.float32(0), value.shape) for name, value in values.items()}
    there = {name: known[name].permuted(value) if known[name] else value for name, value in blank.items()}
    assert teachers.recognise(there) == options


def test_weights_of_no_known_model_are_an_error():
    with pytest.raises(ValueError, match=r"expected weights of net, cnn, .*; got 0.weight, 0.bias"):
        teachers.recognise({"0.weight": np.zeros((2, 2)), "0.bias": np.zeros(2)})


@pytest.fixture
def torch_file(tmp_path):
    """A torch module's weights, and what it says of an image in [0, 1], normalized."""
    torch.manual_seed(0)
    module = torch.nn.Sequential()
    module.fc1, module.fc2 = torch.nn.Linear(64, 24), torch.nn.Linear(24, 10)
    safetensors.torch.save_file(module.state_dict(), tmp_path / "teacher.safetensors")

    def say(images):
        flat = (torch.tensor(images).float() / 255 - 0.3) / 0.4
        return module.fc2(torch.relu(module.fc1(flat.reshape(len(flat), -1)))).detach().numpy()

    return tmp_path / "teacher.safetensors", say


def test_a_torch_checkpoint_teaches(torch_file):
    path, say = torch_file
    trained = teachers.load(path, DIGITS, (0.3,), (0.4,))
    said = distill.answers(distill.teacher([teachers.stored_images(trained)]), DIGITS.test)
    np.testing.assert_allclose(said[distill.LOGITS], say(DIGITS.test["image"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("own", [((), ()), ((0.3,), (0.4,)), ((0.1,), (2.0,))])
def test_images_that_are_prepared_for_the_student_are_made_the_teachers(torch_file, own):
    path, say = torch_file
    trained, seen = teachers.load(path, DIGITS, (0.3,), (0.4,)), dataclasses.replace(SEEN, mean=own[0], std=own[1])
    ask = distill.teacher([teachers.prepared_images(trained, seen)])
    stored = {name: np.asarray(rows[:7]) for name, rows in DIGITS.test.items()}
    prepared = seen.inputs()(jax.random.key(0), stored)
    np.testing.assert_allclose(ask(prepared)[distill.LOGITS], say(stored["image"]), rtol=1e-3, atol=1e-4)


def test_a_pickle_is_refused_with_what_to_do(tmp_path):
    torch.save({}, tmp_path / "teacher.pt")
    with pytest.raises(
        ValueError, match=r"expected a run's folder or a .safetensors file.*safetensors.torch.save_file"
    ):
        teachers.load(tmp_path / "teacher.pt", DIGITS)


def test_a_teacher_of_other_classes_or_images_is_an_error(torch_file):
    trained = teachers.load(torch_file[0], DIGITS)
    other = dataclasses.replace(DIGITS, classes=("cat", "dog"))
    with pytest.raises(ValueError, match=r"knows 10 classes \(0, 1, 2, 3, ...\), digits has 2 \(cat, dog\)"):
        teachers.check(trained, other, torch_file[0])
    wide = dataclasses.replace(
        DIGITS, train={"image": np.zeros((1, 9, 9, 3), np.uint8), "label": np.zeros(1, int)}
    )
    with pytest.raises(ValueError, match=r"takes images \(8, 8, 1\), digits has \(9, 9, 3\)"):
        teachers.check(trained, wide, torch_file[0])


def test_a_file_of_another_number_of_classes_is_an_error(torch_file):
    with pytest.raises(ValueError, match="does not fit the model: fc2"):
        teachers.load(torch_file[0], dataclasses.replace(DIGITS, classes=("a", "b")))
