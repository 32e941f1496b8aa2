"""Networks in int8 against torch.ao's."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.ao import quantization as ao

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.methods.quantize import calibrate, convert
from jaxdl.methods.quantize.layers import Quantized, Scheme
from jaxdl.models import CNN, Net
from jaxdl.models.resnet import BasicBlock
from jaxdl.models.vit import EncoderBlock
from jaxdl.nn.conv import Conv2d

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch.ao is to go

SHAPE = (9, 10, 2)
ENGINES = [("qnnpack", 8), ("fbgemm", 7)]  # fbgemm leaves out a bit, so that its products do not saturate
engines = pytest.mark.parametrize(("engine", "bits"), ENGINES)
RNG = np.random.default_rng(0)
# Multiples of 1/4, with weights of 1/16: their sums are exact in float32, in whatever order, so that both
# frameworks calibrate on the same numbers.
IMAGES = (RNG.normal(1, 4, (40, *SHAPE)).round() / 4).astype(np.float32)


class TorchNet(torch.nn.Module):
    """`Net` with the stubs that torch.ao's static quantization wants."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
        self.fc1, self.relu1 = torch.nn.Linear(180, 16), torch.nn.ReLU()
        self.fc2 = torch.nn.Linear(16, 5)

    fuse = (("fc1", "relu1"),)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.fc2(self.relu1(self.fc1(torch.flatten(self.quant(x), 1)))))


class TorchCNN(torch.nn.Module):
    """`CNN` likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
        self.conv1, self.relu1 = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU()
        self.conv2, self.relu2 = torch.nn.Conv2d(4, 6, 3, padding=1), torch.nn.ReLU()
        self.fc1, self.relu3 = torch.nn.Linear(24, 16), torch.nn.ReLU()
        self.fc2 = torch.nn.Linear(16, 5)
        self.pool = torch.nn.MaxPool2d(2)

    fuse = (("conv1", "relu1"), ("conv2", "relu2"), ("fc1", "relu3"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu1(self.conv1(self.quant(x))))
        x = self.pool(self.relu2(self.conv2(x)))
        return self.dequant(self.fc2(self.relu3(self.fc1(torch.flatten(x, 1)))))


def net() -> tuple[Net, type[TorchNet]]:
    return Net(SHAPE, 5, hidden=16, rngs=nnx.Rngs(0)), TorchNet


def cnn() -> tuple[CNN, type[TorchCNN]]:
    return CNN(SHAPE, 5, channels=(4, 6), hidden=16, rngs=nnx.Rngs(0)), TorchCNN


models = pytest.mark.parametrize("make", [net, cnn])


def twin(make) -> tuple[nnx.Module, torch.nn.Module]:
    """A model in evaluation mode, and torch's with the same weights."""
    model, theirs = make()
    model = nnx.view(model, deterministic=True, raise_if_not_found=False)
    nnx.update(model, jax.tree.map(lambda value: jnp.round(16 * value) / 16, nnx.state(model, nnx.Param)))
    params = tree.flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    state = weights.to_torch(model, {name: np.asarray(value) for name, value in params.items()})
    module = theirs().eval()
    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    return model, module


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def torch_static(module: torch.nn.Module, engine: str, per_channel: bool, bits: int) -> torch.nn.Module:
    """What torch.ao makes of it, with all of `IMAGES` for calibration."""
    weight = ao.default_per_channel_weight_observer if per_channel else ao.default_weight_observer
    inputs = ao.MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=bits == 7)
    module = ao.fuse_modules(copy.deepcopy(module), [list(names) for names in module.fuse])  # pyright: ignore[reportGeneralTypeIssues]
    module.qconfig = ao.QConfig(activation=inputs, weight=weight)
    prepared = ao.prepare(module)
    prepared(channels_first(IMAGES))
    torch.backends.quantized.engine = engine
    return ao.convert(prepared)


@pytest.fixture(autouse=True)
def _engine():
    """torch keeps the engine in a global; qnnpack keeps threads of its own."""
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


def ranges(model: nnx.Module) -> dict[str, calibrate.Range]:
    return calibrate.ranges(lambda see: convert.observe(model, [jnp.asarray(IMAGES)], see), "minmax")


def codes(layer: Quantized) -> np.ndarray:
    """The weight's codes in torch's layout."""
    return layer.weight.get_metadata()["layout"].to_torch(np.asarray(layer.weight[...]))


@engines
@pytest.mark.parametrize("per_channel", [True, False])
@models
def test_static_networks_have_torchs_codes_and_outputs_within_one_code(make, per_channel, engine, bits):
    model, module = twin(make)
    theirs = torch_static(module, engine, per_channel, bits)
    ours = convert.quantize(model, Scheme(per_channel, bits), ranges(model))
    before = theirs.quant.scale.item(), theirs.quant.zero_point.item()
    for name, layer in convert.quantized_layers(ours).items():
        there = getattr(theirs, name)
        weight = there.weight()
        np.testing.assert_array_equal(codes(layer), weight.int_repr())
        scales = weight.q_per_channel_scales() if per_channel else torch.tensor([weight.q_scale()])
        np.testing.assert_array_equal(layer.weight_scale[...], scales.float())
        found = float(layer.input_scale[...]), int(layer.input_zero_point[...]) + (128 if bits == 8 else 64)
        assert found == (np.float32(before[0]), before[1])
        before = there.scale, there.zero_point
    step, inputs = before[0], jnp.asarray(IMAGES)
    outputs = theirs(channels_first(IMAGES)).numpy()
    # Half a code that torch rounds the outputs by, and as much as a code of a hidden layer may move them.
    assert np.abs(np.asarray(jax.jit(ours.__call__)(inputs)) - outputs).max() <= 1.5 * step


@pytest.mark.parametrize("per_channel", [True, False])
@engines
def test_dynamic_linear_layers_are_torchs(engine, bits, per_channel):
    model, module = twin(net)
    torch.backends.quantized.engine = engine
    config = ao.per_channel_dynamic_qconfig if per_channel else ao.default_dynamic_qconfig  # pyright: ignore[reportPrivateImportUsage]
    theirs = ao.quantize_dynamic(module, {torch.nn.Linear: config, "quant": None, "dequant": None})
    ours = convert.quantize(model, Scheme(per_channel, bits))
    for name, layer in convert.quantized_layers(ours).items():
        np.testing.assert_array_equal(codes(layer), getattr(theirs, name).weight().int_repr())
    found = jax.jit(ours.fc1.__call__)(jnp.asarray(IMAGES.reshape(40, -1)))
    expected = theirs.fc1(channels_first(IMAGES).flatten(1)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("static", [True, False])
def test_products_are_of_int8_and_sums_of_int32(static):
    model, _ = twin(cnn)
    ours = convert.quantize(model, Scheme(), ranges(model) if static else None)
    text = str(jax.make_jaxpr(lambda x: ours(x))(jnp.asarray(IMAGES[:2])))
    products = [line for line in text.splitlines() if "dot_general[" in line]
    assert len(products) == 4
    assert text.count("preferred_element_type=int32") == 4
    assert "preferred_element_type=float32" not in text
    assert "conv_general_dilated" not in text


def test_what_is_kept_is_int8():
    model, _ = twin(cnn)
    ours = convert.quantize(model, Scheme(), ranges(model))
    arrays = tree.flatten(nnx.to_pure_dict(nnx.state(ours, nnx.Param)))
    types = {name: str(array.dtype) for name, array in arrays.items()}
    for name in ("conv1", "conv2", "fc1", "fc2"):
        assert types[f"{name}.weight"] == types[f"{name}.input_zero_point"] == "int8"
        assert types[f"{name}.weight_scale"] == types[f"{name}.input_scale"] == "float32"


BLOCKS = {
    "resnet": (lambda: BasicBlock(4, 6, 2, rngs=nnx.Rngs(0)), (4, 8, 8, 4), {"conv1", "conv2", "downsample.0"}),
    # Without the packed projection of the attention, which is no layer.
    "vit": (
        lambda: EncoderBlock(12, 2, 0.0, rngs=nnx.Rngs(0)),
        (4, 5, 12),
        {"self_attention.out_proj", "mlp.0", "mlp.3"},
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_larger_families_have_an_int8_form(name):
    make, shape, names = BLOCKS[name]
    model = nnx.view(make(), deterministic=True, use_running_average=True, raise_if_not_found=False)
    x = jnp.asarray(RNG.normal(size=shape), jnp.float32)
    found = calibrate.ranges(lambda see: convert.observe(model, [x], see), "minmax")
    ours = convert.quantize(model, Scheme(), found)
    expected = np.asarray(jax.jit(model.__call__)(x))
    difference = np.abs(np.asarray(jax.jit(ours.__call__)(x)) - expected).max()
    assert 0 < difference <= 0.03 * np.abs(expected).max()
    assert set(convert.quantized_layers(ours)) == set(found) == names


def test_the_model_itself_is_not_changed():
    model, _ = twin(net)
    before = np.asarray(model(jnp.asarray(IMAGES)))
    convert.quantize(model, Scheme())
    np.testing.assert_array_equal(model(jnp.asarray(IMAGES)), before)


def test_like_has_the_structure_of_what_was_quantized():
    model, _ = twin(cnn)
    for static in (True, False):
        made = convert.quantize(model, Scheme(), ranges(model) if static else None)
        same = convert.like(cnn()[0], Scheme(), static=static)
        shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), nnx.to_pure_dict(nnx.state(m))) for m in (made, same)]
        assert shapes[0] == shapes[1]


class Pool(nnx.Module):
    """A model without weights."""


def broken() -> Net:
    model = net()[0]
    model.fc2.weight[...] = model.fc2.weight[...].at[0, 0].set(jnp.nan)
    return model


class Grouped(nnx.Module):
    """A model with a convolution in groups."""

    def __init__(self) -> None:
        self.conv = Conv2d(4, 4, 3, groups=2, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("model", "found", "message"),
    [
        (Pool, None, "Pool has no linear or convolutional layer to quantize"),
        (broken, None, "fc2 cannot be quantized: a weight is NaN or infinite"),
        (
            Grouped,
            None,
            "conv cannot be quantized: grouped convolutions have no int8 form here; got one of 2 groups",
        ),
        (lambda: net()[0], {"fc1": (0, 1)}, "fc2 cannot be quantized: its inputs were not seen in calibration"),
    ],
)
def test_what_cannot_be_quantized_is_named(model, found, message):
    with pytest.raises(ValueError, match=message):
        convert.quantize(model(), Scheme(), found)
