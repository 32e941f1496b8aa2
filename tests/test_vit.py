"""The vision transformer against torchvision's: names, layouts, outputs, gradients, initial weights, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.engine.step import cast
from jaxdl.models import VisionTransformer
from jaxdl.models.vit import Encoder, EncoderBlock
from parity.twins.vit import TorchVisionTransformer

SHAPE = (6, 6, 2)
SMALL = {"patch": 3, "hidden": 8, "depth": 2, "heads": 2}


def small(**options) -> VisionTransformer:
    return VisionTransformer(SHAPE, 5, **{**SMALL, **options}, rngs=nnx.Rngs(0))


def split(model: nnx.Module):
    graphdef, params = nnx.split(nnx.view(model, deterministic=True), nnx.Param)
    return graphdef, nnx.to_pure_dict(params)


def test_torchs_weights_load_and_give_torchs_outputs_and_gradients(tmp_path):
    torch.manual_seed(0)
    theirs = TorchVisionTransformer(6, 3, 2, 2, 8, 32, num_classes=5, channels=2)
    for value in theirs.state_dict().values():
        if (value == value.flatten()[0]).all():  # a fresh norm, a zero head: they hide where they stand
            value.add_(0.3 * torch.randn(value.shape))
    ours = nnx.eval_shape(small)
    graphdef, params = split(ours)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), path)
    loaded, _ = weights.load(path, ours, params, {})  # refuses any other name or shape
    weights.save(path, ours, loaded, {})
    theirs.load_state_dict(safetensors.torch.load_file(path), strict=True)

    images = np.random.default_rng(0).normal(size=(3, *SHAPE))
    with jax.enable_x64(True):

        @jax.jit
        def both(params, x):
            def loss(params):
                logits = nnx.merge(graphdef, params)(x)
                return (logits**3).sum(), logits

            (_, logits), grads = jax.value_and_grad(loss, has_aux=True)(params)
            return logits, grads

        double = jax.tree.map(lambda value: jnp.asarray(value, jnp.float64), loaded)
        logits, grads = both(double, jnp.asarray(images))
    expected = theirs.double()(torch.tensor(images.transpose(0, 3, 1, 2)))
    (expected**3).sum().backward()
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-11, atol=1e-12)
    weights.save(path, ours, grads, {})
    found = safetensors.torch.load_file(path)
    assert found.keys() == theirs.state_dict().keys()
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(found[name], np.asarray(parameter.grad), rtol=1e-9, atol=1e-10, err_msg=name)


def test_blocks_follow_each_other_by_number(monkeypatch):
    """Not as names are sorted, which is how a model that was split comes back: 10 before 2."""
    called = []
    monkeypatch.setattr(EncoderBlock, "__call__", lambda self, x, *_: called.append(self.place) or x)

    def run(x):
        encoder = Encoder(2, 11, 4, 2, 0.0, rngs=nnx.Rngs(0))
        for place in range(11):
            encoder.layers[f"encoder_layer_{place}"].place = place
        return nnx.merge(*nnx.split(encoder))(x)

    jax.eval_shape(run, jnp.zeros((1, 2, 4)))
    assert called == list(range(11))


def test_torchvisions_vit_b_16_is_a_configuration_of_it():
    model = nnx.eval_shape(
        lambda: VisionTransformer((224, 224, 3), 1000, patch=16, hidden=768, depth=12, heads=12, rngs=nnx.Rngs(0))
    )
    params = tree.flatten(nnx.to_pure_dict(nnx.state(model)))
    assert sum(value.size for value in params.values()) == 86_567_656  # as torchvision states
    assert params["encoder.pos_embedding"].shape == (1, 197, 768)


def test_by_default_it_is_for_images_of_32x32():
    model = nnx.eval_shape(lambda: VisionTransformer(rngs=nnx.Rngs(0)))
    params = tree.flatten(nnx.to_pure_dict(nnx.state(model)))
    assert params["encoder.pos_embedding"].shape == (1, 65, 192)
    assert params["conv_proj.weight"].shape == (4, 4, 3, 192)
    assert len({name.split(".")[2] for name in params if "encoder_layer" in name}) == 6


def test_images_need_not_be_square():
    model = nnx.eval_shape(lambda: VisionTransformer((3, 12, 1), 4, **SMALL, rngs=nnx.Rngs(0)))
    assert model.encoder.pos_embedding.shape == (1, 5, 8)
    logits = jax.eval_shape(
        lambda x: VisionTransformer((3, 12, 1), 4, **SMALL, rngs=nnx.Rngs(0))(x), jnp.zeros((2, 3, 12, 1))
    )
    assert logits.shape == (2, 4)


def test_starts_with_even_odds_and_torchvisions_distributions():
    model = small(hidden=64, depth=1)
    head, block = model.heads["head"], model.encoder.layers["encoder_layer_0"]
    bound = (6 / (64 + 256)) ** 0.5
    assert 0.98 * bound < np.abs(np.asarray(block.mlp["0"].weight[...])).max() < bound
    assert 0 < np.abs(np.asarray(block.mlp["3"].bias[...])).max() < 1e-5
    assert np.std(np.asarray(model.conv_proj.weight[...])) == pytest.approx((1 / 18) ** 0.5, rel=0.05)
    assert np.std(np.asarray(model.encoder.pos_embedding[...])) == pytest.approx(0.02, rel=0.2)
    for zero in (head.weight, head.bias, model.class_token, model.conv_proj.bias):
        assert not np.asarray(zero[...]).any()


def test_dropout_acts_behind_the_embedding_the_attention_and_both_layers_of_the_mlp(monkeypatch):
    masks = []
    monkeypatch.setattr(
        jax.random, "bernoulli", lambda _, p, shape: masks.append((p, shape)) or jnp.ones(shape, bool)
    )
    images = jnp.zeros((2, *SHAPE))
    jax.eval_shape(lambda x: small(dropout=0.25)(x, nnx.Rngs(dropout=0)), images)
    tokens, wide = (2, 5, 8), (2, 5, 32)
    assert masks == [(0.75, shape) for shape in (tokens, *2 * (tokens, wide, tokens))]
    jax.eval_shape(lambda x: nnx.view(small(dropout=0.25), deterministic=True)(x), images)
    assert len(masks) == 7


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (
            (30, 30, 3),
            {"patch": 4},
            "patches of 4 pixels do not fill an image of 30x30; 1, 2, 3, 5, 6, 10, 15, 30 do",
        ),
        ((28, 30, 1), {"patch": 7}, "do not fill an image of 28x30; 1, 2 do"),
        ((8, 8, 3), {"patch": 16}, "patches of 16 pixels do not fill an image of 8x8; 1, 2, 4, 8 do"),
        ((8, 8, 3), {"hidden": 200}, "a number of heads that divides the width 200, got 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: VisionTransformer(shape, **options, rngs=nnx.Rngs(0)))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"images of shape \(B, 6, 6, 2\), got \(1, 9, 9, 2\)"):
        jax.eval_shape(lambda x: small(depth=1)(x), jnp.zeros((1, 9, 9, 2)))


def test_bfloat16_stays_bfloat16():
    def logits(x):
        graphdef, params = nnx.split(small(dropout=0.1))
        return nnx.merge(graphdef, cast(nnx.to_pure_dict(params), jnp.bfloat16))(x, nnx.Rngs(dropout=0))

    assert jax.eval_shape(logits, jnp.zeros((2, *SHAPE), jnp.bfloat16)).dtype == jnp.bfloat16
