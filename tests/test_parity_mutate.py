"""Planted faults: how many there are, and that each spoils one thing of a pair that is right."""

import dataclasses

import jax
import numpy as np
import pytest

from parity import mutate
from parity.mutate.forward import everywhere, seen
from parity.prove import precise, prepare
from parity.twins.testbed import block, perceptron
from parity.verdict import relative


@pytest.fixture(scope="module")
def given():
    return mutate.right(perceptron(), steps=2)


def planted(given, name):
    ((_, found),) = mutate.planted(given, [name])
    return found


def test_there_are_many_faults_of_unique_names():
    names = [fault.name for fault in mutate.FAULTS]
    assert len(names) == len(set(names)) >= 40
    assert all(fault.text for fault in mutate.FAULTS)


def test_the_order_is_that_of_a_port():
    names = [fault.name for fault in mutate.FAULTS]
    order = [
        "transposed weight",
        "norm eps",
        "padding",
        "gelu form",
        "loss summed",
        "input scale",
        "learning rate",
    ]
    assert sorted(order, key=names.index) == order


def test_a_right_pair_is_told_with_its_optimizer(given):
    assert given.optimizer["class"] == "AdamW"
    assert given.optimizer["weight_decay"] == 0.01
    assert given.rates == pytest.approx((1e-3, 1e-3, 5e-4, 5e-4))
    assert not given.pair.shake


def test_only_faults_that_the_pair_has_a_place_for_are_planted(given):
    names = ["mirrored kernel", "running mean and variance", "no momentum", "input channels"]
    assert not list(mutate.planted(given, names))


def test_a_spoiled_conversion_changes_one_weight(given):
    with precise():
        subject = prepare(planted(given, "transposed weight").pair)
        mine = subject.bridge.to_torch(subject.flax.variables())
    wrong = {name for name, value in mine.items() if relative(value, subject.weights[name]) > 1e-12}
    assert wrong == {"fc2.weight"}
    np.testing.assert_array_equal(mine["fc2.weight"], subject.weights["fc2.weight"].T)


def test_places_name_the_weight_and_its_layer(given):
    found = planted(given, "transposed weight")
    assert found.places == {"fc2", "fc2.weight"}
    assert "weights" in found.kinds


def test_a_changed_layer_leaves_the_right_pair_alone(given):
    found = planted(given, "no dropout")
    assert found.pair.flax.dropout.rate == 0
    assert given.port.dropout.rate == 0.3


def test_a_wrapped_layer_stays_of_its_class(given):
    found = planted(given, "float32 layer")
    assert isinstance(found.pair.flax.fc1, type(given.port.fc1))
    assert type(given.port.fc1) is not type(found.pair.flax.fc1)


def test_functions_are_replaced_for_a_while():
    original = jax.nn.relu
    with everywhere(original, jax.nn.silu):
        assert jax.nn.relu is jax.nn.silu
    assert jax.nn.relu is original


def test_calls_of_the_forward_pass_are_seen(given):
    ((_, kwargs),) = seen(given.pair, jax.nn, "gelu")
    assert kwargs == {"approximate": False}
    assert not seen(given.pair, jax.nn, "silu")


def test_attention_is_spoiled_though_it_is_made_exact():
    given = mutate.right(dataclasses.replace(block(), torch_optimizer=None, tx=None))
    names = ["attention scale", "attention mask polarity"]
    assert [fault.name for fault, _ in mutate.planted(given, names)] == names
