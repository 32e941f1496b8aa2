import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jaxdl import files, inference, parts
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.data import sources
from jaxdl.engine import weights
from jaxdl.pictures import Pictures

SOURCE = sources.load("digits")
CONFIG = replace(TrainConfig(), {"dataset": "digits", "hidden": 8, "normalize": True})
SEEN = Pictures.of(SOURCE, CONFIG.data)
IMAGES = SOURCE.test["image"][:5]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a run leaves of a model as drawn."""
    path = tmp_path_factory.mktemp("runs") / "drawn"
    path.mkdir()
    net = parts.model(CONFIG.model, SEEN, jax.random.key(7))
    params = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    weights.save(path / "weights.safetensors", net, params, {})
    known = {"options": to_dict(CONFIG), "images": dataclasses.asdict(SEEN)}
    files.write_json(path / "config.json", known)
    return path


def test_it_predicts_as_its_weights_say(run):
    arrays = safetensors.numpy.load_file(run / "weights.safetensors")
    x = ((IMAGES / 255 - SEEN.mean) / SEEN.std).reshape(5, -1)
    hidden = np.maximum(x @ arrays["fc1.weight"].T + arrays["fc1.bias"], 0)
    logits = hidden @ arrays["fc2.weight"].T + arrays["fc2.bias"]
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(inference.load(run).predict(IMAGES), expected, rtol=1e-5)


def test_it_is_measured_on_every_test_image(run):
    trained, test = inference.load(run), SOURCE.test
    said = trained.predict(np.asarray(test["image"]))
    found = trained.evaluate(SOURCE)
    assert found["accuracy"] == pytest.approx((said.argmax(-1) == test["label"]).mean())
    own = said[np.arange(len(said)), test["label"]]
    assert found["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)


def test_other_images_are_an_error(run):
    other = dataclasses.replace(SOURCE, classes=tuple("ab"))
    with pytest.raises(ValueError, match=r"trained on images \(8, 8, 1\) of 10 classes; digits has .* of 2"):
        inference.load(run).evaluate(other)


def test_a_packed_file_is_the_run(run, tmp_path):
    path = tmp_path / "packed.safetensors"
    size = inference.pack(path, CONFIG, SEEN, weights.read(run / "weights.safetensors"))
    assert size == path.stat().st_size
    packed = inference.load(path)
    assert (packed.config.model, packed.seen) == (CONFIG.model, SEEN)
    np.testing.assert_array_equal(packed.predict(IMAGES), inference.load(run).predict(IMAGES))


def test_what_is_no_run_is_an_error(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        inference.load(tmp_path)
    files.write_json(tmp_path / "config.json", files.read_json(run / "config.json", ""))
    with pytest.raises(FileNotFoundError, match="has not ended yet"):
        inference.load(tmp_path)


def test_its_form_says_which_weights_are_expected(run):
    with pytest.raises(ValueError, match=r"fc1\.bias is not in the model; .*; inner\.fc1\.bias is missing"):
        inference.trained(
            CONFIG, dataclasses.asdict(SEEN), run / "weights.safetensors", lambda net: nnx.Dict(inner=net)
        )
