"""Where a pruned training starts, and with which options."""

import jax
import numpy as np
import pytest

from jaxdl import build, inference, train, tree
from jaxdl.config import TrainConfig, replace
from jaxdl.data import sources
from jaxdl.engine import weights
from jaxdl.prune.options import PruneConfig, based_on
from jaxdl.prune.technique import model_left, ramp_of, technique

SOURCE = sources.load("digits")
OPTIONS = {"dataset": "digits", "model": "cnn", "channels": (4, 8), "hidden": 12, "batch_size": 256}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a CNN that was hardly trained."""
    out = tmp_path_factory.mktemp("runs") / "cnn"
    words = ["--dataset", "digits", "--model", "cnn", "--channels", "4", "8", "--hidden", "12", "--steps", "1"]
    assert train.main([*words, "--batch-size", "256", "--quiet", "--no-tensorboard", "--out", str(out)]) == 0
    return out


def config_for(run, **options):
    return replace(PruneConfig(), OPTIONS | {"run": run, "epochs": 4} | options)


def test_the_options_of_a_run_are_handed_on():
    before = replace(TrainConfig(), {"lr": 0.3, "epochs": 7, "seed": 5, "hidden": 9, "keep": 9, "early_stop": 3})
    config = based_on(PruneConfig(), before)
    assert (config.optim.lr, config.run.epochs, config.run.seed, config.model.hidden) == (0.3, 7, 5, 9)
    assert (config.run.keep, config.run.early_stop) == (2, None)


def test_all_goes_at_the_start_without_a_ramp(run):
    config = config_for(run, ramp=0.0, amount=0.5)
    job = build.job(config, SOURCE, technique(config, SOURCE))
    before, now = (tree.flatten(params) for params in (inference.load(run).state.params, job.state.params))
    zeros = sum(int((leaf == 0).sum()) for name, leaf in now.items() if name.endswith("weight"))
    assert zeros == round(0.5 * sum(leaf.size for name, leaf in now.items() if name.endswith("weight")))
    for name, leaf in now.items():
        np.testing.assert_array_equal(np.where(np.asarray(leaf) == 0, before[name], leaf), before[name])


def test_the_amount_rises_within_its_share_of_the_training(run):
    ramp = ramp_of(config_for(run, ramp=0.5, amount=0.9, prune_every=3), SOURCE)
    assert len(SOURCE.train["label"]) == 1437  # six batches an epoch, of which there are four
    assert len(ramp.amounts) == 1 + 12 // 3
    assert ramp.amounts[-1] == 0.9
    assert ramp_of(config_for(run, structure="2:4", amount=None), SOURCE).amounts == (0.5,)


def test_units_that_go_leave_a_smaller_model(run):
    config = config_for(run, structure="units", amount=0.5, ramp=0.0)
    left = model_left(inference.load(run), config)
    assert (left.channels, left.hidden) == ((2, 4), 6)
    config = replace(config, {"channels": left.channels, "hidden": left.hidden})
    job = build.job(config, SOURCE, technique(config, SOURCE))
    params, _ = job.deploy((job.state.params, job.state.stats))
    assert {name: leaf.shape for name, leaf in tree.flatten(params).items()} == {
        "conv1.bias": (2,),
        "conv1.weight": (3, 3, 1, 2),
        "conv2.bias": (4,),
        "conv2.weight": (3, 3, 2, 4),
        "fc1.bias": (6,),
        "fc1.weight": (6, 16),
        "fc2.bias": (10,),
        "fc2.weight": (10, 6),
    }
    kept = weights.to_torch(job.model, tree.flatten(params))["conv1.weight"]
    dense = inference.load(run)
    whole = weights.to_torch(dense.model, tree.flatten(dense.state.params))["conv1.weight"]
    norms = np.linalg.norm(np.asarray(whole).reshape(4, -1), axis=1)
    np.testing.assert_array_equal(kept, whole[np.sort(np.argsort(norms)[2:])])
    predicted = jax.jit(job.predict_step)(job.state, {"image": SOURCE.test["image"][:4]})
    assert predicted.shape == (4, 10)


def test_two_of_four_inputs_of_every_layer_that_has_so_many(run):
    config = config_for(run, structure="2:4", amount=None)
    job = build.job(config, SOURCE, technique(config, SOURCE))
    params = weights.to_torch(job.model, tree.flatten(job.state.params))
    assert (params["conv1.weight"] != 0).all()  # it has one input channel
    for name in ("conv2.weight", "fc1.weight", "fc2.weight"):
        blocks = np.moveaxis(np.asarray(params[name]), 1, -1).reshape(-1, 4)
        assert ((blocks != 0).sum(1) == 2).all()


def test_layers_that_are_not_named_stay(run):
    config = config_for(run, layers="fc2.*", amount=0.5, ramp=0.0)
    job = build.job(config, SOURCE, technique(config, SOURCE))
    zeros = {name: int((leaf == 0).sum()) for name, leaf in tree.flatten(job.state.params).items()}
    assert zeros.pop("fc2.weight") == 60
    assert not any(zeros.values())
