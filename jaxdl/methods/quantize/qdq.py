"""Net and CNN as ONNX, in float32 or in int8: QuantizeLinear and DequantizeLinear around each product ("QDQ").

Runtimes (onnxruntime, TensorRT) turn such a graph into integer products. Codes, scales and zero points are those
of `layers`, except that inputs count from 0 instead of -128, as the products of x86 processors want it, and that a
bias is rounded to int32. On x86 processors without VNNI such products of onnxruntime can saturate.

The artefact takes images (N, H, W, C) uint8 under the name ``image`` and gives ``logits`` (N, classes) float32.

Source: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from onnx import TensorProto

from jaxdl import files
from jaxdl.methods.onnx_nodes import IMAGE, LOGITS, Nodes
from jaxdl.methods.quantize.layers import Quantized
from jaxdl.models.cnn import CNN
from jaxdl.models.net import Net
from jaxdl.nn.activations import ACTIVATIONS

OPERATORS = {ACTIVATIONS["relu"]: "Relu", ACTIVATIONS["elu"]: "Elu", ACTIVATIONS["tanh"]: "Tanh"}
UNSIGNED = 128  # what makes an int8 code a uint8 one


def save(
    path: Path, model: nnx.Module, shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]
) -> None:
    """Writes the model as ONNX, atomically.

    Args:
      path: the file.
      model: a `Net` or a `CNN`, plain or as `convert.quantize` made it with ranges.
      shape: (H, W, C) of its images.
      mean, std: per channel, of images in [0, 1]; empty where images are not normalized.

    Raises:
      ValueError: another model, an activation without an operator, layers without ranges or with codes of 7 bits.
    """
    if not isinstance(model, Net | CNN):
        raise ValueError(f"only net and cnn have an ONNX form in int8; got {type(model).__name__}")
    writer = _Writer(model)
    x = writer.prepared(mean, std)
    last, x = writer.cnn(model, x) if isinstance(model, CNN) else writer.net(model, x)
    writer.linear(last, x, LOGITS)
    data = writer.model(shape, last.bias.shape[0]).SerializeToString()
    files.write_atomic(path, lambda temporary: temporary.write_bytes(data))


class _Writer(Nodes):
    """The nodes of a `Net` or a `CNN`, up to what its last layer takes."""

    def __init__(self, model: Net | CNN) -> None:
        super().__init__()
        if model.activation not in OPERATORS:
            names = [name for name, function in ACTIVATIONS.items() if function in OPERATORS]
            raise ValueError(f"ONNX in int8 needs an activation of {', '.join(names)}")
        self.activation = OPERATORS[model.activation]

    def net(self, model: Net, x: str) -> tuple[Any, str]:
        x = self.emit("Flatten", [x])
        for number in range(1, model.depth + 1):
            x = self.emit(self.activation, [self.linear(model.layer(number), x)])
        return model.layer(model.depth + 1), x

    def cnn(self, model: CNN, x: str) -> tuple[Any, str]:
        for layer, following in ((model.conv1, model.conv2), (model.conv2, model.fc1)):
            x = self.emit(self.activation, [self.convolution(layer, x)])
            # The largest code is the code of the largest: so pooling moves a quarter of the bytes.
            x = self.emit("MaxPool", [self.rounded(following, x)], kernel_shape=[2, 2], strides=[2, 2])
        x = self.emit("Flatten", [self.rounded(model.fc1, x)])
        return model.fc2, self.emit(self.activation, [self.linear(model.fc1, x)])

    def prepared(self, mean: Sequence[float], std: Sequence[float]) -> str:
        """uint8 (N, H, W, C) -> what the model was trained on, (N, C, H, W) float32."""
        x = self.emit("Transpose", [self.emit("Cast", [IMAGE], to=TensorProto.FLOAT)], perm=[0, 3, 1, 2])
        x = self.emit("Div", [x, self.array(np.float32(255))])
        if mean:
            for operator, values in (("Sub", mean), ("Div", std)):
                x = self.emit(operator, [x, self.array(np.asarray(values, np.float32).reshape(1, -1, 1, 1))])
        return x

    def linear(self, layer: Any, x: str, output: str | None = None) -> str:
        return self.emit("Gemm", [self.rounded(layer, x), *self.parameters(layer)], output, transB=1)

    def convolution(self, layer: Any, x: str) -> str:
        return self.emit("Conv", [self.rounded(layer, x), *self.parameters(layer)], pads=[1, 1, 1, 1])

    def rounded(self, layer: Any, x: str) -> str:
        """What ``x`` is as codes of a layer's input; ``x`` itself where the layer is no int8 one."""
        if not isinstance(layer, Quantized):
            return x
        scale, zero_point = self._input(layer)
        ends = self.array(np.float32(scale)), self.array(np.uint8(zero_point + UNSIGNED))
        return self.emit("DequantizeLinear", [self.emit("QuantizeLinear", [x, *ends]), *ends])

    def parameters(self, layer: Any) -> list[str]:
        """Weight and bias in torch's layouts, real or as codes."""
        layout = layer.weight.get_metadata()["layout"]
        weight, bias = layout.to_torch(np.asarray(layer.weight[...])), np.asarray(layer.bias[...])
        if not isinstance(layer, Quantized):
            return [self.array(weight), self.array(bias)]
        scale = np.asarray(layer.weight_scale[...])
        step = scale * np.float32(self._input(layer)[0])
        codes = np.round(bias / step).clip(-(2**31), 2**31 - 1).astype(np.int32)
        return [self._codes(weight, scale), self._codes(codes, np.broadcast_to(step, codes.shape))]

    def _codes(self, codes: np.ndarray, scale: np.ndarray) -> str:
        scale = scale if scale.size > 1 else scale.reshape(())
        zeros = self.array(np.zeros(scale.shape, codes.dtype))
        return self.emit("DequantizeLinear", [self.array(codes), self.array(scale), zeros], axis=0)

    def _input(self, layer: Quantized) -> tuple[np.ndarray, np.ndarray]:
        if layer.input_scale is None or layer.input_zero_point is None:
            raise ValueError("int8 in ONNX needs ranges of the inputs: quantize with --method static or qat")
        if layer.bits != 8:
            raise ValueError(f"ONNX has no codes of {layer.bits} bits")
        return np.asarray(layer.input_scale[...]), np.asarray(layer.input_zero_point[...], np.int32)
