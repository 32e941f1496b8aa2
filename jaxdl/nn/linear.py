"""The affine layer with torch's names and initial distribution."""

import functools
import math

from flax import nnx

from jaxdl.nn.init import Init, torch_uniform
from jaxdl.nn.layout import LINEAR, Layout
from jaxdl.typing import Array


class Linear(nnx.Module):
    """``x @ weight.T + bias``; ``weight`` is (out, in), ``bias`` is (out,).

    Args:
      in_features, out_features: sizes of the last axis of the input and of the output.
      layout: how ``weight`` becomes torch's; another than `LINEAR` behind a flattened image.
      weight_init, bias_init: their initial values; `torch_uniform` by default.
      rngs: draws ``weight`` and ``bias`` from its ``params`` stream.

    Raises:
      ValueError: when called with another number of features.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        layout: Layout = LINEAR,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        uniform = functools.partial(torch_uniform, fan_in=in_features)
        # As torch keeps it: so its gradient is a product without a transposed operand, and on a CPU the step of a
        # small network is a fifth faster than with (in, out).
        weight = (weight_init or uniform)(rngs.params(), (out_features, in_features))
        self.weight = nnx.Param(weight, layout=layout)
        self.bias = nnx.Param((bias_init or uniform)(rngs.params(), (out_features,)))

    def __call__(self, x: Array) -> Array:
        weight, bias = self.weight[...], self.bias[...]
        if x.shape[-1:] != weight.shape[1:]:
            raise ValueError(f"expected {weight.shape[1]} features in the last axis, got shape {x.shape}")
        return affine(x, weight, bias)


def affine(x: Array, weight: Array, bias: Array) -> Array:
    """``x @ weight.T + bias`` over the last axis: (..., in), (out, in) and (out,) -> (..., out).

    One product of two matrices, however many axes there are: of more, XLA would copy an operand of the weight's
    gradient into another order, which took a twentieth of a vision transformer's step on a CPU.
    """
    y = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) @ weight.T + bias.reshape(1, *bias.shape)
    return y.reshape(*x.shape[:-1], *bias.shape)
