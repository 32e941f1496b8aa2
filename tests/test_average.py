"""The command as a user runs it, on the embedded digits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import build, inference, train
from jaxdl.average import __main__ as average
from jaxdl.config import replace
from jaxdl.data import sources
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.optim.optimizers import rates, sgd

TRAIN = ["--dataset", "digits", "--lr", "0.1", "--hidden", "12", "--epochs", "4", "--seed", "3"]
QUIET = ["--quiet", "--no-tensorboard"]


def run(out, *argv):
    assert average.main([*TRAIN, *QUIET, *argv, "--out", str(out)]) == 0
    return {row["name"]: row for row in json.loads((out / "average.json").read_text())}


def test_the_mean_of_the_last_epochs_is_that_of_a_run_at_their_ends(tmp_path):
    """SWA from half of four epochs on: after the second, third and fourth."""
    rows = run(tmp_path / "swa", "--kind", "swa", "--average-from", "0.5")
    assert train.main([*TRAIN, *QUIET, "--save-every", "23", "--keep", "9", "--out", str(tmp_path / "plain")]) == 0
    plain = json.loads((tmp_path / "plain" / "summary.json").read_text())
    assert rows["last weights"]["accuracy"] == pytest.approx(plain["accuracy"], abs=1e-6)
    assert rows["last weights"]["loss"] == pytest.approx(plain["loss"], rel=1e-4)

    job = build.job(inference.load(tmp_path / "plain").config, sources.load("digits"))
    checkpoints = Checkpoints(tmp_path / "plain" / "checkpoints", 9)
    states = [checkpoints.read(step, job.state) for step in (46, 69, 92)]
    checkpoints.close()
    mean = np.mean([state.params["fc1"]["weight"] for state in states], 0)
    saved = inference.load(tmp_path / "swa")
    np.testing.assert_allclose(saved.state.params["fc1"]["weight"], mean, rtol=1e-4, atol=1e-5)
    summary = json.loads((tmp_path / "swa" / "summary.json").read_text())
    assert rows["average (swa)"]["accuracy"] == pytest.approx(summary["accuracy"], abs=1e-6)
    assert saved.evaluate(sources.load("digits"))["loss"] == pytest.approx(rows["average (swa)"]["loss"], rel=1e-4)


def test_the_rate_goes_where_swa_wants_it():
    """Five steps an epoch, two epochs: from the sixth step on, over an epoch."""
    options = {"epochs": 2, "batch_size": 300, "lr": 0.1, "kind": "swa", "average_from": 0.5, "swa_lr": 0.02}
    tx = average.technique(replace(average.AverageConfig(), options), sources.load("digits")).tx(sgd())
    params = {"model": jnp.ones(1), "average": jnp.ones(1)}
    update, state, found = jax.jit(tx.update), tx.init(params), []
    for _ in range(10):
        _, state = update(params, state, params)
        found.append(float(rates(state)[0].rate))
    np.testing.assert_allclose(found[:6], 0.1, rtol=1e-6)
    assert found[5] > found[6] > found[7] > found[9] > 0.02
    np.testing.assert_allclose(found[9], 0.02 + 0.08 * (1 + np.cos(0.8 * np.pi)) / 2, rtol=1e-5)


def test_averages_of_every_step_or_of_chosen_ones():
    def when(steps=100, **options):
        return average.plan(average.AverageOptions(**options), 20, steps)[1]

    assert when() == (1, 1)
    assert when(kind="swa") == (80, 20)  # three quarters are 75 steps; then 80 and 100, the last
    assert when(kind="swa", average_from=0.5, average_every=7) == (51, 7)  # 51 + 7 * 7 = 100


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--decay", "1.5"], "the decay of an average must lie in [0, 1]; got 1.5"),
        (["--average-from", "1"], "--average-from must be a share from 0 up to 1; got 1.0"),
        (["--average-every", "0"], "--average-every must be at least 1; got 0"),
        (["--kind", "swa", "--decay", "0.9"], "--decay has no meaning for swa"),
        (["--kind", "swa", "--early-stop", "2"], "--early-stop ends a training whose end swa has to know"),
        (["--kind", "swa", "--swa-lr", "0.1", "--swa-anneal", "-1"], "--swa-anneal must be 0 or more; got -1"),
        (["--kind", "swe"], "invalid choice 'swe'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, argv, message, mistake):
    said = mistake(average.main, [*TRAIN, *argv, "--out", str(tmp_path / "r")])
    assert said.err.startswith("jaxdl.average: error: ")
    assert message in said.err
    assert not (tmp_path / "r").exists()
