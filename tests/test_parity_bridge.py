"""The bridge: every leaf matched or named, all problems at once, the same bits there and back."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parity import Rule, torch_side
from parity.bridge import SAME, TRANSPOSED, BridgeError, FlaxLeaf, Group, Way, infer, tokens
from parity.flax_side import FlaxSide
from parity.prove import precise
from parity.twins.families import FAMILIES
from parity.twins.families.parts import Original, Port


def linear(name: str, out: int, into: int) -> Group:
    return Group(name, "Linear", {"weight": (out, into), "bias": (out,)})


def dense(*path: str, out: int, into: int, kind: str = "Linear") -> list[FlaxLeaf]:
    return [FlaxLeaf((*path, "kernel"), (into, out), kind), FlaxLeaf((*path, "bias"), (out,), kind)]


def table(bridge) -> dict[str, str]:
    return {str(link.source): link.leaf.name for link in bridge.links}


def bridged(name: str):
    pair = FAMILIES[name]()
    with precise():
        module = pair.torch_module()
        side = FlaxSide(pair, pair.flax_module(), pair.batch(0, 0)[0])
    return module, side, infer(torch_side.describe(module), side.leaves, tied=torch_side.tied(module))


def test_names_in_one_spelling():
    assert tokens(("encoder", "layers_0", "self", "Query")) == ("encoder", "layer", "0", "self", "q")
    assert tokens(("rnn", "cell", "if_")) == ("rnn", "if")


def test_a_sequential_is_counted_by_its_layers_with_weights():
    groups = [linear(f"net.{place}", 8, 8) for place in (0, 2, 5)]
    leaves = [leaf for place in range(3) for leaf in dense("net", str(place), out=8, into=8)]
    assert table(infer(groups, leaves))["net.2.weight"] == "net.1.kernel"
    assert table(infer(groups, leaves))["net.5.weight"] == "net.2.kernel"


def test_other_names_go_by_likeness_then_by_shape_and_order():
    groups = [
        linear(f"enc.layer.{i}.{part}", 8, 8) for i in range(2) for part in ("self.query", "self.key", "dense")
    ]
    leaves = [
        leaf
        for i in range(2)
        for part in ("out", "k_proj", "wq")
        for leaf in dense("h", str(i), part, out=8, into=8)
    ]
    found = table(infer(groups, leaves))
    assert found["enc.layer.1.self.query.weight"] == "h.1.wq.kernel"
    assert found["enc.layer.0.self.key.bias"] == "h.0.k_proj.bias"
    assert found["enc.layer.1.dense.weight"] == "h.1.out.kernel"


def test_blocks_are_matched_by_their_number_before_the_order_of_definition():
    groups = [Group("first", "LayerNorm", {"weight": (8,)})]
    groups += [Group(f"layer.{i}.norm_a", "LayerNorm", {"weight": (8,)}) for i in range(2)]
    leaves = [FlaxLeaf(("blocks", str(i), "ln", "scale"), (8,)) for i in range(2)] + [
        FlaxLeaf(("ln_f", "scale"), (8,))
    ]
    found = table(infer(groups, leaves))
    assert found["first.weight"] == "ln_f.scale"
    assert found["layer.1.norm_a.weight"] == "blocks.1.ln.scale"


def test_all_problems_in_one_message():
    groups = [linear("fc1", 4, 3), linear("fc2", 5, 4), linear("gone", 9, 9)]
    leaves = dense("fc1", out=4, into=7) + dense("fc2", out=5, into=4) + [FlaxLeaf(("extra", "scale"), (6,))]
    with pytest.raises(BridgeError) as caught:
        infer(groups, leaves, rules=[Rule("nothing", "x")], ignore={"nobody.*": "because"})
    text = str(caught.value)
    assert "rule 'nothing' matches no torch key" in text
    assert "ignore 'nobody.*' matches no torch key" in text
    assert "fc1.weight (4, 3) does not fit fc1.kernel (7, 4)" in text
    assert "no counterpart in the port for gone.weight (9, 9); gone.bias (9,)" in text
    assert "no counterpart in torch for extra.scale (6,)" in text
    assert "give rules=" in text
    assert "fc2" not in text


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("fc.weight", "fc.nothing"), "has no free variable 'fc.nothing'"),
        (Rule("fc.weight", "fc.bias"), "does not fit fc.bias"),
        (Rule("fc.weight", "fc.kernel", perm=(0, 2)), "does not fit fc.kernel"),
        (Rule("fc.weight", "fc.kernel", flatten=(2, 2, 2)), "does not fit fc.kernel"),
        (Rule("fc.weight", "fc.kernel", part=(0, 3)), "has no 3 equal parts"),
        (Rule("fc.weight", "fc.kernel", part=(0, 2)), "does not fit fc.kernel"),
        (Rule("fc.(", "fc.kernel"), "is no regular expression"),
        (Rule("fc.weight", r"fc.\3"), "cannot be filled in"),
    ],
)
def test_a_wrong_rule_is_named(rule, message):
    with pytest.raises(BridgeError, match="rule") as caught:
        infer([linear("fc", 4, 3)], dense("fc", out=4, into=3), rules=[rule])
    assert message in str(caught.value)


def test_rules_come_first_and_cut_in_parts():
    group = Group("attn", "Own", {"packed": (12, 4)})
    leaves = [FlaxLeaf((name, "kernel"), (4, 4), "Linear") for name in ("a", "b", "c")]
    rules = [Rule("attn.packed", f"{name}.kernel", perm=(1, 0), part=(i, 3)) for i, name in enumerate("abc")]
    bridge = infer([group], leaves, rules=rules)
    packed = np.arange(48.0).reshape(12, 4)
    there = bridge.to_flax({"attn.packed": packed})
    np.testing.assert_array_equal(there["b.kernel"], packed[4:8].T)
    np.testing.assert_array_equal(bridge.to_torch(there)["attn.packed"], packed)
    with pytest.raises(BridgeError, match="the rules give the parts"):
        infer([group], leaves[:1], rules=rules[:1])


def test_ignored_and_tied_leaves_are_in_the_table():
    groups = [linear("fc", 4, 3), linear("head", 2, 4), Group("pos", "Own", {"table": (7,)}, ("table",))]
    bridge = infer(
        groups,
        [*dense("fc", out=4, into=3), FlaxLeaf(("spare",), (2,))],
        tied={"head.weight": "fc.weight", "head.bias": "fc.bias"},
        ignore={"spare": "only the port has it"},
    )
    text = "\n".join(bridge.lines())
    assert "head.weight: tied to fc.weight" in text
    assert "spare: ignored, only the port has it" in text
    assert "pos.table: ignored, a buffer that the port does not keep" in text


def test_an_untied_port_is_told_of_the_tie():
    with pytest.raises(BridgeError, match=r"torch ties head.weight to wte.weight"):
        infer(
            [Group("wte", "Embedding", {"weight": (11, 8)}), Group("head", "Linear", {"weight": (11, 8)})],
            [FlaxLeaf(("wte", "embedding"), (11, 8), "Embed"), FlaxLeaf(("head", "kernel"), (8, 11), "Linear")],
            tied={"head.weight": "wte.weight"},
        )


def test_a_square_weight_of_an_unknown_class_is_left_open_and_one_of_flax_is_not():
    others = infer([linear("fc", 4, 4)], dense("fc", out=4, into=4, kind="own Dense")).links[0].others
    assert others == (SAME,)
    assert infer([linear("fc", 4, 4)], dense("fc", out=4, into=4)).links[0].others == ()
    assert infer([linear("fc", 4, 4)], dense("fc", out=4, into=4)).links[0].way == TRANSPOSED


def test_the_gates_of_the_recurrent_cells_and_the_sum_of_two_biases():
    module, side, bridge = bridged("linen-gru")
    found = table(bridge)
    (reset,) = [name for name in found if name.startswith("rnn.bias_ih_l0[0:5] + ")]
    assert reset == "rnn.bias_ih_l0[0:5] + rnn.bias_hh_l0[0:5]"
    assert found["rnn.weight_hh_l0[10:15]"].endswith("hn.kernel")
    assert bridge.held == {"rnn.bias_hh_l0[0:5]", "rnn.bias_hh_l0[5:10]"}
    merged = bridge.merged(torch_side.state(module))
    again = bridge.state_dict(bridge.to_flax(torch_side.state(module)))
    assert merged.keys() == again.keys() == dict(module.named_parameters()).keys()
    for name, value in merged.items():
        np.testing.assert_array_equal(again[name], value)
    x = torch.randn(2, 3, 5)
    before = module.double()(x.double())
    module.load_state_dict({name: torch.as_tensor(value) for name, value in merged.items()})
    torch.testing.assert_close(module(x.double()), before)
    assert len(side.leaves) == len(bridge.links)


def test_a_gru_without_the_bias_of_the_candidate_is_refused():
    cell = Group(
        "rnn", "GRU", {"weight_ih_l0": (15, 5), "weight_hh_l0": (15, 5), "bias_ih_l0": (15,), "bias_hh_l0": (15,)}
    )
    leaves = [FlaxLeaf(("cell", f"dense_{side}", "kernel"), (5, 15), "Linear") for side in "ih"]
    leaves.append(FlaxLeaf(("cell", "dense_i", "bias"), (15,), "Linear"))
    with pytest.raises(BridgeError, match=r"b_hn that its reset gate multiplies"):
        infer([cell], leaves)


def test_packed_attention_is_taken_apart_or_kept_as_the_port_has_it():
    packed = Group("attn", "MultiheadAttention", {"in_proj_weight": (12, 4), "in_proj_bias": (12,)})
    apart = [leaf for role in ("query", "key", "value") for leaf in dense("attn", role, out=4, into=4)]
    assert table(infer([packed], apart))["attn.in_proj_weight[4:8]"] == "attn.key.kernel"
    # A layer of the same size beside it is no packed matrix.
    beside = dense("fc", out=12, into=4)
    assert len(infer([packed, linear("fc", 12, 4)], apart + beside).links) == 8
    whole = infer([packed], dense("attn", "qkv", out=12, into=4))
    assert table(whole) == {"attn.in_proj_weight": "attn.qkv.kernel", "attn.in_proj_bias": "attn.qkv.bias"}


def test_the_order_of_definition_is_not_that_of_names():
    class Late(nnx.Module):
        def __init__(self) -> None:
            self.z, self.a = (nnx.Linear(3, 3, rngs=nnx.Rngs(0)) for _ in range(2))

        def __call__(self, x):
            return self.a(self.z(x))

    pair = FAMILIES["norms"]()
    with precise():
        side = FlaxSide(pair, Late(), {0: np.zeros((1, 3))})
    assert [leaf.path[0] for leaf in side.leaves] == ["z", "z", "a", "a"]
    module = Original(lambda m, x: m.two(m.one(x)), one=nn.Linear(3, 3), two=nn.Linear(3, 3))
    assert table(infer(torch_side.describe(module), side.leaves))["one.weight"] == "z.kernel"


def test_types_that_layers_pin_are_those_of_the_proof():
    pair = FAMILIES["attention"]()
    with precise():
        side = FlaxSide(pair, pair.flax_module(), pair.batch(0, 0)[0])
        made, _, _ = side.forward(side.model.params, side.model.stats, side.batch(0, 0)[0], train=False)
    assert made.dtype == jnp.float64


arrays = st.integers(0, 2**32 - 1)


@settings(max_examples=20)
@given(arrays, st.permutations(range(4)), st.sets(st.integers(0, 3)))
def test_a_way_keeps_every_bit(seed, perm, mirrored):
    bits = np.random.default_rng(seed).integers(0, 2**63, (2, 3, 4, 5)).view(np.float64)
    way = Way(tuple(perm), tuple(mirrored))
    shape = tuple(bits.shape[axis] for axis in perm)
    there = way.to_flax(bits, shape)
    np.testing.assert_array_equal(way.to_torch(there, bits.shape).view(np.int64), bits.view(np.int64))


SETTLED = (
    "sequential",
    "conv2d",
    "conv3d",
    "conv-transpose",
    "conv-transpose-mirrored",
    "norms",
    "tied",
    "attention",
)


@pytest.mark.parametrize("name", [*SETTLED, "image-norms", "encoder"])
def test_there_and_back_is_the_same_to_the_bit(name):
    module, side, bridge = bridged(name)
    given = {
        key: np.random.default_rng(0).integers(0, 2**63, value.shape).view(np.float64)
        for key, value in torch_side.state(module).items()
    }
    for key, first in bridge.tied.items():
        given[key] = given[first]
    there = bridge.to_flax(given)
    assert {leaf.name: leaf.shape for leaf in side.leaves} == {name: value.shape for name, value in there.items()}
    back = bridge.state_dict(there)
    assert back.keys() == given.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(back[key].view(np.int64), value.view(np.int64))


def test_a_convolution_of_patches_may_be_a_matrix():
    group = Group("patch", "Conv2d", {"weight": (5, 3, 2, 2)})
    (link,) = infer([group], [FlaxLeaf(("patch", "kernel"), (12, 5), "own Patch")]).links
    weight = np.arange(60.0).reshape(5, 3, 2, 2)
    np.testing.assert_array_equal(link.way.to_flax(weight, (12, 5)), weight.transpose(2, 3, 1, 0).reshape(12, 5))
    assert len(link.others) >= 1


def test_port_lists_and_dicts_of_layers_are_found():
    port = Port(
        lambda _, x: x, parts=nnx.Dict(b=nnx.Linear(2, 3, rngs=nnx.Rngs(0)), a=nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    )
    with precise():
        side = FlaxSide(FAMILIES["norms"](), port, {0: np.zeros((1, 2))})
    assert [leaf.name for leaf in side.leaves] == [
        f"parts.{n}.{leaf}" for n in "ba" for leaf in ("kernel", "bias")
    ]
