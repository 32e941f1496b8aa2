"""A graph as an ONNX file, in float32 and in int8, for onnxruntime and whatever else reads ONNX."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization
from onnxruntime.quantization import quant_utils

from jaxdl.methods.export.graph import Graph
from jaxdl.methods.export.onnx_operations import translated
from jaxdl.methods.export.program import Loaded, in_python
from jaxdl.methods.onnx_nodes import IMAGE, LOGITS

# What is computed in int8: nearly all the work. The rest of a transformer (norms, residual sums) would lose much.
INT8 = ("Conv", "Gemm", "MatMul", "MaxPool", "Relu")


def save(graph: Graph, classes: tuple[str, ...], path: Path) -> None:
    """Writes the model of a graph with a symbolic batch.

    Raises:
      UnsupportedError: an operation that is not in the table.
    """
    onnx.save(_model(graph, classes), path)


def save_int8(graph: Graph, classes: tuple[str, ...], path: Path, images: np.ndarray) -> None:
    """Writes it with int8 weights (one scale a channel) and activations, whose ranges ``images`` give."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "float.onnx"
        model = _model(graph, classes)
        quant_utils.add_pre_process_metadata(model)  # the graph is simplified already
        onnx.save(model, plain)
        quantization.quantize_static(
            plain,
            path,
            _Batches(images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_in_int8(graph),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"CalibTensorRangeSymmetric": False},
        )


def _in_int8(graph: Graph) -> list[str]:
    """The operations of `INT8`; where there is attention, without the convolution that makes the tokens.

    Quiet patches differ by less than a step of int8, and LayerNorm makes them as large as the others.
    """
    attends = any(node.op == "softmax" for node in graph.nodes)
    return [name for name in INT8 if name != "Conv" or not attends]


def load(path: Path) -> Loaded:
    """The file in onnxruntime, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return in_python(lambda images: np.asarray(session.run([LOGITS], {IMAGE: images})[0]))


def _model(graph: Graph, classes: tuple[str, ...]) -> onnx.ModelProto:
    about = {"classes": "\n".join(classes)}
    return translated(graph).model(graph.image.shape[1:], graph.logits.shape[1], about)


class _Batches(quantization.CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._batches = iter(np.array_split(images, -(-len(images) // 50)))

    def get_next(self) -> Any:
        batch = next(self._batches, None)
        return None if batch is None else {IMAGE: batch}
