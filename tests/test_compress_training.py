"""What a composition makes of a trained run, before it is trained further."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl import inference, parts, train
from jaxdl.compress.forms import parts_of
from jaxdl.compress.options import CompressConfig
from jaxdl.compress.training import composed_model, technique_of, with_composition
from jaxdl.config import replace
from jaxdl.data import sources
from jaxdl.methods.compose import Composition

OPTIONS = ["--dataset", "digits", "--hidden", "32", "--steps", "40", "--quiet", "--no-tensorboard"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dense"
    assert train.main([*OPTIONS, "--out", str(out)]) == 0
    return out


def composed(run, composition):
    """The options of a composition of the run."""
    config = CompressConfig()
    config = dataclasses.replace(config, compress=dataclasses.replace(config.compress, run=run))
    config = replace(config, {"dataset": "digits", "steps": 4})
    return with_composition(config, inference.load(run), composition)


def logits(model):
    view = nnx.view(model, deterministic=True, raise_if_not_found=False)
    images = sources.load("digits").test["image"][:20]
    return np.asarray(view(jnp.asarray(images, jnp.float32) / 255))


def test_without_smaller_parts_it_is_the_run(run):
    model, _ = composed_model(composed(run, Composition()), inference.load(run))
    np.testing.assert_array_equal(logits(model), logits(inference.load(run).model))


def test_the_weakest_units_go(run):
    model, plain = composed_model(composed(run, Composition(units=0.5)), inference.load(run))
    assert nnx.state(plain, nnx.Param)["fc1"]["weight"].shape == (16, 64)
    kept = {tuple(row) for row in np.asarray(model.fc1.weight[...]).tolist()}
    assert kept <= {tuple(row) for row in np.asarray(inference.load(run).model.fc1.weight[...]).tolist()}


def test_factors_are_merged_into_a_plain_model_of_the_same_function(run):
    config = composed(run, Composition(rank=0.5))
    technique, model = technique_of(config, sources.load("digits"))
    params, stats = technique.deploy(parts_of(model))
    plain = parts.model(config.model, inference.load(run).seen, jax.random.key(0))
    nnx.update(plain, params, stats)
    np.testing.assert_allclose(logits(plain), logits(model), rtol=1e-5, atol=1e-5)
