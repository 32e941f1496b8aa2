import contextlib
import dataclasses
import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.engine import ownstep
from jaxdl.engine.hooks import InterruptedRunError, NonFiniteError
from jaxdl.engine.log import read_records
from jaxdl.engine.loop import Hook
from jaxdl.engine.run_folder import RunFolder
from jaxdl.engine.state import TrainState

STEPS = 10


def first():
    return TrainState(jnp.zeros((), jnp.int32), {"x": jnp.ones(3)}, {"seen": jnp.zeros(())}, (), jax.random.key(0))


def step(state, _):
    """Something random, so that a resumed run shows whether it goes on with the same keys."""
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (3,))
    params, one = {"x": 0.9 * state.params["x"] + noise}, jnp.ones(())
    rare = jnp.where(state.step == 1, 1.0, 0.0)
    metrics = {"size": (params["x"].sum(), one), "rare": (5 * rare, rare)}
    return dataclasses.replace(state, step=state.step + 1, params=params), metrics


def own(hooks=(), every=2, take=step):
    return ownstep.Own(
        state=first(),
        run=lambda state, items: jax.lax.scan(take, state, items),
        chunks=functools.partial(ownstep.grid, steps=3),
        steps=STEPS,
        every=every,
        shown=lambda record: f"step {record['step']}" if record["step"] == STEPS else "",
        hooks=hooks,
    )


@contextlib.contextmanager
def folders(tmp_path, *names):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(RunFolder(tmp_path / name, resume=False))) for name in names]


def timeless(records):
    return [{name: value for name, value in record.items() if name != "steps_per_second"} for record in records]


def test_records_are_the_means_of_what_was_counted(tmp_path, capsys):
    with folders(tmp_path, "run") as [folder]:
        state = ownstep.train(own(), folder, quiet=False)
    records = read_records(folder.metrics)
    assert [record["step"] for record in records] == [2, 4, 6, 8, 10]
    assert [record.get("rare") for record in records] == [5, None, None, None, None]
    np.testing.assert_allclose(records[-1]["size"] * 2, _sizes()[8:].sum(), rtol=1e-5)
    assert int(state.step) == STEPS
    assert capsys.readouterr().out == "step 10\n"


def _sizes():
    return np.asarray(jax.lax.scan(step, first(), jnp.zeros(STEPS))[1]["size"][0])


class StopAt(Hook):
    """Sends the signal that Ctrl-C sends."""

    def __init__(self, step):
        self.step = step

    def due(self, step):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
        return False


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    with folders(tmp_path, "whole", "stopped") as [whole, stopped]:
        expected = ownstep.train(own(every=4), whole, quiet=True)
        with pytest.raises(InterruptedRunError, match="stopped by SIGINT after step 6"):
            ownstep.train(own([StopAt(6)], every=4), stopped, quiet=True)
        found = ownstep.train(own(every=4), stopped, quiet=True)
        again = ownstep.train(own(every=4), stopped, quiet=True)  # nothing is left to do
    for state in (found, again):
        np.testing.assert_array_equal(state.params["x"], expected.params["x"])
    assert timeless(read_records(stopped.metrics)) == timeless(read_records(whole.metrics))


def test_a_metric_that_is_no_number_ends_the_run(tmp_path):
    def broken(state, item):
        state, metrics = step(state, item)
        size = jnp.where(state.step == 5, jnp.nan, metrics["size"][0])
        return state, {**metrics, "size": (size, metrics["size"][1])}

    with folders(tmp_path, "run") as [folder], pytest.raises(NonFiniteError, match="size is nan at step 5"):
        ownstep.train(own(take=broken), folder, quiet=True)


def test_chunks_lie_on_a_grid():
    spans = [(chunk.start, chunk.stop, chunk.items.shape) for chunk in ownstep.grid(4, 10, 3)]
    assert spans == [(4, 6, (2, 1)), (6, 9, (3, 1)), (9, 10, (1, 1))]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InterruptedRunError(15, 7), 143, "stopped by SIGTERM after step 7, which is saved; go on with --out"),
        (NonFiniteError("loss is nan at step 3"), 1, "error: loss is nan at step 3; try a smaller --lr"),
        (OSError("disk full"), 1, "error: cannot write to"),
    ],
)
def test_how_a_run_ends_is_a_status_and_a_line(tmp_path, capsys, error, code, message):
    def work():
        raise error

    with folders(tmp_path, "run") as [folder]:
        assert ownstep.status(work, folder) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
