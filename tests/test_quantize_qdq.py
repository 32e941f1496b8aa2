"""The ONNX files: codes as ours, outputs as onnxruntime gives them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl.methods.quantize import calibrate, convert
from jaxdl.methods.quantize.layers import Scheme
from jaxdl.models import CNN, Net

onnx = pytest.importorskip("onnx")
qdq = pytest.importorskip("jaxdl.methods.quantize.qdq")
onnxruntime = pytest.importorskip("onnxruntime")

SHAPE, MEAN, STD = (9, 8, 2), (0.4, 0.6), (0.3, 0.2)
IMAGES = np.random.default_rng(0).integers(0, 256, (60, *SHAPE)).astype(np.uint8)
MAKERS = {
    "net": lambda **options: Net(SHAPE, 5, hidden=12, depth=2, rngs=nnx.Rngs(0), **options),
    "cnn": lambda **options: CNN(SHAPE, 5, channels=(4, 6), hidden=8, rngs=nnx.Rngs(0), **options),
}
both = pytest.mark.parametrize("name", MAKERS)


def prepared() -> jax.Array:
    return jnp.asarray((IMAGES / 255 - np.asarray(MEAN)) / np.asarray(STD), jnp.float32)


def quantized(model: nnx.Module, per_channel: bool = True, bits: int = 8) -> nnx.Module:
    ranges = calibrate.ranges(lambda see: convert.observe(model, [prepared()], see), "minmax")
    return convert.quantize(model, Scheme(per_channel, bits), ranges)


def run(path, model: nnx.Module) -> np.ndarray:
    qdq.save(path, model, SHAPE, MEAN, STD)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": IMAGES})[0]


@both
@pytest.mark.parametrize("activation", ["relu", "tanh", "elu"])
def test_in_float32_it_is_the_model(name, activation, tmp_path):
    model = MAKERS[name](activation=activation)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", model), model(prepared()), rtol=1e-4, atol=1e-5)


@both
@pytest.mark.parametrize("per_channel", [True, False])
def test_in_int8_it_is_ours_within_one_code(name, per_channel, tmp_path):
    ours = quantized(MAKERS[name](), per_channel)
    found, expected = run(tmp_path / "m.onnx", ours), np.asarray(jax.jit(ours.__call__)(prepared()))
    code = (expected.max() - expected.min()) / 255  # of outputs, as torch's static networks have them
    assert np.abs(found - expected).max() <= code
    assert np.median(np.abs(found - expected)) < 0.1 * code


@both
def test_codes_scales_and_zero_points_are_ours(name, tmp_path):
    ours = quantized(MAKERS[name]())
    run(tmp_path / "m.onnx", ours)
    constants = [onnx.numpy_helper.to_array(part) for part in onnx.load(tmp_path / "m.onnx").graph.initializer]
    for layer in convert.quantized_layers(ours).values():
        codes = layer.weight.get_metadata()["layout"].to_torch(np.asarray(layer.weight[...]))
        assert any(part.dtype == np.int8 and np.array_equal(part, codes) for part in constants)
        for value in (layer.weight_scale[...], layer.input_scale[...]):
            assert any(part.dtype == np.float32 and np.array_equal(part, value) for part in constants)
        zero_point = np.int32(layer.input_zero_point[...]) + 128
        assert any(part.dtype == np.uint8 and part == zero_point for part in constants)


@both
def test_onnxruntime_computes_in_integers(name, tmp_path):
    qdq.save(tmp_path / "m.onnx", quantized(MAKERS[name]()), SHAPE, MEAN, STD)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # that the file is for this machine is known
    onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert operators.count("QGemm") == {"net": 3, "cnn": 2}[name]
    assert operators.count("QLinearConv") == {"net": 0, "cnn": 2}[name]
    assert not {"Gemm", "Conv", "MatMul", "FusedGemm", "FusedConv"} & set(operators)


@both
def test_it_takes_any_number_of_images(name, tmp_path):
    qdq.save(tmp_path / "m.onnx", quantized(MAKERS[name]()), SHAPE, (), ())
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        assert session.run(None, {"image": IMAGES[:count]})[0].shape == (count, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nnx.Module, "only net and cnn have an ONNX form in int8; got Module"),
        (lambda: MAKERS["net"](activation="silu"), "an activation of relu, elu, tanh"),
        (lambda: convert.quantize(MAKERS["net"](), Scheme()), "needs ranges of the inputs"),
        (lambda: quantized(MAKERS["net"](), bits=7), "ONNX has no codes of 7 bits"),
    ],
)
def test_what_has_no_onnx_form_is_an_error(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        qdq.save(tmp_path / "m.onnx", make(), SHAPE, MEAN, STD)
    assert not list(tmp_path.iterdir())
