"""Low-rank adapters against a torch twin that adds a second path to each layer, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.engine.objective import classification
from jaxdl.methods.finetune import lora
from jaxdl.models import CNN
from jaxdl.nn import losses
from jaxdl.nn.attention import MultiheadAttention

SCALE, RANK = 1.5, 2


class Twin(torch.nn.Module):
    """jaxdl's CNN with the adapters as peft computes them: a thin layer and one back to full width."""

    def __init__(self, values):
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(torch.tensor(np.asarray(value))))

    def layer(self, name, x):
        get = {
            part: getattr(self, f"{name}_{part}") for part in ("weight", "bias", "weight_lora_A", "weight_lora_B")
        }
        weight, a, b = get["weight"], get["weight_lora_A"], get["weight_lora_B"]
        if weight.ndim == 2:
            path = torch.nn.functional.linear(torch.nn.functional.linear(x, a), b)
            return torch.nn.functional.linear(x, weight, get["bias"]) + SCALE * path
        thin = torch.nn.functional.conv2d(x, a.reshape(-1, *weight.shape[1:]), padding=1)
        path = torch.nn.functional.conv2d(thin, b[:, :, None, None])
        return torch.nn.functional.conv2d(x, weight, get["bias"], padding=1) + SCALE * path

    def forward(self, x):
        for name in ("conv1", "conv2"):
            x = torch.nn.functional.max_pool2d(torch.relu(self.layer(name, x)), 2)
        return self.layer("fc2", torch.relu(self.layer("fc1", x.flatten(1))))


def small():
    return CNN((8, 8, 2), 3, channels=(3, 4), hidden=5, rngs=nnx.Rngs(0))


def doubled(model):
    nnx.update(model, jax.tree.map(lambda x: x.astype(jnp.float64), nnx.state(model)))
    return model


def params_of(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def with_random_adapters(model):
    """An adapted model whose second matrices are no longer zeros."""
    adapted = lora.adapted(model, lora.weights_of(model), RANK, jax.random.key(1))
    draw = np.random.default_rng(2)
    drawn = tree.map_named(
        lambda name, x: jnp.asarray(draw.normal(size=x.shape)) if lora.is_adapter(name) else x, params_of(adapted)
    )
    nnx.update(adapted, drawn)
    return adapted


@pytest.mark.usefixtures("x64")
def test_loss_and_gradients_are_those_of_a_second_path():
    plain = doubled(small())
    adapted = with_random_adapters(plain)
    params = params_of(adapted)
    draw = np.random.default_rng(3)
    image, label = draw.normal(size=(6, 8, 8, 2)), draw.integers(0, 3, 6)
    graph = nnx.graphdef(nnx.view(adapted, deterministic=True))
    objective = lora.objective(classification(), SCALE)

    def loss_of(params):
        batch = {"image": jnp.asarray(image), "label": jnp.asarray(label)}
        return objective(nnx.merge(graph, params, {}), batch, None)[0]

    loss, gradients = jax.jit(jax.value_and_grad(loss_of))(params)
    flat = tree.flatten(params)
    known = weights.to_torch(plain, {name: x for name, x in flat.items() if not lora.is_adapter(name)})
    # The first matrix of a layer behind the flattened image has its inputs in torch's order too.
    twin = Twin(known | {name: x for name, x in flat.items() if lora.is_adapter(name)})
    theirs = torch.nn.functional.cross_entropy(twin(torch.tensor(image).permute(0, 3, 1, 2)), torch.tensor(label))
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-14)
    found = tree.flatten(gradients)
    found |= weights.to_torch(plain, {name: x for name, x in found.items() if not lora.is_adapter(name)})
    for name, gradient in found.items():
        other = getattr(twin, name.replace(".", "_")).grad.numpy()
        np.testing.assert_allclose(gradient, other, rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_the_merged_model_computes_what_the_adapted_one_does():
    plain = doubled(small())
    adapted = with_random_adapters(plain)
    merged = lora.merged(plain, params_of(adapted), SCALE)
    assert merged.keys() == params_of(plain).keys()
    assert not [name for name in tree.flatten(merged) if lora.is_adapter(name)]
    image = np.random.default_rng(3).normal(size=(4, 8, 8, 2))
    graph, known = nnx.split(nnx.view(plain, deterministic=True))[0], {**tree.flatten(merged)}
    mine = nnx.merge(graph, merged)(jnp.asarray(image))
    flat = tree.flatten(params_of(adapted))
    twin = Twin(
        weights.to_torch(plain, {n: flat[n] for n in known}) | {n: flat[n] for n in flat if n not in known}
    )
    theirs = twin(torch.tensor(image).permute(0, 3, 1, 2)).detach()
    np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)


def test_a_model_starts_as_it_was():
    plain = small()
    before = params_of(plain)
    adapted = lora.adapted(plain, lora.weights_of(plain), 1, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, lora.merged(plain, params_of(adapted), 3.0), before)
    jax.tree.map(np.testing.assert_array_equal, params_of(plain), before)  # the plain model is left as it is
    added = {name for name in tree.flatten(params_of(adapted)) if lora.is_adapter(name)}
    assert {lora.weight_of(name) for name in added} == set(lora.weights_of(plain))


def test_the_attentions_packed_projection_can_be_adapted():
    attention = MultiheadAttention(4, 2, rngs=nnx.Rngs(0))
    assert {name: x.shape for name, x in lora.weights_of(attention).items()} == {
        "in_proj_weight": (12, 4),
        "out_proj.weight": (4, 4),
    }


def test_the_first_matrix_is_drawn_as_torchs_linear_and_the_second_zero():
    adapted = tree.flatten(params_of(lora.adapted(small(), ["fc1.weight"], 4, jax.random.key(0))))
    a, b = adapted["fc1.weight_lora_A"], adapted["fc1.weight_lora_B"]
    assert (a.shape, b.shape) == ((4, 16), (5, 4))
    assert not np.any(b)
    assert 0.8 / 4 < np.abs(a).max() <= 1 / 4  # uniform within 1 / sqrt(16)


def test_penalties_see_the_merged_weights():
    plain = small()
    adapted = lora.adapted(plain, ["fc2.weight"], 1, jax.random.key(0))
    batch = {"image": jnp.ones((2, 8, 8, 2)), "label": jnp.zeros(2, jnp.int32)}
    graph = nnx.graphdef(nnx.view(adapted, deterministic=True))
    with_penalty, without = (
        lora.objective(classification(l2=strength), 1.0)(nnx.merge(graph, params_of(adapted), {}), batch, None)[0]
        for strength in (1.0, 0.0)
    )
    np.testing.assert_allclose(with_penalty - without, losses.l2_penalty(params_of(plain)), rtol=1e-5)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_rank_that_is_too_high_is_an_error(rank):
    with pytest.raises(ValueError, match=f"expected a rank from 1 to 3, as conv1.weight has; got {rank}"):
        lora.adapted(small(), ["conv1.weight"], rank, jax.random.key(0))


def test_nothing_to_adapt_is_an_error():
    with pytest.raises(ValueError, match="there is no layer to adapt"):
        lora.adapted(small(), [], 1, jax.random.key(0))
