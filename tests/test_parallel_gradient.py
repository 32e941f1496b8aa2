"""Gradients, updates and BatchNorm over two devices are those of torch's DistributedDataParallel."""

import subprocess
import sys
from pathlib import Path

import ddp_worker
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl import tree
from jaxdl.config import ScaleOptions
from jaxdl.data.loader import Loader
from jaxdl.engine import parallel, state, step
from jaxdl.engine.objective import classification
from jaxdl.engine.parallel.gradient import REAL
from jaxdl.engine.state import TrainState
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import BatchNorm
from jaxdl.optim.optimizers import sgd

BATCH, UPDATES = 6, 10
BOUND = 1e-11  # relative, per tensor


class Small(nnx.Module):
    """`ddp_worker.Small`."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv, self.norm = Conv2d(2, 4, 3, padding=1, rngs=rngs), BatchNorm(4)
        self.fc = Linear(4, 3, rngs=rngs)

    def __call__(self, x, _=None):
        return self.fc(jax.nn.relu(self.norm(self.conv(x))).mean((1, 2)))


def to_torch(value):
    value = np.asarray(value)
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """Model, state and batches, and what torch makes of them: two processes, and one with the whole batch."""
    folder, rng = tmp_path_factory.mktemp("ddp"), np.random.default_rng(1)
    with jax.enable_x64(True):
        model = Small()
        values = nnx.state(model, (nnx.Param, nnx.BatchStat))
        nnx.update(model, jax.tree.map(lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x, values))
        graph, first = state.create(model, sgd(ddp_worker.LR, ddp_worker.MOMENTUM), jax.random.key(0))
    images = rng.normal(1, 2, (BATCH * UPDATES, 5, 5, 2))
    labels = rng.integers(0, 3, BATCH * UPDATES)
    flat = tree.flatten((first.params, first.stats))
    start = {name.split(".", 1)[1]: to_torch(value) for name, value in flat.items()}
    start["images"] = images.transpose(0, 3, 1, 2).reshape(UPDATES, BATCH, 2, 5, 5)
    start["labels"] = labels.reshape(UPDATES, BATCH)
    np.savez(folder / "start.npz", **start)
    worker = [sys.executable, str(Path(ddp_worker.__file__))]
    ranks = [subprocess.Popen([*worker, str(rank), str(folder)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    net = ddp_worker.Small().double()
    ddp_worker.load(net, start)
    whole = ddp_worker.updates(net, list(zip(start["images"], start["labels"], strict=True)))
    split = {"image": images, "label": labels.astype(np.int32)}
    return graph, first, split, {"ddp": dict(np.load(folder / "ddp.npz")), "whole": whole}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("how", ["jit", "pmap"])
@pytest.mark.parametrize(("together", "torchs"), [(False, "ddp"), (True, "whole")])
def test_ten_updates_are_torchs(problem, how, together, torchs):
    graph, first, split, expected = problem
    plan = parallel.make_plan(ScaleOptions(devices=2, parallel=how, sync_batchnorm=together))
    loader = Loader(split, BATCH, shuffle=False)

    def make(graph, differentiate):
        return step.gradients(graph, classification(), lambda _, batch: batch, None, differentiate)

    gradient = plan.gradient(make, graph, first)
    tx = sgd(ddp_worker.LR, ddp_worker.MOMENTUM)
    run = plan.train_chunk(step.update_step(gradient, tx), loader.take)
    looked = plan.train_chunk(lambda s, batch: (s, gradient(s, batch)[0]), loader.take)
    arrays = parallel.replicate(plan.mesh, loader.resident_arrays)
    _, grads = looked(plan.place(first), arrays, next(loader.chunks(0, 1, 1)).items)
    last, _ = run(plan.place(first), arrays, next(loader.chunks(0, UPDATES, UPDATES)).items)
    found = {f"grad.{name}": to_torch(value[0]) for name, value in tree.flatten(grads).items()}
    ended = tree.flatten((last.params, last.stats)).items()
    found |= {name.split(".", 1)[1]: to_torch(value) for name, value in ended}
    assert found.keys() == expected[torchs].keys()
    start = tree.flatten((first.params, first.stats))
    start = {name.split(".", 1)[1]: to_torch(value) for name, value in start.items()}
    for name, value in expected[torchs].items():
        base = start.get(name, 0)  # updates are compared as changes
        if name in ("conv.bias", "grad.conv.bias"):  # BatchNorm takes it away: what is left is rounding
            assert np.abs(found[name] - value).max() < 1e-13
        else:
            assert np.linalg.norm(found[name] - value) / np.linalg.norm(value - base) < BOUND, name
    assert not np.allclose(expected["ddp"]["norm.running_var"], expected["whole"]["norm.running_var"], rtol=1e-3)


def mapped(gradient, batch):
    """What a gradient gives over four devices."""
    mesh = parallel.make_mesh(parallel.first_devices(4))
    first = TrainState(jnp.int32(0), jnp.float32(1), jnp.float32(7), (), jax.random.key(0))
    return parallel.over_devices(gradient, mesh)(first, batch)


def test_a_share_weighs_as_much_as_its_loss_counts_and_the_first_devices_statistics_stay():
    def gradient(_, batch):
        x = batch["x"]
        return x.mean(), x.max(), {"loss": (x.sum(), jnp.float32(x.size))}

    x = jnp.arange(10, dtype=jnp.float32) ** 2  # shares of 3, 3, 2 and 2
    grads, stats, measured = mapped(gradient, {"x": x})
    assert float(grads) == pytest.approx(float(x.mean()))
    assert float(stats) == 4  # of 0, 1, 4
    assert [float(value) for value in measured["loss"]] == [float(x.sum()), 10]


def test_devices_without_an_example_count_for_nothing():
    def gradient(state, batch):
        x = batch["x"]
        return x.mean(), state.stats + 1, {"loss": (x.sum(), jnp.float32(x.size))}

    grads, stats, measured = mapped(gradient, {"x": jnp.float32([5, 7])})
    assert (float(grads), float(stats), float(measured["loss"][1])) == (6, 8, 2)


def test_each_device_draws_its_own():
    def gradient(state, batch):
        assert REAL not in batch
        drawn = jax.random.uniform(state.key)
        return drawn, drawn, {"loss": (drawn**2, jnp.float32(1))}

    mean, first, measured = mapped(gradient, {"x": jnp.zeros(4)})
    assert abs(float(mean) - float(first)) > 1e-3
    variance = float(measured["loss"][0]) / 4 - float(mean) ** 2
    assert variance > 1e-4
