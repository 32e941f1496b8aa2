"""The folder with a model in int8."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from jaxdl import inference, train
from jaxdl.data import sources
from jaxdl.quantize import codes
from jaxdl.quantize.options import QuantizeOptions

OPTIONS = QuantizeOptions(calibration_images=200)
SOURCE = sources.load("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    argv = ["--dataset", "digits", "--model", "cnn", "--channels", "3", "4", "--hidden", "12", "--steps", "30"]
    assert train.main([*argv, "--precision", "bfloat16", "--quiet", "--no-tensorboard", "--out", str(out)]) == 0
    return out


@pytest.fixture
def folder(run, tmp_path):
    """What `codes.save` leaves, with the options beside it."""
    trained = inference.load(run)
    codes.save(tmp_path, trained, OPTIONS, codes.calibrated(trained, SOURCE, OPTIONS))
    recorded = json.loads((run / "config.json").read_text()) | {"technique": {"method": "static"}}
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    return tmp_path


def test_the_file_holds_int8_in_torchs_layouts(folder):
    arrays = safetensors.numpy.load_file(folder / "quantized.safetensors")
    shapes = {"conv1": (3, 1, 3, 3), "conv2": (4, 3, 3, 3), "fc1": (12, 16), "fc2": (10, 12)}
    expected = {}
    for name, shape in shapes.items():
        expected |= {f"{name}.weight": ("int8", shape), f"{name}.bias": ("float32", shape[:1])}
        expected |= {f"{name}.weight_scale": ("float32", shape[:1]), f"{name}.input_scale": ("float32", ())}
        expected |= {f"{name}.input_zero_point": ("int8", ())}
    assert {name: (str(array.dtype), array.shape) for name, array in arrays.items()} == expected


def test_what_is_loaded_is_what_was_saved(run, folder):
    loaded, images = codes.load(folder), np.asarray(SOURCE.test["image"][np.arange(50)])
    assert loaded.config.run.precision == "float32"  # whatever the run was trained in
    # bfloat16 and int8 each move a probability by a hundredth at most; it is no exact copy either.
    assert 0 < np.abs(loaded.predict(images) - inference.load(run).predict(images)).max() < 0.05


def test_options_are_those_it_was_made_with(folder):
    assert codes.options_of(folder) == QuantizeOptions(method="static")


def test_a_folder_of_another_kind_is_an_error(run):
    with pytest.raises(FileNotFoundError, match="holds no model in int8"):
        codes.load(run)


def test_a_damaged_file_is_an_error(folder):
    file = folder / "quantized.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        codes.load(folder)


def test_codes_of_another_model_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    config["options"]["hidden"] = 13
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"does not fit the model: fc1\.bias: expected shape"):
        codes.load(folder)


def test_weights_of_float32_are_not_codes(run, folder):
    shutil.copy(run / "weights.safetensors", folder / "quantized.safetensors")
    with pytest.raises(ValueError, match=r"fc1\.weight: expected int8, got float32"):
        codes.load(folder)
