"""One device or many, jit or pmap, whole or split parameters: the same training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from jaxdl import tree
from jaxdl.config import ScaleOptions
from jaxdl.data.loader import Loader
from jaxdl.engine import metrics, parallel, state, step
from jaxdl.engine.objective import classification
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import BatchNorm
from jaxdl.optim.optimizers import adam, sgd
from jaxdl.optim.transforms import accumulate

RNG = np.random.default_rng(0)
SPLIT = {"image": RNG.normal(size=(50, 8, 8, 2)), "label": RNG.integers(0, 3, 50).astype(np.int32)}
STEPS = 100  # 20 epochs of four batches of 12 and one of 2, which four devices do not divide
BOUND = 1e-10  # relative, per tensor


class Small(nnx.Module):
    """A convolution, BatchNorm if wanted, dropout if wanted, a linear layer."""

    def __init__(self, norm, dropout, dtype):
        rngs = nnx.Rngs(0)
        self.conv = Conv2d(2, 8, 3, padding=1, rngs=rngs)
        self.norm = BatchNorm(8) if norm else None
        self.dropout = Dropout(dropout)
        self.fc = Linear(8 * 8 * 8, 3, rngs=rngs)
        values = nnx.state(self, (nnx.Param, nnx.BatchStat))
        nnx.update(self, jax.tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, values))

    def __call__(self, x, rngs=None):
        x = self.conv(x)
        x = jax.nn.relu(self.norm(x) if self.norm else x)
        return self.fc(self.dropout(x.reshape(len(x), -1), rngs))


def train(devices, steps=STEPS, *, batch=12, norm=False, dropout=0.0, tx=None, dtype=np.float64, **options):
    """The last state, the losses of all steps, and the means over the data at the end."""
    plan = parallel.make_plan(ScaleOptions(devices=devices, **options))
    loader = Loader(SPLIT | {"image": SPLIT["image"].astype(dtype)}, batch, seed=1)
    tx = tx or sgd(0.1)
    view = {"deterministic": False, "use_running_average": False, "raise_if_not_found": False}
    model = nnx.view(Small(norm, dropout, dtype), **view)
    graph, first = state.create(model, tx, jax.random.key(0))
    plan.check(loader, first)

    def gradient(graph):
        return step.gradients(graph, classification(), lambda _, batch: batch)

    taken = step.update_step(plan.gradient(gradient, graph, first), tx)
    current, program = plan.place(first), plan.train_chunk(taken, loader.take)
    arrays, losses = parallel.replicate(plan.mesh, loader.resident_arrays), []
    for part in loader.chunks(0, steps, 4):
        current, measured = program(current, arrays, part.items)
        losses += list(np.asarray(measured["loss"][0]))
    graph = nnx.graphdef(nnx.view(model, **dict.fromkeys(view, True) | {"raise_if_not_found": False}))
    evaluate = parallel.evaluator(step.eval_step(graph, classification(), lambda b: b), loader, plan.mesh)
    return current, losses, metrics.means(metrics.host_total(evaluate(current)))


def error(one, other):
    """The largest relative difference of a tensor: parameters, statistics, losses, measured at the end."""
    left, right = (tree.flatten((run[0].params, run[0].stats)) | {"losses": run[1]} for run in (one, other))
    assert left.keys() == right.keys()
    return max(np.linalg.norm(np.subtract(left[k], right[k])) / np.linalg.norm(right[k]) for k in left)


@pytest.fixture(scope="module")
def single():
    """The run on one device, without and with BatchNorm."""
    with jax.enable_x64(True):
        return {norm: train(1, norm=norm) for norm in (False, True)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", [{}, {"fsdp": True}, {"parallel": "pmap"}], ids=str)
@pytest.mark.parametrize("devices", [2, 4])
def test_many_devices_train_as_one(single, devices, options):
    many = train(devices, **options)
    assert error(many, single[False]) < BOUND
    assert many[2] == pytest.approx(single[False][2], rel=BOUND)
    assert many[1][0] > 2 * many[1][-1]  # it has learnt: equal runs that stand still prove nothing
    held = [leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(many[0].params)]
    assert all(held) is not bool(options.get("fsdp"))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("devices", "options"), [(4, {}), (4, {"fsdp": True}), (2, {"parallel": "pmap"})], ids=str)
def test_synchronised_batchnorm_sees_the_whole_batch(single, devices, options):
    assert error(train(devices, norm=True, **options), single[True]) < BOUND


@pytest.mark.usefixtures("x64")
def test_batchnorm_of_each_device_is_the_same_by_jit_and_by_pmap(single):
    runs = [train(4, 20, norm=True, sync_batchnorm=False, parallel=how) for how in ("jit", "pmap")]
    assert error(*runs) < BOUND
    assert error(runs[0], train(1, 20, norm=True)) > 1e-3


@pytest.mark.usefixtures("x64")
def test_dropout_is_that_of_one_device_by_jit_and_each_devices_own_by_pmap():
    one, by_jit, by_pmap = train(1, 5, dropout=0.5), train(4, 5, dropout=0.5), train(4, 5, dropout=0.5, parallel="pmap")
    assert error(by_jit, one) < BOUND
    assert error(by_pmap, one) > 1e-3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("parallel_", ["jit", "pmap"])
def test_accumulated_batches_of_two_devices_are_one_of_twice_the_size(parallel_):
    """Two batches of 5 for one update against one of 10, in the order of the data, of 50 examples."""
    whole = train(1, 5, batch=10)
    halves = train(2, 10, batch=5, tx=accumulate(sgd(0.1), 2), parallel=parallel_)
    assert error((halves[0], []), (whole[0], [])) < BOUND


def test_in_float32_many_devices_are_no_further_from_the_truth_than_one():
    with jax.enable_x64(True):
        truth = train(1)
    far = {how: error(train(*how, dtype=np.float32), truth) for how in ((1,), (4,))}
    pmap = error(train(4, dtype=np.float32, parallel="pmap"), truth)
    assert max(far[4,], pmap) < 3 * far[1,]  # rounding of sums in another order, over 100 steps


@pytest.mark.usefixtures("x64")
def test_split_parameters_and_optimizer_state_take_a_part_of_each_device():
    current = train(4, 3, tx=adam(1e-3), fsdp=True)[0]
    large = [leaf for leaf in jax.tree.leaves((current.params, current.opt_state)) if leaf.size >= 1024]
    assert len(large) == 3  # the linear layer's weight and its two moments
    assert {len(leaf.addressable_shards) for leaf in large} == {4}
    assert {leaf.addressable_shards[0].data.size for leaf in large} == {3 * 512 // 4}


def test_eight_devices_train_as_one():
    """In a process of its own, which has eight. Five batches are uneven, one has devices that get no example."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    script = """
import json, test_parallel_plan as t
one = {norm: t.train(1, norm=norm) for norm in (False, True)}
runs = [({}, False), ({}, True), ({"parallel": "pmap"}, False), ({"fsdp": True}, True)]
print(json.dumps([t.error(t.train(8, norm=norm, **options), one[norm]) for options, norm in runs]))
"""
    command = [sys.executable, "-c", script]
    output = subprocess.check_output(command, env=os.environ | flags, cwd=Path(__file__).parent, text=True)
    errors = json.loads(output.splitlines()[-1])
    assert len(errors) == 4
    assert max(errors) < BOUND


@pytest.mark.parametrize(
    ("options", "norm", "message"),
    [
        ({"fsdp": True, "parallel": "pmap"}, False, "--fsdp needs --parallel jit"),
        ({"sync_batchnorm": False}, False, "--no-sync-batchnorm has no meaning for a model without BatchNorm"),
        (
            {"uneven": "error"},
            False,
            "4 devices do not divide a batch of 2 examples; choose another --batch-size, --drop-last or --uneven pad",
        ),
        ({"parallel": "pmap"}, True, "which BatchNorm synchronised by pmap needs; .* or --parallel jit"),
    ],
)
def test_options_that_do_not_fit(options, norm, message):
    with pytest.raises(ValueError, match=message):
        train(4, 1, norm=norm, dtype=np.float32, **options)


def test_an_even_split_is_no_error():
    assert len(train(2, 2, uneven="error", dtype=np.float32)[1]) == 2
