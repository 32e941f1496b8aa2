"""Early stopping: by hand-made losses, and as a user runs it."""

import hashlib
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import build, inference, train
from jaxdl.config import TrainConfig, replace
from jaxdl.data import sources, subset
from jaxdl.data.loader import Chunk
from jaxdl.engine.hooks import NonFiniteError
from jaxdl.engine.log import read_records
from jaxdl.engine.loop import Late
from jaxdl.engine.state import TrainState
from jaxdl.engine.stopping import EarlyStop

# Learns 60 images by heart: the loss on others soon rises.
OVERFITS = ["--dataset", "digits", "--optimizer", "adam", "--lr", "0.02", "--no-tensorboard"]


TESTED = SimpleNamespace(last={"kind": "eval", "accuracy": 0.5})


def stopper(losses, patience):
    values = iter(losses)

    def evaluate(_):
        loss = next(values)
        return [{"loss": (np.array([2 * loss]), np.array([2])), "accuracy": (np.array([1]), np.array([2]))}]

    return EarlyStop(evaluate, TESTED, [], patience=patience, steps_per_epoch=5, last_step=100)


def state(step):
    return TrainState(jnp.int32(step), {}, {}, (), jax.random.key(0))


def steps_taken(stop, epochs):
    """The epochs a run goes through that asks the hook."""
    taken = 0
    for chunk in stop.until_done(Chunk(5 * e, 5 * e + 5, None) for e in range(epochs)):
        assert stop.due(chunk.stop)
        stop.on_state(chunk.stop, state(chunk.stop), Late())
        taken += 1
    return taken


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([3, 2, 1, 2, 1.5, 0.5], 2, 5, 15),
        ([3, 2, 1, 2, 1.5, 0.5], 3, 6, 30),
        ([1, 1, 1, 1], 3, 4, 5),  # as good is not better
        ([4, 3, 2, 1], 1, 4, 20),
    ],
)
def test_a_run_ends_after_epochs_without_gain(losses, patience, epochs, best):
    stop = stopper(losses, patience)
    assert steps_taken(stop, len(losses)) == epochs
    assert stop.best["step"] == best
    assert stop.best["test"] == TESTED.last


def test_a_validation_loss_that_is_no_number_ends_the_run():
    with pytest.raises(NonFiniteError, match="held-out images is nan after step 5"):
        steps_taken(stopper([float("nan")], 1), 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    argv = [*OVERFITS, "--epochs", "60", "--early-stop", "3", "--save-every", "21", "--out", str(out)]
    assert train.main([*argv, "--quiet"]) == 0
    return out


def test_the_weights_kept_are_those_of_the_best_epoch(run):
    records, summary = read_records(run / "metrics.jsonl"), json.loads((run / "summary.json").read_text())
    held = [record for record in records if record["kind"] == "validation"]
    best = min(held, key=lambda record: record["loss"])
    assert summary["weights_of_step"] == best["step"]
    assert summary["steps"] == held[-1]["step"] == best["step"] + 3 * 21  # 21 steps an epoch, patience 3
    tested = next(r for r in records if r["kind"] == "eval" and r["step"] == best["step"])
    assert (summary["accuracy"], summary["loss"]) == (tested["accuracy"], tested["loss"])
    source = sources.load("digits")
    assert inference.load(run).evaluate(source)["loss"] == pytest.approx(tested["loss"], rel=1e-6)
    held_out = subset.hold_out(source, 0.1, 0)[1]
    loaded = inference.load(run).predict(held_out["image"])
    own = -np.log(loaded[np.arange(len(loaded)), held_out["label"]]).mean()
    assert own == pytest.approx(best["loss"], rel=1e-4)


def test_a_run_killed_on_the_way_ends_with_the_same_bytes(run, tmp_path, monkeypatch):
    out = tmp_path / "killed"
    summary = json.loads((run / "summary.json").read_text())
    argv = [*OVERFITS, "--early-stop", "3", "--save-every", "21", "--quiet", "--out", str(out), "--resume"]
    measure = EarlyStop.on_state
    for last in (60, 150):

        def die(hook, step, state, late, last=last):
            if step > last:
                raise KeyboardInterrupt
            return measure(hook, step, state, late)

        monkeypatch.setattr(EarlyStop, "on_state", die)
        assert train.main([*argv, "--epochs", "60"]) == 130
    monkeypatch.undo()
    assert train.main([*argv, "--epochs", "60"]) == 0
    digests = [hashlib.sha256((path / "weights.safetensors").read_bytes()).digest() for path in (run, out)]
    assert digests[0] == digests[1]
    again = json.loads((out / "summary.json").read_text())
    assert {k: again[k] for k in ("steps", "weights_of_step", "loss")} == {
        k: summary[k] for k in ("steps", "weights_of_step", "loss")
    }


def test_a_run_that_has_stopped_stays_so(run):
    before = (run / "weights.safetensors").read_bytes()
    assert train.main(["--out", str(run), "--resume", "--quiet"]) == 0
    assert (run / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--early-stop", "0"], "--early-stop expects a number of epochs, at least 1; got 0"),
        (["--early-stop", "2", "--validation", "1"], "--validation expects a share between 0 and 1; got 1.0"),
    ],
)
def test_a_mistake_is_one_line(argv, message, tmp_path, capsys):
    assert train.main(["--dataset", "digits", "--out", str(tmp_path / "r"), *argv]) == 2
    assert capsys.readouterr().err == f"jaxdl.train: error: {message}\n"


def test_held_out_images_are_none_of_the_training_ones():
    source = sources.load("digits")
    job = build.job(replace(TrainConfig(), {"early_stop": 2, "validation": 0.2}), source)
    assert job.loader.examples + job.validation.examples == 1437
    trained = {image.tobytes() for image in job.loader.split["image"]}
    assert not trained & {image.tobytes() for image in job.validation.split["image"]}
