"""Residual networks against torchvision's: names, layouts, outputs, gradients, statistics, initial weights."""

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
from jaxdl.models import resnet, resnet18, resnet34, resnet50
from jaxdl.models.resnet import BasicBlock, Bottleneck, ResNet
from jaxdl.nn.pooling import adaptive_avg_pool2d
from parity.twins.resnet import TorchBasicBlock, TorchBottleneck, TorchResNet, conv1x1

SHAPE = (17, 14, 2)
STAGES = ["layer1", "layer2", "layer3", "layer4"]


def split(model: nnx.Module):
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def shaken(theirs: torch.nn.Module) -> torch.nn.Module:
    """With norms that are not the fresh ones, which hide where they stand."""
    generator = torch.Generator().manual_seed(0)
    for name, value in theirs.state_dict().items():
        if "bn" in name and value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return theirs


def test_torchs_weights_load_and_give_torchs_outputs_gradients_and_statistics(tmp_path):
    theirs = shaken(TorchResNet(TorchBasicBlock, (1, 2, 1, 1), 5, width=4, channels=2))
    options = {"block": BasicBlock, "layers": (1, 2, 1, 1), "width": 4}
    ours = nnx.eval_shape(lambda: ResNet(SHAPE, 5, **options, rngs=nnx.Rngs(0)))
    graphdef, params, stats = split(ours)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), path)
    loaded = weights.load(path, ours, params, stats)  # refuses any other name or shape
    weights.save(path, ours, *loaded)
    theirs.load_state_dict(safetensors.torch.load_file(path), strict=True)

    images = np.random.default_rng(0).normal(size=(4, *SHAPE))
    with jax.enable_x64(True):
        double = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, loaded)

        @jax.jit
        def both(params, stats, x):
            def loss(params):
                model = nnx.merge(graphdef, params, stats)
                logits = model(x)
                return (logits**3).sum(), (logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

            (_, (logits, after)), grads = jax.value_and_grad(loss, has_aux=True)(params)
            evaluated = nnx.view(nnx.merge(graphdef, params, stats), use_running_average=True)(x)
            return evaluated, logits, grads, after

        evaluated, logits, grads, after = both(*double, jnp.asarray(images))
    theirs.double()
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        np.testing.assert_allclose(evaluated, theirs.eval()(x).numpy(), rtol=1e-11, atol=1e-11)
    expected = theirs.train()(x)
    (expected**3).sum().backward()
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-11, atol=1e-11)
    weights.save(path, ours, grads, after)
    found = safetensors.torch.load_file(path)
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()} | dict(theirs.named_buffers())
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride", [1, 2])
def test_a_bottleneck_is_torchvisions(stride, tmp_path):
    shortcut = torch.nn.Sequential(conv1x1(3, 8, stride), torch.nn.BatchNorm2d(8))
    theirs, path = shaken(TorchBottleneck(3, 2, stride, shortcut)).double(), tmp_path / "weights.safetensors"
    ours = nnx.eval_shape(lambda: Bottleneck(3, 2, stride, rngs=nnx.Rngs(0)))
    graphdef, params, stats = split(ours)
    safetensors.torch.save_file(theirs.state_dict(), path)
    loaded = weights.load(path, ours, params, stats)
    x = np.random.default_rng(0).normal(size=(3, 5, 6, 3))

    @jax.jit
    def value_and_gradient(params, stats, x):
        def loss(x):
            y = nnx.merge(graphdef, params, stats)(x)
            return (y**3).sum(), y

        return jax.grad(loss, has_aux=True)(x)

    grad, y = value_and_gradient(*loaded, jnp.asarray(x))
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(leaf.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    (expected**3).sum().backward()
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(grad, np.asarray(leaf.grad), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "count"), [(resnet18, 11_689_512), (resnet34, 21_797_672), (resnet50, 25_557_032)]
)
def test_it_has_as_many_parameters_as_torchvision_states(make, count):
    model = nnx.eval_shape(lambda: make((224, 224, 3), 1000, rngs=nnx.Rngs(0)))
    assert tree.size(nnx.to_pure_dict(nnx.state(model, nnx.Param))) == count


@pytest.mark.parametrize(
    ("size", "stem", "last"), [(224, "imagenet", 7), (32, "imagenet", 1), (32, "cifar", 4), (1, "imagenet", 1)]
)
def test_the_last_stage_leaves_the_resolution_that_the_stem_says(size, stem, last, monkeypatch):
    pooled = []

    def pool(x, output_size):
        pooled.append(x.shape)
        return adaptive_avg_pool2d(x, output_size)

    monkeypatch.setattr(resnet, "adaptive_avg_pool2d", pool)

    def logits():
        model = resnet18((size, size, 3), stem=stem, rngs=nnx.Rngs(0))
        return nnx.view(model, use_running_average=True)(jnp.zeros((2, size, size, 3)))

    assert jax.eval_shape(logits).shape == (2, 10)
    assert pooled == [(2, last, last, 512)]


def test_convolutions_are_drawn_for_their_fan_out_and_have_no_bias():
    model = nnx.eval_shape(lambda: resnet18(rngs=nnx.Rngs(0)))
    assert model.layer1[0].conv1.bias is None
    block = BasicBlock(32, 64, rngs=nnx.Rngs(0))
    for conv, fan_out in ((block.conv1, 9 * 64), (block.downsample[0], 64)):
        drawn = np.asarray(conv.weight[...])
        assert np.std(drawn) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        assert np.abs(drawn).max() > 3 * (2 / fan_out) ** 0.5  # not cut


def test_only_a_block_that_changes_the_shape_has_a_shortcut_of_its_own():
    model = nnx.eval_shape(lambda: resnet18(rngs=nnx.Rngs(0)))
    found = {(stage, place): bool(getattr(model, stage)[place].downsample) for stage in STAGES for place in (0, 1)}
    assert {place for place, own in found.items() if own} == {(stage, 0) for stage in STAGES[1:]}
    assert nnx.eval_shape(lambda: resnet50(rngs=nnx.Rngs(0))).layer1[0].downsample  # 64 channels to 256


def test_a_bfloat16_step_keeps_its_statistics_in_float32():
    def step(x):
        model = ResNet((8, 8, 3), 4, block=BasicBlock, layers=(1, 1, 1, 1), width=4, rngs=nnx.Rngs(0))
        graphdef, params, stats = split(model)
        narrow = nnx.merge(graphdef, cast(params, jnp.bfloat16), stats)
        return narrow(x), nnx.to_pure_dict(nnx.state(narrow, nnx.BatchStat))

    logits, stats = jax.eval_shape(step, jnp.zeros((2, 8, 8, 3), jnp.bfloat16))
    assert logits.dtype == jnp.bfloat16
    assert {value.dtype.name for value in jax.tree.leaves(stats)} == {"float32", "int32"}
