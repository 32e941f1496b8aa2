"""Why a port goes wrong: the change to torch's side that makes it compute what the port computes.

Every explanation is tried on a copy of the torch module, its loss or its optimizer, at the place that `parity.locate`
found; the one under which the two agree is named, with what to change in the port.
"""

import contextlib
import copy
import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from parity import masks
from parity.locate import Fault, Location, error
from parity.prove import Subject, precise
from parity.recording import Recording
from parity.torch_side import TorchSide, outputs
from parity.verdict import relative

# What is left of an error that is explained: rounding, and a constant that is known to a few digits less.
EXPLAINED = 1e-8


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a port does instead.

    Attributes:
      name: of `parity.mutate` where it is one of those faults.
      fix: what to change in the port, in a line.
    """

    name: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """A fault and its likeliest explanation.

    Attributes:
      fault: what was located.
      explanation: None where none of those that were tried makes the error vanish.
      before, after: the error, and what is left of it under the explanation.
      others: explanations that fit as well.
      tried: how many there were.
    """

    fault: Fault
    explanation: Explanation | None
    before: float
    after: float
    others: tuple[Explanation, ...]
    tried: int


Candidate = tuple[Explanation, float]


def diagnose(
    subject: Subject, reference: Recording, port: Recording, location: Location, *, seed: int = 0, steps: int = 5
) -> list[Diagnosis]:
    """The best explanation of every located fault.

    Args:
      subject, reference, port: of `parity.prove`.
      location: of `parity.locate`.
      seed, steps: as in the proof.
    """
    found = []
    with precise(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of loops that nobody would write
        for fault in location.faults:
            candidates = list(_candidates(fault, subject, reference, port, seed, steps))
            ranked = sorted(
                (c for c in candidates if math.isfinite(c[1])), key=lambda candidate: max(candidate[1], 1e-12)
            )
            fitting = [c for c in ranked if c[1] <= min(EXPLAINED, fault.error / 10)]
            best = fitting[0] if fitting else None
            left = best[1] if best else ranked[0][1] if ranked else math.nan
            others = tuple(dict.fromkeys(c[0] for c in fitting[1:] if best and c[0].name != best[0].name))
            found.append(Diagnosis(fault, best and best[0], fault.error, left, others, len(candidates)))
    return found


def _candidates(
    fault: Fault, subject: Subject, reference: Recording, port: Recording, seed: int, steps: int
) -> Iterator[Candidate]:
    if fault.kind == "weights":
        yield from _weights(fault, subject)
    elif fault.kind == "layer":
        yield from _weights_of_layer(fault, subject)
        yield from _layer(fault, subject, seed)
    elif fault.kind == "glue":
        yield from _glue(fault, subject, seed)
    elif fault.kind == "buffers":
        yield from _buffers(fault, subject, port, seed)
    elif fault.kind == "loss":
        yield from _loss(subject, port, seed)
    elif fault.kind == "backward":
        yield from _backward(fault, port, reference)
    elif fault.kind in ("optimizer", "schedule"):
        yield from _optimizer(subject, reference, port, seed, steps)


# ---- weights


def _weights(fault: Fault, subject: Subject) -> Iterator[Candidate]:
    theirs = subject.bridge.merged(subject.weights)
    mine = subject.bridge.to_torch(subject.flax.variables())
    if fault.place in mine:
        yield from explain_weight(fault.place, mine[fault.place], theirs)


def _weights_of_layer(fault: Fault, subject: Subject) -> Iterator[Candidate]:
    """Where the layer's own weights differ, the faults of these; the output follows from them."""
    theirs = subject.bridge.merged(subject.weights)
    mine = subject.bridge.to_torch(subject.flax.variables())
    prefix = f"{fault.place}." if fault.place else ""
    for name in mine:
        if (
            name.startswith(prefix)
            and "." not in name.removeprefix(prefix)
            and relative(mine[name], theirs[name]) > 1e-12
        ):
            yield from explain_weight(name, mine[name], theirs)


def explain_weight(name: str, mine: np.ndarray, theirs: Mapping[str, np.ndarray]) -> Iterator[Candidate]:
    """What was done to torch's weight ``name`` to make the port's."""
    own = theirs[name]

    def left(array: np.ndarray) -> float:
        return relative(mine, array) if array.shape == mine.shape else math.inf

    if own.ndim == 2:
        yield Explanation("transposed weight", f"transpose {name}: torch keeps (out, in)"), left(own.T)
        for shape in _images(own.shape[1]):
            image = own.reshape(own.shape[0], *shape)
            for order in itertools.permutations(range(1, 4)):
                fix = f"reorder the columns of {name}: torch flattens (C, H, W), the port another order"
                yield Explanation("flatten order", fix), left(image.transpose(0, *order).reshape(own.shape))
                back = own.reshape(own.shape[0], *(shape[axis - 1] for axis in order))
                yield (
                    Explanation("flatten order", fix),
                    left(back.transpose(0, *(1 + i for i in np.argsort(np.array(order) - 1))).reshape(own.shape)),
                )
    if own.ndim == 4:
        yield (
            Explanation("mirrored kernel", f"do not flip {name}: both compute correlations"),
            left(own[:, :, ::-1, ::-1]),
        )
        yield (
            Explanation("kernel height and width", f"permute {name} to (H, W, in, out)"),
            left(own.swapaxes(2, 3)),
        )
        yield Explanation("transposed weight", f"exchange the channels of {name}"), left(own.swapaxes(0, 1))
    for count, names in ((4, "i, f, g, o"), (3, "r, z, n or q, k, v")):
        if own.shape[0] % count == 0 and own.shape[0] > count:
            parts = np.split(own, count)
            for order in itertools.permutations(range(count)):
                if order != tuple(range(count)):
                    fix = f"the parts of {name} are {names} in torch"
                    yield Explanation("gate order", fix), left(np.concatenate([parts[i] for i in order]))
    if name.endswith("bias"):
        yield Explanation("missing bias", f"carry {name} over"), 0.0 if not mine.any() else math.inf
    if name.endswith(("running_var", "running_mean")):
        fresh = np.ones_like(own) if name.endswith("var") else np.zeros_like(own)
        yield Explanation("running statistics not loaded", f"carry {name} over"), left(fresh)
    for kind, fix in (("float16", "half precision weights"), ("float32", "half precision weights")):
        rounded = own.astype(kind).astype(np.float64)
        yield Explanation(fix, f"{name} went through {kind}: convert from the original precision"), left(rounded)
    rounded = torch.tensor(own).bfloat16().double().numpy()
    yield Explanation("half precision weights", f"{name} went through bfloat16"), left(rounded)
    for other, value in theirs.items():
        if other != name and value.shape == mine.shape:
            yield Explanation(_whose(name, other), f"{name} holds torch's {other}"), left(value)


def _whose(name: str, other: str) -> str:
    ends = {name.rpartition(".")[2], other.rpartition(".")[2]}
    if ends == {"running_mean", "running_var"}:
        return "running mean and variance"
    if ends == {"weight", "bias"}:
        return "norm weight and bias"
    return "weights of another layer"


def _images(size: int) -> Iterator[tuple[int, int, int]]:
    """(C, H, W) with square images first."""
    found = []
    for side in range(2, math.isqrt(size) + 1):
        if size % (side * side) == 0 and size // (side * side) > 1:
            found.append((size // (side * side), side, side))
    for height in range(2, min(size, 33)):
        for width in range(2, min(size // height, 33) + 1):
            if (
                size % (height * width) == 0
                and height != width
                and len(found) < 40
                and size // (height * width) > 1
            ):
                found.append((size // (height * width), height, width))
    yield from found


# ---- layers


@dataclasses.dataclass
class _Scene:
    """A call of torch's module, kept to be repeated, and what the port makes of the same input."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    calls: int
    made: tuple[np.ndarray, ...]
    train: bool
    seed: int

    def left(self, variant: Callable[..., Any]) -> float:
        """What is left of the error if torch's layer were this."""
        try:
            with torch.no_grad(), masks.in_torch(self.seed, 0) as calls:
                calls.extend({} for _ in range(self.calls))
                made = variant(*copy.deepcopy(self.args), **copy.deepcopy(self.kwargs))
        except Exception:  # a variant that this layer cannot take explains nothing
            return math.inf
        return error(self.made, _numbers(made))


def _scene(fault: Fault, subject: Subject, seed: int) -> _Scene | None:
    side = TorchSide(subject.pair, subject.module, subject.weights)
    module = side.fresh().train(fault.train)
    child = dict(module.named_modules())[fault.place]
    kept: list[Any] = []
    with masks.in_torch(seed, 0) if fault.train else contextlib.nullcontext([]) as calls:

        def keep(_: Any, args: Any, kwargs: Any) -> None:
            if not kept:
                kept.append((copy.deepcopy(_detached(args)), copy.deepcopy(_detached(kwargs)), len(calls)))

        child.register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad():
            side.call(module, side.batch(seed, 0)[0])
    if not kept or fault.made is None:
        return None
    fresh = dict(side.fresh().train(fault.train).named_modules())[fault.place]
    return _Scene(fresh, kept[0][0], kept[0][1], kept[0][2], fault.made, fault.train, seed)


def _detached(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.detach()
    if type(values) in (tuple, list):
        return type(values)(map(_detached, values))
    if type(values) is dict:
        return {name: _detached(value) for name, value in values.items()}
    return values


def _numbers(made: Any) -> list[np.ndarray]:
    return [x.detach().double().numpy() for x in outputs(made).values() if x.is_floating_point()]


def _layer(fault: Fault, subject: Subject, seed: int) -> Iterator[Candidate]:
    scene = _scene(fault, subject, seed)
    if scene is None:
        return
    name = fault.place or "the model"
    for explanation, variant in variants(scene.module, name):
        yield explanation, scene.left(variant)
    with torch.no_grad(), masks.in_torch(seed, 0):
        plain = copy.deepcopy(scene.module)(*scene.args, **scene.kwargs)
    yield from precision(name, scene.made, _numbers(plain))
    for explanation, mode in functions(name):
        with mode:
            yield explanation, scene.left(copy.deepcopy(scene.module))


def precision(name: str, made: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Iterator[Candidate]:
    """Whether what a port makes has no more digits than a smaller type holds."""
    for kind, title in (
        ("bfloat16", "bfloat16 layer"),
        ("float16", "float16 layer"),
        ("float32", "float32 layer"),
    ):
        dtype = getattr(torch, kind)
        kept = all(np.array_equal(torch.tensor(x).to(dtype).double().numpy(), x) for x in made)
        near = error(made, theirs) < 20 * torch.finfo(dtype).eps
        yield (
            Explanation(title, f"{name} rounds to {kind}: let it compute in the type of its input"),
            0.0 if kept and near else math.inf,
        )
        if kept:
            return


def variants(module: torch.nn.Module, name: str) -> Iterator[tuple[Explanation, Callable[..., Any]]]:
    """What a port may have made of a torch layer; each a function of the layer's inputs."""

    def changed(**settings: Any) -> torch.nn.Module:
        other = copy.deepcopy(module)
        for key, value in settings.items():
            setattr(other, key, value)
        return other

    if hasattr(module, "eps"):
        own = module.eps or torch.finfo(torch.float64).eps
        for eps in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0):
            if eps != own:
                yield (
                    Explanation("norm eps", f"{name}: set epsilon={own:g}, the port has {eps:g}"),
                    changed(eps=eps),
                )
    if isinstance(module, torch.nn.modules.batchnorm._NormBase):
        title = "evaluation with batch statistics" if not module.training else "training with running statistics"
        yield (
            Explanation(title, f"{name}: use_running_average={not module.training}"),
            copy.deepcopy(module).train(not module.training),
        )
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        yield from _convolutions(module, name, changed)
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.nn.Parameter):
        yield from _weighted(module, name)
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        for rate in (1 - module.p, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
            if rate != module.p:
                title = "dropout rate" if rate else "no dropout"
                yield Explanation(title, f"{name}: set rate={module.p:g}, the port has {rate:g}"), changed(p=rate)
        unscaled = "divide what is kept by 1 - rate"
        yield Explanation("dropout not scaled", f"{name}: {unscaled}"), lambda x: module(x) * (1 - module.p)
        yield Explanation("no dropout", f"{name}: drop in training"), lambda x: x
    yield (
        Explanation("layer applied twice", f"call {name} once"),
        lambda x, *a, **k: module(module(x, *a, **k), *a, **k),
    )
    title = "missing norm" if hasattr(module, "eps") else "missing layer"
    yield Explanation(title, f"call {name}: the port returns its input"), lambda x, *_, **__: x
    for other, function in ACTIVATIONS.items():
        yield Explanation("other activation", f"{name}: the port computes {other}"), lambda x, f=function: f(x)


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


def _convolutions(
    module: Any, name: str, changed: Callable[..., Any]
) -> Iterator[tuple[Explanation, Callable[..., Any]]]:
    space = len(module.kernel_size)
    own = module.padding
    for padding in [*range(6), "same"]:
        pads = padding if isinstance(padding, str) else (padding,) * space
        if pads != own and not (padding == "same" and any(s != 1 for s in module.stride)):
            fix = f"{name}: pad by {own}, the port pads by {padding}"
            yield Explanation("padding", fix), _padded(changed, padding, space)
    plain = changed(padding=(0,) * space, _reversed_padding_repeated_twice=[0] * (2 * space), padding_mode="zeros")
    for low in range(4):
        for high in range(4):
            if low != high:
                fix = f"{name}: pad by {own}, the port pads {low} before and {high} behind, as SAME does with a stride"
                yield (
                    Explanation("asymmetric padding", fix),
                    lambda x, lo=low, hi=high: plain(F.pad(x, (lo, hi) * space)),
                )
    for axis in range(2, 2 + space):
        for shift in (1, -1):
            fix = f"{name}: its input is shifted by {shift}: pad both sides alike"
            yield Explanation("asymmetric padding", fix), lambda x, a=axis, s=shift: module(torch.roll(x, s, a))
    for stride in (1, 2):
        if module.stride != (stride,) * space:
            yield (
                Explanation("stride", f"{name}: set strides={module.stride}, the port has {stride}"),
                changed(stride=(stride,) * space),
            )
    for dilation in (1, 2):
        if module.dilation != (dilation,) * space:
            fix = f"{name}: set kernel_dilation={module.dilation}, the port has {dilation}"
            yield Explanation("dilation", fix), changed(dilation=(dilation,) * space)


def _padded(changed: Callable[..., Any], padding: Any, space: int) -> Callable[..., Any]:
    pads = padding if isinstance(padding, str) else (padding,) * space
    return changed(padding=pads, padding_mode="zeros")


def _weighted(module: torch.nn.Module, name: str) -> Iterator[tuple[Explanation, Callable[..., Any]]]:
    """Layers whose own weights are used in another way than torch does."""

    def given(key: str, value: torch.Tensor) -> torch.nn.Module:
        other = copy.deepcopy(module)
        setattr(other, key, torch.nn.Parameter(value.contiguous()))
        return other

    weight = module.weight
    if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        yield (
            Explanation("transposed weight", f"{name}: transpose the weight, torch keeps (out, in)"),
            given("weight", weight.T),
        )
    if weight.ndim == 2 and isinstance(module, torch.nn.Linear):
        for shape in _images(weight.shape[1]):
            for order in ((1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
                image = (
                    weight.reshape(len(weight), *shape).permute(0, *(1 + i for i in order)).reshape(weight.shape)
                )
                fix = f"{name}: flatten (C, H, W) as torch does, or reorder the weight's columns"
                yield Explanation("flatten order", fix), given("weight", image)
    if weight.ndim == 4:
        yield Explanation("mirrored kernel", f"{name}: do not flip the kernel"), given("weight", weight.flip(2, 3))
        yield (
            Explanation("kernel height and width", f"{name}: exchange height and width"),
            given("weight", weight.transpose(2, 3)),
        )
    if getattr(module, "bias", None) is not None:
        zero = copy.deepcopy(module)
        zero.bias = torch.nn.Parameter(torch.zeros_like(module.bias))
        yield Explanation("missing bias", f"{name}: add the bias"), zero
        double = copy.deepcopy(module)
        double.bias = torch.nn.Parameter(2 * module.bias)
        yield Explanation("doubled bias", f"{name}: add the bias once"), double


# ---- functions between the layers


class _Swap(TorchFunctionMode):
    """While it is entered and `active`, calls of torch functions by name go to another; counts how many did.

    Args:
      names: of the functions.
      other: ``(function, args, kwargs) -> value``.
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
        return self.other(function, args, kwargs)


UNARY = (
    "relu",
    "relu_",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "elu",
    "leaky_relu",
    "selu",
    "softplus",
    "relu6",
    "mish",
    "hardswish",
)


def functions(place: str) -> Iterator[tuple[Explanation, _Swap]]:
    """What a port may have made of a function that torch's ``forward`` calls."""

    def one(
        name: str, fix: str, names: Sequence[str], other: Callable[..., Any]
    ) -> Iterator[tuple[Explanation, _Swap]]:
        for which in (0, 1, 2, None):
            yield Explanation(name, f"{fix} (in front of {place})"), _Swap(names, other, which)

    def option(**more: Any) -> Callable[..., Any]:
        return lambda f, a, k: f(*a, **{**k, **more})

    yield from one("gelu form", "torch's gelu is exact: approximate=False", ("gelu",), option(approximate="tanh"))
    yield from one(
        "gelu form", "torch's gelu is the approximation: approximate=True", ("gelu",), option(approximate="none")
    )
    yield from one("missing activation", "apply the activation", UNARY, lambda f, a, k: a[0])
    for title, activation in ACTIVATIONS.items():
        name = "leaky activation" if title.startswith("leaky") else "other activation"
        yield from one(name, f"the port computes {title}", UNARY, lambda f, a, k, g=activation: g(a[0]))
    for axis in (-1, -2, -3, 1):
        yield from one(
            "softmax axis",
            f"softmax over torch's axis; the port's is {axis}",
            ("softmax",),
            lambda f, a, k, x=axis: torch.softmax(a[0], x),
        )
    yield from one(
        "attention scale",
        "divide the query by the root of the head's size",
        ("scaled_dot_product_attention",),
        lambda f, a, k: f(*a, **{**k, "scale": 1.0}),
    )
    yield from one(
        "attention scale",
        "scale once",
        ("scaled_dot_product_attention",),
        lambda f, a, k: f(*a, **{**k, "scale": 1 / a[0].shape[-1]}),
    )
    yield from one(
        "attention mask polarity",
        "Flax's mask is True where torch's float mask is 0: invert it",
        ("scaled_dot_product_attention",),
        _inverted,
    )
    yield from one("attention mask", "give the mask", ("scaled_dot_product_attention",), _unmasked)
    yield from one(
        "attention mask polarity",
        "invert the mask",
        ("masked_fill", "masked_fill_"),
        lambda f, a, k: f(a[0], ~a[1], *a[2:], **k),
    )
    yield from one("attention mask", "give the mask", ("masked_fill", "masked_fill_"), lambda f, a, k: a[0])
    pools = ("max_pool2d", "boolean_dispatch", "_max_pool2d", "max_pool1d")
    yield from one("pooling", "torch takes the maximum", pools, _averaged)
    yield from one("pooling", "torch takes the average", ("avg_pool2d",), lambda f, a, k: F.max_pool2d(*a[:2]))
    for shift in (1, 2):
        yield from one(
            "pooling stride",
            "the stride is the size of the window",
            (*pools, "avg_pool2d"),
            lambda f, a, k, s=shift: f(*a[:2], **{**k, "stride": s}),
        )
    orders = ((0, 2, 3, 1), (0, 1, 3, 2), (0, 3, 2, 1), (0, 3, 1, 2))
    for order in orders:
        yield from one(
            "flatten order",
            "flatten (C, H, W), as torch does",
            ("flatten", "reshape", "view"),
            lambda f, a, k, o=order: (
                f(a[0].permute(o).contiguous(), *a[1:], **k) if a[0].ndim == 4 else f(*a, **k)
            ),
        )
    add = ("add", "__add__", "add_", "__iadd__", "__radd__")
    yield from one(
        "missing residual",
        "add what goes around the layer",
        add,
        lambda f, a, k: a[1] if isinstance(a[1], torch.Tensor) else a[0],
    )
    yield from one("missing residual", "add what comes out of the layer", add, lambda f, a, k: a[0])
    yield from one("doubled term", "add it once", add, lambda f, a, k: a[0] + 2 * a[1])
    mul = ("mul", "__mul__", "__rmul__", "mul_", "div", "__truediv__", "div_")
    yield from one("missing scale", "apply the factor", mul, lambda f, a, k: a[0])
    yield from one(
        "inverted scale",
        "multiply where torch does, divide where it does",
        mul,
        lambda f, a, k: a[0] / a[1] if "mul" in f.__name__ else a[0] * a[1],
    )
    yield from one(
        "concatenation order",
        "concatenate in torch's order",
        ("cat", "concat"),
        lambda f, a, k: f(list(a[0])[::-1], *a[1:], **k),
    )
    for names, title in ((("mean",), "sum for mean"),):
        yield from one(title, "take the mean", names, lambda f, a, k: torch.sum(*a, **k))
    yield from one(
        "missing transpose",
        "transpose as torch does",
        ("transpose", "permute", "swapaxes", "T"),
        lambda f, a, k: a[0],
    )
    yield from one(
        "causal mask",
        "mask the future",
        ("scaled_dot_product_attention",),
        lambda f, a, k: f(*a, **{**k, "is_causal": not k.get("is_causal", False)}),
    )
    yield from one(
        "dropout rate",
        "the port keeps with the probability that torch drops with",
        ("dropout",),
        lambda f, a, k: f(
            a[0], 1 - (a[1] if len(a) > 1 else k.get("p", 0.5)), *a[2:], **{n: v for n, v in k.items() if n != "p"}
        ),
    )
    yield from one(
        "resize",
        "torch: align_corners=False, antialias=False",
        ("interpolate",),
        lambda f, a, k: f(*a, **{**k, "antialias": True}),
    )
    yield from one(
        "resize",
        "torch's nearest is not jax's",
        ("interpolate",),
        lambda f, a, k: f(*a, **{**k, "mode": "nearest-exact"}),
    )
    yield from one(
        "norm eps",
        "eps of the norm",
        ("layer_norm", "rms_norm", "group_norm"),
        lambda f, a, k: f(*a[:4], **{**{n: v for n, v in k.items() if n != "eps"}, "eps": 1e-6}),
    )


def _inverted(function: Any, args: Any, kwargs: Any) -> Any:
    mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
    if mask is None and kwargs.get("is_causal"):
        mask = torch.ones(args[0].shape[-2], args[1].shape[-2], dtype=torch.bool).tril()
    if mask is None:
        return function(*args, **kwargs)
    keep = mask if mask.dtype == torch.bool else mask == 0
    rest = {name: value for name, value in kwargs.items() if name not in ("attn_mask", "is_causal")}
    # JAX fills what is masked with a large negative number: a row of nothing is an average, not NaN.
    bias = torch.where(keep, torch.tensor(-1e30, dtype=args[0].dtype), 0.0)
    return function(*args[:3], attn_mask=bias, **rest)


def _unmasked(function: Any, args: Any, kwargs: Any) -> Any:
    rest = {name: value for name, value in kwargs.items() if name not in ("attn_mask", "is_causal")}
    return function(*args[:3], **rest)


def _averaged(_: Any, args: Any, kwargs: Any) -> Any:
    options = {name: value for name, value in kwargs.items() if name in ("stride", "padding", "ceil_mode")}
    return F.avg_pool2d(*args[:3], **options)


def _glue(fault: Fault, subject: Subject, seed: int) -> Iterator[Candidate]:
    """The functions that torch calls between the layer before and this one, each done in another way."""
    if fault.made is None:
        return
    for explanation, swap in functions(fault.place or "the output"):
        seen = _segment(fault, subject, seed, swap)
        if seen is None:
            continue
        yield explanation, error(fault.made, seen)
    plain = _segment(fault, subject, seed, None)
    if plain is not None:
        yield from _values(fault, plain)


def _values(fault: Fault, plain: Sequence[np.ndarray]) -> Iterator[Candidate]:
    """What can be seen in the values alone."""
    name = fault.place or "the output"
    yield from precision(name, fault.made or (), plain)
    if len(plain) != 1 or len(fault.made or ()) != 1:
        return
    mine, theirs = fault.made[0], plain[0]  # pyright: ignore[reportOptionalSubscript]
    if mine.shape != theirs.shape:
        return
    factor = float(np.vdot(mine, theirs) / np.vdot(theirs, theirs)) if theirs.any() else math.nan
    title = "input scale"
    yield Explanation(title, f"what reaches {name} is {factor:.6g} times torch's"), relative(mine, factor * theirs)
    if theirs.ndim == 4:
        yield (
            Explanation("input height and width", "exchange height and width"),
            relative(mine, theirs.swapaxes(2, 3)) if theirs.shape[2] == theirs.shape[3] else math.inf,
        )
        yield Explanation("input channels", "reverse the order of channels"), relative(mine, theirs[:, ::-1])
        for axis in (2, 3):
            yield Explanation("input mirrored", "do not mirror the images"), relative(mine, np.flip(theirs, axis))


def _segment(fault: Fault, subject: Subject, seed: int, swap: _Swap | None) -> list[np.ndarray] | None:
    """What reaches the place in torch, if the functions in front of it were others; None where none was called."""
    side = TorchSide(subject.pair, subject.module, subject.weights)
    module = side.fresh().train(fault.train)
    modules = dict(module.named_modules())
    seen: list[Any] = []
    open_leaves = 0
    passed = 0

    def update() -> None:
        if swap:
            swap.active = not seen and open_leaves == 0 and passed == fault.before

    def enter(_: Any, args: Any, kwargs: Any) -> None:
        nonlocal open_leaves
        open_leaves += 1
        update()

    def leave(_: Any, args: Any, kwargs: Any, made: Any) -> Any:
        nonlocal open_leaves, passed
        open_leaves -= 1
        passed += 1
        update()

    def keep(values: Any) -> None:
        if not seen and passed == fault.before:
            seen.append([x.copy() for x in _numbers(values)])
            update()

    target = modules[fault.place]
    if fault.arrives:
        target.register_forward_pre_hook(lambda _, args, kwargs: keep((args, kwargs)), with_kwargs=True)
    else:
        target.register_forward_hook(lambda _, args, kwargs, made: keep(made), with_kwargs=True)
    for path in fault.leaves:
        modules[path].register_forward_pre_hook(enter, with_kwargs=True)
        modules[path].register_forward_hook(leave, with_kwargs=True)
    update()
    try:
        with torch.no_grad(), masks.in_torch(seed, 0) if fault.train else contextlib.nullcontext():
            with swap or contextlib.nullcontext():
                side.call(module, side.batch(seed, 0)[0])
    except Exception:  # shapes that do not fit behind the place: what was seen there counts
        pass
    if swap and not swap.count:
        return None
    return seen[0] if seen else None


# ---- statistics


def _buffers(fault: Fault, subject: Subject, port: Recording, seed: int) -> Iterator[Candidate]:
    owner, _, statistic = fault.place.rpartition(".")
    mine = port.tensors[f"buffers/{fault.place}"]
    side = TorchSide(subject.pair, subject.module, subject.weights)
    own = dict(side.fresh().named_modules())[owner]
    momentum = getattr(own, "momentum", None)
    before = subject.weights[fault.place]

    def moved(change: Callable[[Any], None]) -> np.ndarray:
        module = side.fresh().train()
        change(dict(module.named_modules())[owner])
        with torch.no_grad(), masks.in_torch(seed, 0):
            side.call(module, side.batch(seed, 0)[0])
        return module.state_dict()[fault.place].double().numpy() - before

    if momentum is not None:
        for value in dict.fromkeys((1 - momentum, 0.01, 0.1, 0.001, 0.9, 0.99, 0.0, 1.0)):
            if value == momentum:
                continue
            name = "BatchNorm momentum" if value == 1 - momentum else "BatchNorm momentum default"
            fix = f"{owner}: torch's momentum {momentum:g} is Flax's {1 - momentum:g}; the port's is {1 - value:g}"
            found = moved(lambda module, value=value: setattr(module, "momentum", value))
            yield Explanation(name, fix), relative(mine, found)
            if statistic == "running_var":
                yield (
                    Explanation(name, fix),
                    min(
                        relative(mine, (found + value * before) * s - value * before)
                        for s in _biases(subject, owner, seed)
                    ),
                )
        if statistic == "running_var":
            plain = moved(lambda _: None)
            fix = f"{owner}: torch multiplies the variance it keeps by n/(n-1); use jaxdl.nn.norm.BatchNorm"
            for scale in _biases(subject, owner, seed):
                yield (
                    Explanation("biased running variance", fix),
                    relative(mine, (plain + momentum * before) * scale - momentum * before),
                )
    yield (
        Explanation("training with running statistics", f"{owner}: statistics do not move in training"),
        0.0 if not mine.any() else math.inf,
    )


def _biases(subject: Subject, owner: str, seed: int) -> list[float]:
    """(n - 1)/n for the number of values that a layer averages."""
    side = TorchSide(subject.pair, subject.module, subject.weights)
    module, found = side.fresh().train(), []
    hook = lambda _, args: found.append(args[0].numel() // args[0].shape[1])  # noqa: E731
    dict(module.named_modules())[owner].register_forward_pre_hook(hook)
    with torch.no_grad(), masks.in_torch(seed, 0):
        side.call(module, side.batch(seed, 0)[0])
    return [(count - 1) / count for count in found]


# ---- loss


def _loss(subject: Subject, port: Recording, seed: int) -> Iterator[Candidate]:
    """The loss on torch's outputs in training, done in another way; judged by the gradients where there are any."""
    pair = subject.pair
    if not pair.loss:
        return
    for explanation, loss in losses(pair.loss[0]):
        other = dataclasses.replace(pair, loss=(loss, pair.loss[1]))
        side = TorchSide(other, subject.module, subject.weights, hold=subject.bridge.held)
        try:
            found: dict[str, np.ndarray] = {}
            side._differentiate(seed, {"skipped": {}}, found)
        except Exception:  # this loss cannot be computed in that way
            continue
        merged = subject.bridge.merged(
            {name.split("/", 1)[1]: v for name, v in found.items() if name.startswith("parameter_gradients/")},
            "gradient",
        )
        gradients = (
            _stacked(merged),
            _stacked({name: port.tensors[f"parameter_gradients/{name}"] for name in merged}),
        )
        yield (
            explanation,
            max(relative(port.tensors["loss/loss"], found["loss/loss"]), relative(gradients[1], gradients[0])),
        )


def losses(loss: Callable[..., torch.Tensor]) -> Iterator[tuple[Explanation, Callable[..., torch.Tensor]]]:
    """What a port may have made of a loss function ``(outputs, *targets) -> scalar``."""

    def options(**more: Any) -> Callable[..., torch.Tensor]:
        def other(made: Any, *targets: Any) -> torch.Tensor:
            names = ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
                     "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")  # fmt: skip
            swap = _Swap(names, lambda f, a, k: f(*a, **{**k, **more}))
            with swap:
                return loss(made, *targets)

        return other

    yield Explanation("loss summed", "take the mean over the batch"), options(reduction="sum")
    yield Explanation("loss summed", "take the mean over the batch"), lambda made, *t: loss(made, *t) * len(t[0])
    yield Explanation("loss averaged", "take the sum over the batch"), lambda made, *t: loss(made, *t) / len(t[0])
    yield Explanation("batchmean", "divide by the batch, not by all elements"), options(reduction="batchmean")
    for value in (0.0, 0.1, 0.05, 0.2):
        fix = f"label smoothing: the port's is {value:g}"
        yield Explanation("label smoothing", fix), options(label_smoothing=value)
    yield (
        Explanation("class weights", "weigh the classes, and divide by the sum of the weights"),
        options(weight=None),
    )
    yield (
        Explanation("ignored labels", "leave out the labels of ignore_index, in the mean as well"),
        options(ignore_index=-1000),
    )
    yield (
        Explanation("softmax twice", "give the loss logits: it takes the softmax itself"),
        lambda made, *t: loss(torch.softmax(made, -1), *t),
    )
    yield (
        Explanation("softmax twice", "give the loss logits"),
        lambda made, *t: loss(torch.log_softmax(made, -1), *t),
    )
    for shift in (1, -1):
        yield (
            Explanation("labels shifted", "labels start at 0"),
            lambda made, *t, s=shift: loss(made, (t[0] + s) % made.shape[-1], *t[1:]),
        )
    for factor in (0.5, 2.0, 1 / math.log(2), -1.0):
        title = f"the port's loss is {factor:g} times torch's"
        yield Explanation("loss scaled", title), lambda made, *t, f=factor: loss(made, *t) * f
    yield (
        Explanation("loss scaled", "divide by the classes once"),
        lambda made, *t: loss(made, *t) / made.shape[-1],
    )


def _stacked(values: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(values[name]) for name in sorted(values)])


def _backward(fault: Fault, port: Recording, reference: Recording) -> Iterator[Candidate]:
    """What a wrong gradient looks like: zero, or a multiple."""
    place = f"parameter_gradients/{fault.place}"
    names = [name for name in reference.tensors if name.startswith("parameter_gradients/")]
    wrong = [n for n in names if n in port.tensors and relative(port.tensors[n], reference.tensors[n]) > 1e-10]
    del place
    if not wrong:
        wrong = [n for n in reference.tensors if n.startswith("input_gradients/")]
    mine = _stacked({name: port.tensors[name] for name in wrong})
    theirs = _stacked({name: reference.tensors[name] for name in wrong})
    fix = f"no gradient passes {fault.place}: look for stop_gradient, or an operation without one"
    yield Explanation("stopped gradient", fix), 0.0 if not mine.any() else math.inf
    if theirs.any():
        factor = float(np.vdot(mine, theirs) / np.vdot(theirs, theirs))
        yield (
            Explanation("scaled gradient", f"the gradient behind {fault.place} is {factor:.6g} times torch's"),
            relative(mine, factor * theirs),
        )


# ---- optimizer and schedule


def _optimizer(
    subject: Subject, reference: Recording, port: Recording, seed: int, steps: int
) -> Iterator[Candidate]:
    """Training with another optimizer, loop or schedule; judged by the changes of all parameters in every update."""
    pair = subject.pair
    yield from _updates(subject, reference, port)
    for explanation, changes in optimizers(pair, reference.facts.get("rates") or [], steps):
        other = dataclasses.replace(pair, **changes)
        side = TorchSide(other, subject.module, subject.weights, hold=subject.bridge.held)
        try:
            found = side.changes(seed=seed, steps=steps)
        except Exception:  # this optimizer has no such setting
            continue
        yield explanation, _distance(subject, found, port)


def _distance(subject: Subject, found: Mapping[str, np.ndarray], port: Recording) -> float:
    """The largest error of all parameters' changes together, over the updates."""
    worst = 0.0
    for step in {name.split("/", 1)[0] for name in found}:
        own = {name.split("/", 1)[1]: value for name, value in found.items() if name.startswith(f"{step}/")}
        merged = subject.bridge.merged(own)
        mine = {
            name: port.tensors[f"updates/{step}/{name}"]
            for name in merged
            if f"updates/{step}/{name}" in port.tensors
        }
        worst = max(worst, relative(_stacked(mine), _stacked({name: merged[name] for name in mine})))
    return worst


def _updates(subject: Subject, reference: Recording, port: Recording) -> Iterator[Candidate]:
    """What can be seen in the first update alone."""
    first = {leaf: reference.tensors[key] for leaf, key in reference.phase("first_update").items()}
    theirs = subject.bridge.merged(first)
    mine = {
        name: port.tensors[f"first_update/{name}"] for name in theirs if f"first_update/{name}" in port.tensors
    }
    moved = [name for name in mine if theirs[name].any()]
    still = [name for name in moved if not mine[name].any()]
    yield Explanation("no update", "apply the updates"), 0.0 if moved and len(still) == len(moved) else math.inf
    factor = _factor(_stacked(mine), _stacked({name: theirs[name] for name in mine}))
    title = "sign of the update" if abs(factor + 1) < EXPLAINED else "learning rate"
    left = relative(_stacked(mine), factor * _stacked({name: theirs[name] for name in mine}))
    differs = abs(factor - 1) > EXPLAINED
    yield Explanation(title, f"the port's updates are {factor:.6g} times torch's"), left if differs else math.inf
    rest = all(relative(mine[name], theirs[name]) < EXPLAINED for name in moved if name not in still)
    fix = f"update {', '.join(still)} as well"
    yield Explanation("frozen layer", fix), 0.0 if 0 < len(still) < len(moved) and rest else math.inf


def _factor(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The multiple of ``theirs`` that is nearest to ``mine``."""
    return float(np.vdot(mine, theirs) / np.vdot(theirs, theirs)) if theirs.any() else math.nan


def optimizers(
    pair: Any, rates: Sequence[Sequence[float]], steps: int
) -> Iterator[tuple[Explanation, dict[str, Any]]]:
    """What a port may have made of torch's optimizer, schedule and loop; each as fields of the pair."""
    make = pair.torch_optimizer

    def setting(**values: Any) -> dict[str, Any]:
        def made(module: Any) -> Any:
            optimizer = make(module)
            for group in optimizer.param_groups:
                missing = values.keys() - group.keys()
                if missing:
                    raise KeyError(missing)
                group.update({name: value(group) if callable(value) else value for name, value in values.items()})
            return optimizer

        return {"torch_optimizer": made}

    probe = make(copy.deepcopy(pair.torch_module()))
    own, kind = probe.param_groups[0], type(probe).__name__
    yield Explanation("accumulated gradients", "start every step from fresh gradients"), {"zero_grad": False}
    yield (
        Explanation("gradients not accumulated", "add gradients up, as the torch loop without zero_grad does"),
        {"zero_grad": True},
    )
    for factor in (10.0, 0.1, 2.0, 0.5, 100.0, 0.01):
        fix = f"the port's learning rate is {factor:g} times torch's"
        yield Explanation("learning rate", fix), setting(lr=lambda g, f=factor: g["lr"] * f)
    yield (
        Explanation("sign of the update", "subtract the update"),
        setting(maximize=lambda g: not g.get("maximize", False)),
    )
    if own.get("momentum"):
        yield (
            Explanation("no momentum", f"momentum={own['momentum']:g}"),
            setting(momentum=0.0, **({"nesterov": False} if "nesterov" in own else {})),
        )
    if "momentum" in own:
        for value in (0.9, 0.99, 0.95, 0.5):
            if value != own["momentum"]:
                yield (
                    Explanation("momentum", f"momentum={own['momentum']:g}, the port's is {value:g}"),
                    setting(momentum=value),
                )
    if "nesterov" in own:
        yield Explanation("Nesterov", f"nesterov={own['nesterov']}"), setting(nesterov=lambda g: not g["nesterov"])
        yield (
            Explanation("dampening", f"dampening={own['dampening']:g}"),
            setting(dampening=lambda g: g["momentum"]),
        )
        yield Explanation("dampening", f"dampening={own['dampening']:g}"), setting(dampening=0.0)
    if "weight_decay" in own:
        for value in (0.0, 1e-4, 1e-2, 5e-4, 1e-3, 0.1, 5e-5):
            if value != own["weight_decay"]:
                fix = f"weight_decay={own['weight_decay']:g}, the port's is {value:g}"
                yield Explanation("weight decay default", fix), setting(weight_decay=value)
    if own.get("weight_decay"):
        yield (
            Explanation("decay mask", "torch decays biases and norms too"),
            {"torch_optimizer": _masked(make, True)},
        )
        yield (
            Explanation("decay mask", "torch decays all in its groups"),
            {"torch_optimizer": _masked(make, False)},
        )
        yield (
            Explanation("decay kind", "coupled (L2) against decoupled weight decay"),
            {"torch_optimizer": _other_decay(make, kind)},
        )
    if "eps" in own:
        for value in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-16, 0.0):
            if value != own["eps"]:
                yield (
                    Explanation("optimizer eps", f"eps={own['eps']:g}, the port's is {value:g}"),
                    setting(eps=value),
                )
    if "betas" in own:
        first, second = own["betas"]
        for pair_of in (
            (first, 0.99),
            (first, 0.95),
            (first, 0.98),
            (first, 0.999),
            (0.9, 0.999),
            (0.5, second),
            (0.0, second),
            (second, first),
        ):
            if pair_of != own["betas"]:
                yield (
                    Explanation("betas", f"betas={own['betas']}, the port's are {pair_of}"),
                    setting(betas=pair_of),
                )
        yield (
            Explanation("no bias correction", "divide Adam's averages by 1 - beta^t"),
            {"torch_optimizer": _uncorrected(make)},
        )
    if "alpha" in own:
        for value in (0.9, 0.99, 0.95, 0.999):
            if value != own["alpha"]:
                yield (
                    Explanation("RMSprop decay", f"decay={own['alpha']:g}, the port's is {value:g}"),
                    setting(alpha=value),
                )
        yield Explanation("centered", f"centered={own['centered']}"), setting(centered=lambda g: not g["centered"])
    if "amsgrad" in own:
        yield Explanation("AMSGrad", f"amsgrad={own['amsgrad']}"), setting(amsgrad=lambda g: not g["amsgrad"])
    if pair.clip:
        yield Explanation("no clipping", "clip the gradients"), {"clip": None}
    for norm in (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0):
        fix = f"the port clips gradients by the norm {norm:g}"
        clip = lambda m, n=norm: _exact_clip(m, n)  # noqa: E731
        yield Explanation("clipping", fix), {"clip": clip}
        value = lambda m, n=norm: torch.nn.utils.clip_grad_value_(m.parameters(), n)  # noqa: E731
        yield Explanation("clipping by value", f"the port clips gradients by the value {norm:g}"), {"clip": value}
    for factor in (0.5, 2.0, 1.0 / max(pair.accumulate, 1), float(pair.accumulate)):
        if factor != 1:
            scale = lambda m, f=factor: _scaled(m, f, pair.clip)  # noqa: E731
            yield (
                Explanation("gradient scale", f"the port's gradients are {factor:g} times torch's"),
                {"clip": scale},
            )
    if rates and len({tuple(rate) for rate in rates}) > 1:
        yield (
            Explanation("schedule off by one", "the schedule is a step ahead: start it at step 0"),
            {"torch_scheduler": _shifted(pair.torch_scheduler, 1)},
        )
        yield (
            Explanation("schedule off by one", "the schedule is a step late"),
            {"torch_scheduler": _shifted(pair.torch_scheduler, -1)},
        )
        yield Explanation("schedule not applied", "apply the schedule"), {"torch_scheduler": None}
    del steps


class _Shifted:
    """A scheduler that is a step ahead or behind."""

    def __init__(self, scheduler: Any, shift: int) -> None:
        self.scheduler, self.wait = scheduler, max(0, -shift)
        for _ in range(shift):
            scheduler.step()

    def step(self) -> None:
        if self.wait:
            self.wait -= 1
        else:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return {"wait": self.wait, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.wait = state["wait"]
        self.scheduler.load_state_dict(state["scheduler"])


def _shifted(make: Callable[[Any], Any], shift: int) -> Callable[[Any], Any]:
    return lambda optimizer: _Shifted(make(optimizer), shift)


def _masked(make: Callable[[Any], Any], only_matrices: bool) -> Callable[[Any], Any]:
    def made(module: Any) -> Any:
        optimizer = make(module)
        for group in list(optimizer.param_groups):
            others = [p for p in group["params"] if p.ndim < 2]
            group["params"] = [p for p in group["params"] if p.ndim > 1]
            decay = 0.0 if only_matrices else group["weight_decay"]
            optimizer.param_groups.append({**group, "params": others, "weight_decay": decay})
        if not only_matrices:
            top = max(group["weight_decay"] for group in optimizer.param_groups)
            for group in optimizer.param_groups:
                group["weight_decay"] = top
        return optimizer

    return made


def _other_decay(make: Callable[[Any], Any], kind: str) -> Callable[[Any], Any]:
    """The same optimizer with the other of the two kinds of weight decay."""

    def made(module: Any) -> Any:
        optimizer = make(module)
        if kind in ("Adam", "AdamW"):
            own = {key: optimizer.defaults[key] for key in ("lr", "betas", "eps", "weight_decay", "amsgrad")}
            other = torch.optim.AdamW if kind == "Adam" else torch.optim.Adam
            return other(module.parameters(), **own)
        return _Decoupled(optimizer)

    return made


class _Decoupled:
    """An optimizer whose weight decay is taken off the weights, scaled by the rate."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.decays = [group["weight_decay"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def step(self) -> None:
        with torch.no_grad():
            for group, decay in zip(self.optimizer.param_groups, self.decays, strict=True):
                for parameter in group["params"]:
                    parameter.mul_(1 - group["lr"] * decay)
        self.optimizer.step()


def _uncorrected(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    class Uncorrected(torch.optim.Optimizer):
        def __init__(self, base: Any) -> None:
            super().__init__([dict(group) for group in base.param_groups], dict(base.defaults))

        @torch.no_grad()
        def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            for group in self.param_groups:
                b1, b2 = group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    state.setdefault("exp_avg", torch.zeros_like(p)).mul_(b1).add_(p.grad, alpha=1 - b1)
                    state.setdefault("exp_avg_sq", torch.zeros_like(p)).mul_(b2).addcmul_(
                        p.grad, p.grad, value=1 - b2
                    )
                    p.sub_(group["lr"] * state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["eps"]))

    return lambda module: Uncorrected(make(module))


def _exact_clip(module: Any, norm: float) -> None:
    """As optax clips: without torch's 1e-6 beside the norm."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    total = torch.sqrt(sum((g * g).sum() for g in gradients))
    if total > norm:
        for gradient in gradients:
            gradient.mul_(norm / total)


def _scaled(module: Any, factor: float, clip: Callable[[Any], Any] | None) -> None:
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(factor)
    if clip:
        clip(module)
