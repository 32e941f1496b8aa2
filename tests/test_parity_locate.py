"""Places of faults: in a layer, in the glue between layers, in several at once."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import torch
from flax import nnx

from parity import Pair
from parity.locate import locate
from parity.prove import proof
from parity.verdict import ONE_STEP, Verdict


class Original(torch.nn.Module):
    """Three layers, a norm among them."""

    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(6, 5)
        self.norm = torch.nn.LayerNorm(5)
        self.fc2 = torch.nn.Linear(5, 4)

    def forward(self, x):
        return self.fc2(torch.relu(self.norm(self.fc1(x))))


class Halved(nnx.Linear):
    """Leaves half of its bias out."""

    def __call__(self, inputs, out_sharding=None):
        return super().__call__(inputs, out_sharding) - self.bias[...] / 2


class Port(nnx.Module):
    def __init__(self, epsilon=1e-5, activation=jax.nn.relu, linear=nnx.Linear, last=lambda x: x):
        rngs = nnx.Rngs(0)
        self.fc1 = linear(6, 5, rngs=rngs)
        self.norm = nnx.LayerNorm(5, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
        self.fc2 = nnx.Linear(5, 4, rngs=rngs)
        self.activation, self.last = activation, last

    def __call__(self, x):
        x = self.activation(self.norm(self.fc1(x)))
        return self.last(self.fc2(x))


def located(spoil=None, **settings):
    pair = Pair(torch=Original, flax=lambda: Port(**settings), inputs=lambda rng: rng.normal(size=(7, 6)))
    made = proof(dataclasses.replace(pair, weights=spoil) if spoil else pair)
    return locate(made.subject, made.judgement, made.reference.facts)


def places(location):
    return [(fault.kind, fault.place) for fault in location.faults]


def test_a_correct_pair_has_no_faults():
    location = located()
    assert location.faults == location.unmatched == ()
    assert [row.place for row in location.rows] == ["fc1", "norm", "fc2", ""]
    assert all(row.verdict is Verdict.PASS for row in location.rows)
    assert max(max(row.inputs, row.outputs, row.gradient) for row in location.rows) < ONE_STEP


@pytest.mark.parametrize(
    ("settings", "kind", "place", "detail"),
    [
        ({"epsilon": 1e-3}, "layer", "norm", "given torch's input it gives another output"),
        ({"activation": jnp.tanh}, "glue", "fc2", "between norm and fc2"),
        ({"last": lambda x: 2 * x}, "glue", "", "what the model returns is wrong"),
    ],
    ids=["layer", "glue in front", "glue behind"],
)
def test_glue_is_told_from_a_layer(settings, kind, place, detail):
    (fault,) = located(**settings).faults
    assert (fault.kind, fault.place) == (kind, place)
    assert detail in fault.detail
    assert fault.error > ONE_STEP


def test_two_faults_are_found_at_once():
    assert places(located(linear=Halved, epsilon=1e-3)) == [("layer", "fc1"), ("layer", "norm")]


def test_a_layer_and_glue_are_found_at_once():
    assert places(located(epsilon=1e-3, activation=jnp.tanh)) == [("layer", "norm"), ("glue", "fc2")]


def test_wrong_weights_come_first():
    def spoil(state):
        return {
            "fc1.kernel": state["fc1.weight"].T,
            "fc1.bias": 0 * state["fc1.bias"],
            "norm.scale": state["norm.weight"],
            "norm.bias": state["norm.bias"],
            "fc2.kernel": state["fc2.weight"].T,
            "fc2.bias": state["fc2.bias"],
        }

    first, *_ = located(spoil).faults
    assert (first.kind, first.place, first.port) == ("weights", "fc1.bias", "fc1.bias")


def test_a_stopped_gradient_is_found_behind_right_outputs():
    (fault,) = located(activation=lambda x: jax.nn.relu(jax.lax.stop_gradient(x))).faults
    assert (fault.kind, fault.place) == ("backward", "norm")


@pytest.mark.parametrize("after", [None, jnp.tanh], ids=["right", "faulty"])
def test_dropout_behind_a_flattened_image_is_right_in_the_tree(after):
    from parity.twins.families.conv import flattened

    pair = flattened()
    if after:
        pair = dataclasses.replace(pair, flax_call=lambda m, x, **_: after(m(x)))
    made = proof(pair, steps=0)
    location = locate(made.subject, made.judgement, made.reference.facts)
    rows = {row.place: row for row in location.rows}
    assert max(max(rows[name].inputs, rows[name].outputs) for name in ("conv", "dropout", "fc")) <= ONE_STEP
    assert not {fault.place for fault in location.faults} & {"conv", "dropout", "fc"}
    assert after or all(row.verdict is Verdict.PASS for row in location.rows)
