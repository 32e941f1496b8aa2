"""The noise floor: correct pairs pass in narrow types, and faults that matter in float32 do not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from parity import Pair
from parity.measure import FACTOR, Floor, factors, measure
from parity.pair import PairError
from parity.twins import PAIRS
from parity.twins.families.conv import dropped
from parity.twins.testbed import Block
from parity.verdict import Verdict


def block(**changes):
    """The transformer block without training, its port with other attributes of its parts."""

    def port(seed=0):
        module = Block(rngs=nnx.Rngs(seed))
        for path, value in changes.items():
            part, attribute = path.split("__")
            setattr(getattr(module, part), attribute, value)
        return module

    return dataclasses.replace(PAIRS["block"](), flax=port, torch_optimizer=None, tx=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_correct_pair_passes_and_the_floor_is_told(dtype):
    judgement = measure(block(), dtype=dtype)
    assert judgement.verdict is Verdict.PASS
    leaf = judgement.phase("parameter_gradients").leaves[0]
    assert isinstance(leaf, Floor)
    assert 0 < leaf.floor < 0.1
    assert leaf.limit == pytest.approx(FACTOR * leaf.floor + judgement.facts["tiny"])
    assert leaf.factor == pytest.approx(leaf.error / leaf.floor)


@pytest.mark.parametrize(
    "fault",
    [
        {"fc1__dtype": jnp.bfloat16},
        {"norm1__epsilon": 1e-6},
        {"norm1__epsilon": 1e-3},
        {"fc2__dtype": jnp.float16},
    ],
    ids=str,
)
def test_faults_that_matter_in_float32_fail(fault):
    judgement = measure(block(**fault))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.phase("eval_forward").verdict is Verdict.FAIL
    assert "times torch's own error" in judgement.phase("eval_forward").leaves[0].reason


def test_training_is_measured_too():
    judgement = measure(PAIRS["perceptron"](), steps=2)
    assert judgement.verdict is Verdict.PASS
    assert judgement.phase("updates").verdict is Verdict.PASS
    names = [leaf.name for leaf in judgement.phase("updates").leaves]
    assert sorted(names) == sorted([leaf.name for leaf in judgement.phase("first_update").leaves] + ["loss"])


def test_factors_of_a_correct_pair_stay_below_k():
    found = factors(block(), seeds=2)
    assert len(found["parameter_gradients"]) == 2 * len(list(PAIRS["block"]().torch().parameters())) - 2
    assert max(values.max() for values in found.values()) < FACTOR / 2


def test_noise_is_no_pass():
    """A gradient that is zero but for rounding: torch's own is as wrong."""

    class Port(nnx.Module):
        def __init__(self):
            self.fc = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return jax.nn.softmax(self.fc(x)).sum(-1)

    class Original(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 4)

        def forward(self, x):
            return torch.softmax(self.fc(x), -1).sum(-1)

    judgement = measure(Pair(torch=Original, flax=Port, inputs=lambda rng: rng.random((5, 3))))
    assert judgement.phase("parameter_gradients").verdict is Verdict.ABSTAIN
    assert judgement.verdict is Verdict.ABSTAIN


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "expected dtype float32 or bfloat16, got 'float8'"),
        ({"device": "tpu"}, "expected device cpu or gpu, got 'tpu'"),
    ],
)
def test_what_is_not_there_is_one_error(options, message):
    with pytest.raises(PairError, match=message):
        measure(block(), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu_is_one_error():
    with pytest.raises(PairError, match="no GPU for torch"):
        measure(block(), device="gpu")


def test_a_pair_that_does_not_fit_is_an_error():
    pair = dataclasses.replace(block(), flax=lambda: nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    assert measure(pair).verdict is Verdict.ERROR
    with pytest.raises(PairError):
        factors(pair, seeds=1)


def test_float_targets_are_rounded_with_the_inputs():
    """Targets that bfloat16 cannot hold would count as an error of both sides."""
    pair = Pair(
        torch=lambda: torch.nn.Linear(3, 1),
        flax=lambda: nnx.Linear(3, 1, rngs=nnx.Rngs(0)),
        inputs=lambda rng: rng.random((5, 3)),
        targets=lambda rng: 1000 + rng.random((5, 1)),
        loss=(torch.nn.functional.mse_loss, lambda x, y: jnp.mean(jnp.square(x - y))),
    )
    (leaf,) = measure(pair, dtype="bfloat16").phase("loss").leaves
    assert leaf.verdict is Verdict.PASS
    assert np.isfinite(leaf.error)


def test_masks_and_outputs_whose_axes_shapes_leave_open():
    pair = dataclasses.replace(dropped(), torch_optimizer=None, tx=None)
    assert measure(pair, steps=0).verdict is Verdict.PASS
