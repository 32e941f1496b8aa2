"""Training for int8 against torch's fake quantization and observers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.ao import quantization as ao

from jaxdl import tree
from jaxdl.methods.quantize import calibrate, convert, layers, qat
from jaxdl.methods.quantize.layers import Scheme
from jaxdl.models import CNN
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import BatchNorm

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch.ao is to go

RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(0.2, scale, (20, 12)).astype(np.float32) for scale in (1, 3, 0.5)]
START = (np.float32(-1), np.float32(2))


def parts(layer: nnx.Module) -> tuple[nnx.GraphDef, dict, dict]:
    graph, params, stats = nnx.split(layer, nnx.Param, nnx.BatchStat)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def torch_observer() -> ao.MovingAverageMinMaxObserver:
    observer = ao.MovingAverageMinMaxObserver(averaging_constant=qat.AVERAGING, dtype=torch.qint8)
    observer.min_val, observer.max_val = (torch.tensor(end) for end in START)
    return observer


@pytest.mark.parametrize("per_channel", [True, False])
def test_outputs_gradients_and_ranges_are_torchs(per_channel):
    linear = Linear(12, 5, rngs=nnx.Rngs(0))
    graph, params, stats = parts(qat.FakeQuantized(linear, Scheme(per_channel), START))

    @jax.jit
    def step(params, stats, x):
        def objective(params):
            layer = nnx.merge(graph, params, stats)
            y = layer(x)
            return (y**2).sum(), (y, nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat)))

        return jax.grad(objective, has_aux=True)(params)

    weight, bias = (torch.from_numpy(np.array(params[name])).requires_grad_() for name in ("weight", "bias"))
    observer, kind = torch_observer(), ao.PerChannelMinMaxObserver if per_channel else ao.MinMaxObserver
    scheme = torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric
    for x in BATCHES:
        grads, (y, stats) = step(params, stats, jnp.asarray(x))
        inputs = torch.from_numpy(x)
        observer(inputs)
        scale, zero_point = observer.calculate_qparams()
        inputs = torch.fake_quantize_per_tensor_affine(inputs, float(scale), int(zero_point), -128, 127)
        rounding = ao.FakeQuantize(kind, -128, 127, dtype=torch.qint8, qscheme=scheme)
        outputs = torch.nn.functional.linear(inputs, rounding(weight), bias)
        theirs = torch.autograd.grad((outputs**2).sum(), (weight, bias))
        np.testing.assert_allclose(y, outputs.detach(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(grads["weight"], theirs[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(grads["bias"], theirs[1], rtol=1e-4, atol=1e-4)
        ends = observer.min_val, observer.max_val
        np.testing.assert_allclose([stats["input_low"], stats["input_high"]], ends, rtol=1e-6)


def trained(make, x: np.ndarray, per_channel: bool) -> tuple[nnx.Module, layers.Quantized]:
    """A layer that has seen ``x`` while it trained, and its int8 form with the range that it has then."""
    layer = make()
    faked = qat.FakeQuantized(layer, Scheme(per_channel), START)
    for _ in range(3):
        faked(jnp.asarray(x))
    stats = {"layer": parts(faked)[2]}
    kind = layers.QuantizedLinear if isinstance(layer, Linear) else layers.QuantizedConv2d
    return faked, kind(layer, Scheme(per_channel), qat.trained_ranges(stats)["layer"])


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Linear(12, 5, rngs=nnx.Rngs(0)), (20, 12)),
        (lambda: Conv2d(3, 4, 3, 2, 1, bias=False, rngs=nnx.Rngs(0)), (2, 7, 8, 3)),
    ],
    ids=["linear", "conv"],
)
def test_what_training_computes_with_is_what_int8_computes(make, shape, per_channel):
    x = RNG.uniform(-0.9, 1.9, shape).astype(np.float32)
    faked, ours = trained(make, x, per_channel)
    before = parts(faked)[2]
    ends = np.asarray([before["input_low"], before["input_high"]])
    # The range moves by a hundredth with each batch: put back, so that both have the same.
    expected = np.asarray(ours(jnp.asarray(x)))
    newest = (ends - qat.AVERAGING * np.asarray([x.min(), x.max()])) / (1 - qat.AVERAGING)
    faked.input_low[...], faked.input_high[...] = map(jnp.float32, newest)
    np.testing.assert_allclose(faked(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-4)


def test_parameters_keep_their_names_and_other_statistics_are_kept():
    model = CNN((8, 8, 1), 5, channels=(2, 3), hidden=4, rngs=nnx.Rngs(0))
    model.norm = BatchNorm(3)
    names = ("conv1", "conv2", "fc1", "fc2")
    faked = qat.fake_quantize(model, Scheme(), dict.fromkeys(names, START))
    _, params, stats = parts(faked)
    plain = qat.plain((params, stats))
    shapes = [jax.tree.map(jnp.shape, part) for part in plain]
    assert shapes == [jax.tree.map(jnp.shape, part) for part in parts(model)[1:]]
    assert qat.trained_ranges(stats) == dict.fromkeys(names, START)
    assert set(tree.flatten(plain[1])) == set(tree.flatten(parts(model)[2])) != set()


def test_a_network_learns_with_rounded_weights():
    model = CNN((8, 8, 1), 5, channels=(2, 3), hidden=4, rngs=nnx.Rngs(0))
    x = jnp.asarray(RNG.normal(size=(10, 8, 8, 1)), jnp.float32)
    found = calibrate.ranges(lambda see: convert.observe(model, [x], see), "minmax")
    graph, params, stats = parts(qat.fake_quantize(model, Scheme(), found))
    grads = jax.jit(jax.grad(lambda params: (nnx.merge(graph, params, stats)(x) ** 2).mean()))(params)
    for name, gradient in tree.flatten(grads).items():
        assert np.abs(gradient).max() > 0, name


def test_weights_that_are_no_numbers_are_named():
    model = CNN((8, 8, 1), 5, channels=(2, 3), hidden=4, rngs=nnx.Rngs(0))
    model.fc1.weight[...] = model.fc1.weight[...] * jnp.nan
    with pytest.raises(ValueError, match="fc1 cannot be quantized: a weight is NaN or infinite"):
        qat.fake_quantize(model, Scheme(), dict.fromkeys(("conv1", "conv2", "fc1", "fc2"), START))
