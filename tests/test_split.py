"""Parts of a trained model: loaded again they give what the whole gives."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from jaxdl import inference
from jaxdl.engine.stages import of_model
from jaxdl.methods.split import split
from jaxdl.models.resnet import BasicBlock, ResNet
from jaxdl.split import main
from jaxdl.train import main as train

SHAPE = (8, 8, 3)
ONE = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A CNN after a few steps on the embedded digits."""
    folder = tmp_path_factory.mktemp("split") / "run"
    options = ["--dataset", "digits", "--model", "cnn", "--hidden", "16", "--channels", "4", "8", "--steps", "20"]
    assert train([*options, "--no-tensorboard", "--quiet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def resnet():
    """A small residual network."""
    return ResNet(SHAPE, block=BasicBlock, layers=(1, 1, 1, 1), stem="cifar", width=4, rngs=nnx.Rngs(0))


def test_parts_one_behind_the_other_are_the_model(resnet):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, *SHAPE)), jnp.float32)
    parts = split(resnet, jax.ShapeDtypeStruct(image.shape, image.dtype), ["layer2", "layer3.0.conv2", "fc"])
    carried = [image]
    for part in parts:
        assert [x.shape for x in carried] == [x.shape for x in part.takes]
        carried = part(*carried)
    whole = nnx.view(resnet, deterministic=True, use_running_average=True, raise_if_not_found=False)(image)
    np.testing.assert_allclose(carried[0], whole, rtol=1e-6, atol=1e-6)
    assert len(parts[2].takes) == 2  # a shortcut passes the cut
    assert list(parts[3].weights) == ["fc.bias", "fc.weight"]


def test_a_part_around_layers(resnet):
    program = of_model(resnet, ONE)[0]
    assert program.layers[0] == "conv1"
    assert program.layers[-1] == "fc"
    assert program.around("layer2", "layer3") == (["layer2", "layer4.0.conv1"], 1)
    assert program.around("conv1", "layer1") == (["layer2.0.conv1"], 0)
    assert program.around("layer4", "fc") == (["layer4"], 1)
    with pytest.raises(ValueError, match="layer layer1 lies in front of layer3; the order is conv1, bn1"):
        program.around("layer3", "layer1")


def test_balanced_parts_have_about_the_same_work(resnet):
    works = [part.stage.work for part in split(resnet, ONE, of_model(resnet, ONE)[0].balanced(3))]
    assert max(works) < 0.5 * sum(works)


def test_the_command_writes_parts_for_any_number_of_images(run, tmp_path, capsys):
    assert main([str(run), "--stages", "2", "--out", str(tmp_path / "parts")]) == 0
    assert "largest difference on 360 test images of digits" in capsys.readouterr().out
    about = json.loads((tmp_path / "parts" / "parts.json").read_text())
    assert [part["file"] for part in about] == ["part1.stablehlo", "part2.stablehlo"]
    trained = inference.load(run)
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(3, *trained.seen.shape)), jnp.float32)
    carried = [images]
    for part in about:
        content = bytearray((tmp_path / "parts" / part["file"]).read_bytes())
        carried = export.deserialize(content).call(*carried)
    np.testing.assert_allclose(carried[0], trained.model(images), rtol=1e-5, atol=1e-5)


def test_the_command_writes_one_part(run, tmp_path):
    assert main([str(run), "--first", "conv2", "--last", "conv2", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part2.stablehlo", "parts.json"]
    (about,) = json.loads((tmp_path / "parts.json").read_text())
    assert about["layers"] == ["conv2"]
    assert about["takes"] == [["batch", "4", "4", "4"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say where to cut"),
        (["--stages", "2", "--cut-at", "fc1"], "one of them"),
        (["--stages", "5"], "a model of 4 layers has no 5 stages"),
        (["--cut-at", "fc3"], "no layer fc3; did you mean fc"),
        (["--first", "fc1", "--last", "conv1"], "conv1 lies in front of fc1"),
    ],
)
def test_wrong_cuts_are_one_line(run, options, message, mistake):
    assert message in mistake(main, [str(run), *options]).err


def test_a_run_that_is_not_there(tmp_path, capsys):
    assert main([str(tmp_path / "none"), "--stages", "2"]) == 2
    assert main(["--stages", "2"]) == 2
    assert "expected a run's folder" in capsys.readouterr().err
