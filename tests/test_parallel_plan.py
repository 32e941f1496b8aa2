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
from jaxdl.engine import parallel, state, step
from jaxdl.engine.objective import classification
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import BatchNorm
from jaxdl.optim.optimizers import adam, sgd
from jaxdl.optim.transforms import accumulate

RNG = np.random.default_rng(0)
SPLIT = {"image": RNG.normal(size=(50, 32)), "label": RNG.integers(0, 3, 50).astype(np.int32)}
STEPS = 100  # 20 epochs of four batches of 12 and one of 2, which four devices do not divide
BOUND = 1e-10  # relative, per tensor


class Small(nnx.Module):
    """Linear, BatchNorm if wanted, ReLU, dropout, linear."""

    def __init__(self, norm, dropout, dtype):
        rngs = nnx.Rngs(0)
        self.fc1, self.fc2 = Linear(32, 64, rngs=rngs), Linear(64, 3, rngs=rngs)
        self.norm = BatchNorm(64) if norm else None
        self.dropout = Dropout(dropout)
        values = nnx.state(self, (nnx.Param, nnx.BatchStat))
        nnx.update(self, jax.tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, values))

    def __call__(self, x, rngs=None):
        x = self.fc1(x)
        return self.fc2(self.dropout(jax.nn.relu(self.norm(x) if self.norm else x), rngs))


def train(devices, steps=STEPS, *, batch=12, norm=False, dropout=0.0, tx=None, dtype=np.float64, **options):
    """The last state and the losses of all steps."""
    plan = parallel.make_plan(ScaleOptions(devices=devices, **options))
    loader = Loader(SPLIT | {"image": SPLIT["image"].astype(dtype)}, batch, seed=1)
    tx = tx or sgd(0.1)
    graph, first = state.create(Small(norm, dropout, dtype), tx, jax.random.key(0))
    plan.check(loader, first)

    def gradient(graph, differentiate):
        return step.gradients(graph, classification(), lambda _, batch: batch, None, differentiate)

    taken = step.update_step(plan.gradient(gradient, graph, first), tx)
    current, program = plan.place(first), plan.train_chunk(taken, loader.take)
    arrays, losses = parallel.replicate(plan.mesh, loader.resident_arrays), []
    for part in loader.chunks(0, steps, 4):
        current, measured = program(current, arrays, part.items)
        losses += list(np.asarray(measured["loss"][0]))
    return current, losses


def tensors(run):
    """Parameters, statistics and losses by name."""
    return {
        name: np.asarray(value) for name, value in tree.flatten((run[0].params, run[0].stats, run[1:])).items()
    }


def error(one, other):
    """The largest relative difference of a tensor."""
    left, right = (run if isinstance(run, dict) else tensors(run) for run in (one, other))
    assert left.keys() == right.keys()
    return max(np.linalg.norm(left[k] - right[k]) / np.linalg.norm(right[k]) for k in left)


@pytest.fixture(scope="module")
def single():
    """The run on one device, without and with BatchNorm."""
    with jax.enable_x64(True):
        return {norm: tensors(train(1, norm=norm)) for norm in (False, True)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("devices", "norm", "options"),
    [
        (2, True, {}),
        (4, True, {}),
        (4, True, {"fsdp": True}),
        (2, False, {"stages": 2, "micro_batches": 3}),
        (4, False, {"stages": 2, "micro_batches": 2, "fsdp": True}),
        (2, True, {"tensor": 2}),
        (4, True, {"tensor": 2}),
        (2, True, {"parallel": "pmap"}),
        (4, False, {"parallel": "pmap"}),
    ],
    ids=str,
)
def test_many_devices_train_as_one(single, devices, norm, options):
    many = train(devices, norm=norm, **options)
    assert error(many, single[norm]) < BOUND
    assert many[1][0] > 2 * many[1][-1]  # it has learnt: equal runs that stand still prove nothing
    held = {leaf.size: leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(many[0].params)}
    assert held[2048] == (512 if "fsdp" in options else 2048 // options.get("tensor", 1))


@pytest.mark.usefixtures("x64")
def test_batchnorm_of_each_device_is_the_same_by_jit_and_by_pmap():
    """Batches of 10: the devices have 3, 3, 2 and 2 examples."""
    one, by_jit = train(1, 20, batch=10, norm=True), train(4, 20, batch=10, norm=True, sync_batchnorm=False)
    by_pmap = train(4, 20, batch=10, norm=True, sync_batchnorm=False, parallel="pmap")
    assert error(by_jit, by_pmap) < BOUND
    assert error(by_jit, one) > 1e-3


@pytest.mark.usefixtures("x64")
def test_dropout_is_that_of_one_device_by_jit_and_each_devices_own_by_pmap():
    one, by_jit = train(1, 4, dropout=0.5), train(4, 4, dropout=0.5)
    assert error(by_jit, one) < BOUND
    assert error(train(4, 4, dropout=0.5, parallel="pmap"), one) > 1e-3


@pytest.mark.usefixtures("x64")
def test_accumulated_batches_of_two_devices_are_one_of_twice_the_size():
    """Two batches of 5 for one update against one of 10, in the order of the data, of 50 examples."""
    whole = train(1, 4, batch=10)[0]
    for how in ("jit", "pmap"):
        halves = train(2, 8, batch=5, tx=accumulate(sgd(0.1), 2), parallel=how)[0]
        assert error((halves,), (whole,)) < BOUND


def test_in_float32_many_devices_are_no_further_from_the_truth_than_one(single):
    ways = [(1, "jit"), (4, "jit"), (4, "pmap")]
    alone, *many = (error(train(devices, dtype=np.float32, parallel=how), single[False]) for devices, how in ways)
    assert max(many) < 3 * alone  # sums in another order, over 100 steps


@pytest.mark.usefixtures("x64")
def test_the_optimizers_state_is_split_as_the_parameters():
    current = train(4, 1, tx=adam(1e-3), fsdp=True)[0]
    moments = [leaf for leaf in jax.tree.leaves(current.opt_state) if leaf.size == 2048]
    assert [leaf.addressable_shards[0].data.size for leaf in moments] == [512, 512]


def test_eight_devices_train_as_one(single, tmp_path):
    """In a process of its own, which has eight. No batch is even; the last one leaves six without an example."""
    for norm, run in single.items():
        np.savez(tmp_path / f"{norm}.npz", **run)
    flags = {
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
    }
    script = f"""
import json, numpy as np, test_parallel_plan as t
one = {{norm: dict(np.load(f"{tmp_path}/{{norm}}.npz")) for norm in (False, True)}}
print(json.dumps([t.error(t.train(8, norm=True), one[True]), t.error(t.train(8, parallel="pmap"), one[False])]))
"""
    command = [sys.executable, "-c", script]
    output = subprocess.check_output(command, env=os.environ | flags, cwd=Path(__file__).parent, text=True)
    by_jit, by_pmap = json.loads(output.splitlines()[-1])
    assert by_jit < BOUND
    assert by_pmap < BOUND


@pytest.mark.parametrize(
    ("options", "norm", "message"),
    [
        ({"fsdp": True, "parallel": "pmap"}, False, "--fsdp needs --parallel jit"),
        ({"sync_batchnorm": False}, False, "--no-sync-batchnorm has no meaning for a model without BatchNorm"),
        (
            {"uneven": "error"},
            False,
            "4 devices do not divide a batch of 2 examples; choose another --batch-size, --drop-last or --uneven",
        ),
        ({"parallel": "pmap"}, True, "which BatchNorm synchronised by pmap needs; .* or --parallel jit"),
        ({"stages": 3}, False, "--stages 3 does not divide the number of devices, 4; see --devices"),
        ({"tensor": 0}, False, "--stages 1 does not divide|--tensor 0"),
        ({"stages": 2, "tensor": 2}, False, "split a model in two ways"),
        ({"stages": 2, "parallel": "pmap"}, False, "need --parallel jit"),
        ({"tensor": 2, "fsdp": True}, False, "--tensor splits parameters already"),
        ({"stages": 2, "sync_batchnorm": False}, True, "devices that each hold the whole model"),
        ({"stages": 2, "micro_batches": 5}, False, "--micro-batches must divide a batch of 12; got 5"),
        ({"micro_batches": 4}, False, "are for a pipeline: give --stages"),
        ({"stages": 4, "cut_at": ("fc2",)}, False, "--cut-at wants the first layers of 3 stages; got 1"),
        ({"stages": 4}, False, "a model of 2 layers has no 4 stages"),
        ({"stages": 2, "cut_at": ("fc3",)}, False, "no layer fc3; did you mean fc"),
        ({"stages": 1, "cut_at": ("fc2",)}, False, "give --stages"),
    ],
)
def test_options_that_do_not_fit(options, norm, message):
    with pytest.raises(ValueError, match=message):
        train(4, 1, norm=norm, dtype=np.float32, **options)


def test_an_even_split_is_no_error():
    assert len(train(2, 2, uneven="error", dtype=np.float32)[1]) == 2
