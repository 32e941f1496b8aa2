"""What shapes leave open is settled by running the models, in right ports and in faulty ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from parity import Rule
from parity.links import SAME, TRANSPOSED
from parity.pair import Pair, channels_last
from parity.prove import precise, prepare, prove
from parity.twins.families.conv import dropped, flattened
from parity.twins.families.dense import Own, own
from parity.twins.families.parts import Original, Port, drawn
from parity.verdict import Verdict


def prepared(pair: Pair):
    with precise():
        return prepare(pair)


def ways(subject) -> dict:
    return {link.leaf.name: link.way for link in subject.bridge.links}


@pytest.mark.parametrize(("turned", "way"), [(True, SAME), (False, TRANSPOSED)])
def test_a_square_weight_of_an_own_layer(turned, way):
    subject = prepared(own(turned))
    assert ways(subject)["first.kernel"] == ways(subject)["second.kernel"] == way
    assert not any(link.others for link in subject.bridge.links)
    weights = subject.weights["a.weight"]
    np.testing.assert_array_equal(subject.flax.variables()["first.kernel"], weights if turned else weights.T)


def _faulty(turned: bool) -> Pair:
    """One layer has another activation, so that the models cannot agree."""

    def port() -> nnx.Module:
        first, second = (Own(turned, nnx.Rngs(0)) for _ in range(2))
        return Port(lambda m, x: m.second(jax.nn.relu(m.first(x))), first=first, second=second)

    return dataclasses.replace(own(turned), flax=port)


@pytest.mark.parametrize("turned", [True, False])
def test_a_fault_elsewhere_does_not_hide_the_order_of_axes(turned):
    subject = prepared(_faulty(turned))
    assert ways(subject)["first.kernel"] == (SAME if turned else TRANSPOSED)
    assert prove(_faulty(turned), steps=1).verdict is Verdict.FAIL


def test_a_rule_is_not_questioned():
    pair = dataclasses.replace(own(turned=True), rules=[Rule(r"a\.weight", "first.kernel", perm=(1, 0))])
    subject = prepared(pair)
    assert ways(subject)["first.kernel"] == TRANSPOSED
    assert ways(subject)["second.kernel"] == SAME


def test_the_order_of_a_flattened_image_and_what_a_conversion_must_do():
    subject = prepared(flattened())
    (line,) = [warning for warning in subject.warnings if "flattens" in warning]
    assert "fc.kernel: the port flattens (H, W, C) where torch flattens (C, H, W)" in line
    weight = subject.weights["fc.weight"]
    assert "weight.reshape(out, 4, 4, 3).transpose(0, 2, 3, 1).reshape(out, -1).T" in line
    done = weight.reshape(6, 4, 4, 3).transpose(0, 2, 3, 1).reshape(6, -1).T
    np.testing.assert_array_equal(subject.flax.variables()["fc.kernel"], done)


def test_a_port_that_turns_the_image_first_needs_nothing():
    subject = prepared(flattened(channels_first=True))
    assert not any("flattens" in warning for warning in subject.warnings)
    assert ways(subject)["fc.kernel"] == TRANSPOSED


def test_a_conversion_that_forgets_the_order_fails():
    def forgetful(state):
        kernels = {name.replace(".weight", ".kernel"): value for name, value in state.items()}
        turned = {n: v.T if n.endswith("fc.kernel") or n.startswith("out.k") else v for n, v in kernels.items()}
        return turned | {"conv.kernel": state["conv.weight"].transpose(2, 3, 1, 0)}

    judgement = prove(dataclasses.replace(flattened(), weights=forgetful), steps=1)
    failed = [leaf.name for leaf in judgement.phase("weights").leaves if leaf.verdict is Verdict.FAIL]
    assert failed == ["fc.weight"]


def test_an_image_that_only_functions_pooled_is_known_by_its_channels():
    pair = Pair(
        torch=lambda: Original(
            lambda m, x: m.fc(torch.nn.functional.max_pool2d(m.conv(x), 2).flatten(1)),
            conv=nn.Conv2d(1, 5, 3, padding=1),
            fc=nn.Linear(5 * 4 * 4, 3),
        ),
        flax=lambda: Port(
            lambda m, x: m.fc(nnx.max_pool(m.conv(x), (2, 2), strides=(2, 2)).reshape(len(x), -1)),
            conv=nnx.Conv(1, 5, (3, 3), padding=1, rngs=nnx.Rngs(0)),
            fc=nnx.Linear(80, 3, rngs=nnx.Rngs(0)),
        ),
        inputs=drawn(3, 1, 8, 8),
        flax_inputs=channels_last,
    )
    assert prove(pair, steps=1).verdict is Verdict.PASS


def test_layers_that_are_defined_in_another_order():
    def port() -> nnx.Module:
        late, early = (nnx.Linear(6, 6, rngs=nnx.Rngs(0)) for _ in range(2))
        return Port(lambda m, x: m.late(jnp.tanh(m.early(x))), late=late, early=early)

    pair = Pair(
        torch=lambda: Original(lambda m, x: m.b(torch.tanh(m.a(x))), a=nn.Linear(6, 6), b=nn.Linear(6, 6)),
        flax=port,
        inputs=drawn(4, 6),
    )
    subject = prepared(pair)
    found = {link.source.name: (link.leaf.name, link.how) for link in subject.bridge.links}
    assert found["a.weight"] == ("early.kernel", "shape and probing")


def test_an_output_as_high_and_wide_as_it_has_channels():
    pair = dataclasses.replace(dropped(), outputs=(lambda x: x, lambda x: x))
    pair = dataclasses.replace(
        pair,
        torch=lambda: Original(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 6, 3, padding=1)),
        flax=lambda: Port(lambda m, x: m.conv(x), conv=nnx.Conv(3, 6, (3, 3), padding=1, rngs=nnx.Rngs(0))),
    )
    assert prepared(pair).flax.orders == {"output": (0, 3, 1, 2)}


def test_masks_as_high_and_wide_as_they_have_channels():
    from parity.prove import record

    subject = prepared(dropped())
    with precise():
        record(subject, steps=1)
    assert subject.flax.mask_orders == [(0, 2, 3, 1)]
