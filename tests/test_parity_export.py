"""Artefacts against torch's own exported program, from the same weights.safetensors."""

import jax
import numpy as np
import pytest
import torch
from exporting import assert_near
from flax import nnx

from jaxdl.engine import weights
from jaxdl.methods.export import formats
from jaxdl.methods.export.program import program
from jaxdl.models import MODELS
from jaxdl.pictures import Pictures
from parity.twins.cnn import TorchCNN
from parity.twins.export import exported
from parity.twins.net import TorchNet

SHAPE, CLASSES, MEAN, STD = (28, 28, 1), tuple("0123456789"), (0.1307,), (0.3081,)


@pytest.mark.parametrize(("name", "twin"), [("net", TorchNet), ("cnn", TorchCNN)])
def test_every_artefact_gives_the_logits_of_torchs_program(name, twin, tmp_path):
    model = MODELS[name](SHAPE, 10, rngs=nnx.Rngs(params=jax.random.key(1)))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    weights.save(tmp_path / "weights.safetensors", model, params, {})
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    theirs = exported(twin(), tmp_path / "weights.safetensors", MEAN, STD, torch.tensor(images))
    with torch.no_grad():
        expected = {count: theirs(torch.tensor(images[:count])).numpy() for count in (2, 5)}
    view = nnx.view(model, deterministic=True, raise_if_not_found=False)
    ours = program(view, Pictures(SHAPE, CLASSES, MEAN, STD).inputs(), SHAPE, CLASSES)
    for form in formats.chosen(()).values():
        if not form.int8:
            form.write(ours, tmp_path / form.file, images)
            loaded = form.load(tmp_path / form.file)
            for count, logits in expected.items():
                assert_near(loaded.run(images[:count]), logits)
