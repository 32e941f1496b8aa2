"""An ONNX model that grows node by node: images (batch, H, W, C) uint8 -> logits (batch, classes) float32."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import jaxdl

OPSET, IR_VERSION = 18, 8  # what onnxruntime reads from 1.14 on
IMAGE, LOGITS = "image", "logits"  # names of the input and of the output


class Nodes:
    """The nodes and constants of a model, in the order of its computation."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._used = {IMAGE: 1, LOGITS: 1}  # how often a name was given out

    def fresh(self, stem: str) -> str:
        """A name that is not taken."""
        number = self._used.get(stem, 0)
        self._used[stem] = number + 1
        return f"{stem}_{number}" if number else stem

    def emit(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Adds a node and returns the name of its output, by default a new one after the operator."""
        output = output or self.fresh(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def array(self, array: np.ndarray | np.generic, stem: str = "constant") -> str:
        """Adds a constant and returns its name."""
        name = self.fresh(stem)
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def model(self, shape: Sequence[int], classes: int, about: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The whole, checked.

        Args:
          shape: (H, W, C) of an image.
          classes: how many there are.
          about: what else the file says, by name.
        """
        inputs = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["batch", *shape])
        outputs = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", classes])
        graph = helper.make_graph(self.nodes, "jaxdl", [inputs], [outputs], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="jaxdl")
        model.producer_version = jaxdl.__version__
        helper.set_model_props(model, {**about} if about else {})
        onnx.checker.check_model(model, full_check=True)
        return model
