"""Functions that torch's ``forward`` calls: what a port may have made of them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from parity.diagnose.attention import (
    exchanged,
    inverted,
    other_causality,
    other_heads,
    over_axis,
    scaled_by_width,
    scaled_twice,
    shifted,
    unmasked,
    unmerged,
    without,
)  # fmt: skip
from parity.diagnose.explanation import Explanation

ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "gelu (tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "leaky_relu (0.01)": F.leaky_relu,
    "leaky_relu (0.2)": lambda x: F.leaky_relu(x, 0.2),
    "relu6": F.relu6,
    "softplus": F.softplus,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


class Swap(TorchFunctionMode):
    """While it is entered and `active`, calls of torch functions by name go to another; counts how many did.

    Args:
      names: of the functions.
      other: ``(function, *args, **kwargs) -> value``.
      which: only the n-th such call; None for all.
    """

    def __init__(self, names: Sequence[str], other: Callable[..., Any], which: int | None = None) -> None:
        super().__init__()
        self.names, self.other, self.which = frozenset(names), other, which
        self.active, self.count = True, 0

    def __enter__(self) -> Any:
        self.count = 0
        return super().__enter__()

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.active or getattr(function, "__name__", "") not in self.names:
            return function(*args, **kwargs)
        self.count += 1
        if self.which is not None and self.count != self.which + 1:
            return function(*args, **kwargs)
        return self.other(function, *args, **kwargs)


def option(**more: Any) -> Callable[..., Any]:
    """The same function with other options."""
    return lambda function, *args, **kwargs: function(*args, **{**kwargs, **more})


def swaps(place: str) -> Iterator[tuple[Explanation, Swap]]:
    """Every change of a function in front of a place: of its first three calls one by one, and of all."""
    for change in CHANGES:
        for which in (0, 1, 2, None):
            explanation = Explanation(change.name, f"{change.fix} (in front of {place})")
            yield explanation, Swap(change.functions, change.other, which)


# ---- what may be called instead: (torch's function, *args, **kwargs) -> value


def _first(_function: Any, x: Any, *_args: Any, **_kwargs: Any) -> Any:
    return x


def _second(_function: Any, x: Any, y: Any, *_args: Any, **_kwargs: Any) -> Any:
    return y if isinstance(y, torch.Tensor) else x


def _activated(activation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _function, x, *_args, **_kwargs: activation(x)


def _softmax(axis: int) -> Callable[..., Any]:
    return lambda _function, x, *_args, **_kwargs: torch.softmax(x, axis)


def _filled_elsewhere(function: Any, x: Any, mask: Any, *args: Any, **kwargs: Any) -> Any:
    return function(x, ~mask, *args, **kwargs)


def _averaged(_function: Any, *args: Any, **kwargs: Any) -> Any:
    options = {name: value for name, value in kwargs.items() if name in ("stride", "padding", "ceil_mode")}
    return F.avg_pool2d(*args[:3], **options)


def _largest(_function: Any, *args: Any, **_kwargs: Any) -> Any:
    return F.max_pool2d(*args[:2])


def _strided(stride: int) -> Callable[..., Any]:
    return lambda function, *args, **kwargs: function(*args[:2], **{**kwargs, "stride": stride})


def _permuted(order: tuple[int, ...]) -> Callable[..., Any]:
    def flattened(function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return function(x.permute(order).contiguous() if x.ndim == 4 else x, *args, **kwargs)

    return flattened


def _doubled(_function: Any, x: Any, y: Any, *_args: Any, **_kwargs: Any) -> Any:
    return x + 2 * y


def _inverse(function: Any, x: Any, y: Any, *_args: Any, **_kwargs: Any) -> Any:
    return x / y if "mul" in function.__name__ else x * y


def _backwards(function: Any, parts: Any, *args: Any, **kwargs: Any) -> Any:
    return function(list(parts)[::-1], *args, **kwargs)


def _summed(_function: Any, *args: Any, **kwargs: Any) -> Any:
    return torch.sum(*args, **kwargs)


def _kept_for_dropped(function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    rate = next(iter(args), kwargs.get("p", 0.5))
    return function(x, 1 - rate, *args[1:], **without(kwargs, "p"))


def _other_eps(function: Any, *args: Any, **kwargs: Any) -> Any:
    return function(*args[:4], **without(kwargs, "eps"), eps=1e-6)


@dataclasses.dataclass(frozen=True)
class Change:
    """A call of one of some torch functions, done in another way.

    Attributes:
      name, fix: of the explanation.
      functions: by their names in torch.
      other: ``(function, *args, **kwargs) -> value``.
    """

    name: str
    fix: str
    functions: Sequence[str]
    other: Callable[..., Any]


UNARY = (
    "relu", "relu_", "gelu", "silu", "tanh", "sigmoid", "elu", "leaky_relu", "selu", "softplus", "relu6", "mish",
    "hardswish",
)  # fmt: skip
ATTENTION = ("scaled_dot_product_attention",)
FILL = ("masked_fill", "masked_fill_")
MAX_POOL = ("max_pool2d", "boolean_dispatch", "_max_pool2d", "max_pool1d")
FLATTEN = ("flatten", "reshape", "view")
ADD = ("add", "__add__", "add_", "__iadd__", "__radd__")
SCALE = ("mul", "__mul__", "__rmul__", "mul_", "div", "__truediv__", "div_")
TRANSPOSE = ("transpose", "permute", "swapaxes", "T")
NORM = ("layer_norm", "rms_norm", "group_norm")
ORDERS = ((0, 2, 3, 1), (0, 1, 3, 2), (0, 3, 2, 1), (0, 3, 1, 2))

# Where two explain an error alike the first is named.
CHANGES = (
    Change("gelu form", "torch's gelu is exact: approximate=False", ["gelu"], option(approximate="tanh")),
    Change(
        "gelu form", "torch's gelu is the approximation: approximate=True", ["gelu"], option(approximate="none")
    ),
    Change("missing activation", "apply the activation", UNARY, _first),
    *(
        Change(
            "leaky activation" if title.startswith("leaky") else "other activation",
            f"the port computes {title}",
            UNARY,
            _activated(activation),
        )
        for title, activation in ACTIVATIONS.items()
    ),
    *(
        Change("softmax axis", f"softmax over torch's axis; the port's is {axis}", ["softmax"], _softmax(axis))
        for axis in (-1, -2, -3, 1)
    ),
    *(
        Change("softmax axis", f"softmax over the keys, not axis {axis}", ATTENTION, over_axis(axis))
        for axis in (-2, -3, -4)
    ),
    Change("attention scale", "divide the query by the root of the head's size", ATTENTION, option(scale=1.0)),
    Change("attention scale", "scale once", ATTENTION, scaled_twice),
    Change(
        "attention scale",
        "divide by the root of a head's size, not of the whole width",
        ATTENTION,
        scaled_by_width,
    ),
    *(
        Change("causal mask", f"the diagonal of the mask is {by:+d}, torch's is 0", ATTENTION, shifted(by))
        for by in (1, -1)
    ),
    *(
        Change("query, key, value", "query, key and value are in another order", ATTENTION, exchanged(order))
        for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))
    ),
    Change("head split", "split the width into (heads, size), in this order", ATTENTION, other_heads),
    Change("head merge", "transpose heads and time before they are put together", ATTENTION, unmerged),
    Change(
        "attention mask polarity",
        "Flax's mask is True where torch's float mask is 0: invert it",
        ATTENTION,
        inverted,
    ),
    Change("attention mask", "give the mask", ATTENTION, unmasked),
    Change("attention mask polarity", "invert the mask", FILL, _filled_elsewhere),
    Change("attention mask", "give the mask", FILL, _first),
    Change("pooling", "torch takes the maximum", MAX_POOL, _averaged),
    Change("pooling", "torch takes the average", ["avg_pool2d"], _largest),
    *(
        Change(
            "pooling stride", "the stride is the size of the window", (*MAX_POOL, "avg_pool2d"), _strided(stride)
        )
        for stride in (1, 2)
    ),
    *(Change("flatten order", "flatten (C, H, W), as torch does", FLATTEN, _permuted(order)) for order in ORDERS),
    Change("missing residual", "add what goes around the layer", ADD, _second),
    Change("missing residual", "add what comes out of the layer", ADD, _first),
    Change("doubled term", "add it once", ADD, _doubled),
    Change("missing scale", "apply the factor", SCALE, _first),
    Change("inverted scale", "multiply where torch does, divide where it does", SCALE, _inverse),
    Change("concatenation order", "concatenate in torch's order", ["cat", "concat"], _backwards),
    Change("sum for mean", "take the mean", ["mean"], _summed),
    Change("missing transpose", "transpose as torch does", TRANSPOSE, _first),
    Change("causal mask", "mask the future", ATTENTION, other_causality),
    Change(
        "dropout rate", "the port keeps with the probability that torch drops with", ["dropout"], _kept_for_dropped
    ),
    Change("resize", "torch: align_corners=False, antialias=False", ["interpolate"], option(antialias=True)),
    Change("resize", "torch's nearest is not jax's", ["interpolate"], option(mode="nearest-exact")),
    Change("norm eps", "eps of the norm", NORM, _other_eps),
)
