"""Layers: what a port may have made of one, tried on torch's own input to it."""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from parity import masks
from parity.align import error
from parity.diagnose.explanation import Candidate, Explanation
from parity.diagnose.functions import ACTIVATIONS, swaps
from parity.diagnose.values import numbers, precision
from parity.diagnose.weights import images
from parity.locate import Fault
from parity.prove import Subject
from parity.torch_side import TorchSide

Variant = tuple[Explanation, Callable[..., Any]]


@dataclasses.dataclass
class Scene:
    """A call of torch's module, kept to be repeated, and what the port makes of the same input.

    Attributes:
      module: as it was before the call.
      args, kwargs: of the call.
      calls: how many masks of dropout were drawn before.
      made: by the port, with torch's axes.
      seed: of the masks.
    """

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    calls: int
    made: tuple[np.ndarray, ...]
    seed: int

    def left(self, variant: Callable[..., Any]) -> float:
        """What is left of the error if torch's layer were this."""
        try:
            with torch.no_grad(), masks.in_torch(self.seed, 0) as calls:
                calls.extend({} for _ in range(self.calls))
                made = variant(*copy.deepcopy(self.args), **copy.deepcopy(self.kwargs))
        except Exception:  # a variant that this layer cannot take explains nothing
            return math.inf
        return error(self.made, numbers(made))


# What a difference of squares is off by in float64 at the mean of `parity.norms`, with room for bad luck.
LOST = 1e-5


def candidates(fault: Fault, subject: Subject, seed: int) -> Iterator[Candidate]:
    """For a layer that makes something else of torch's input."""
    scene = _scene(fault, subject, seed)
    if scene is None:
        return
    name = fault.place or "the model"
    for explanation, variant in variants(scene.module, name):
        yield explanation, scene.left(variant)
    with torch.no_grad(), masks.in_torch(seed, 0):
        plain = copy.deepcopy(scene.module)(*scene.args, **scene.kwargs)
    yield from precision(name, scene.made, numbers(plain))
    for explanation, swap in swaps(name):
        with swap:
            yield explanation, scene.left(copy.deepcopy(scene.module))


def _scene(fault: Fault, subject: Subject, seed: int) -> Scene | None:
    """The first call of the place; None where there is none."""
    side = TorchSide(subject.pair, subject.module, subject.weights)
    module = side.fresh().train(fault.train)
    kept: list[Any] = []
    with masks.in_torch(seed, 0) if fault.train else contextlib.nullcontext([]) as drawn:

        def keep(_: Any, args: Any, kwargs: Any) -> None:
            if not kept:
                kept.append((copy.deepcopy(_detached(args)), copy.deepcopy(_detached(kwargs)), len(drawn)))

        module.get_submodule(fault.place).register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad():
            side.call(module, side.batch(seed, 0)[0])
    if not kept or fault.made is None:
        return None
    fresh = side.fresh().train(fault.train).get_submodule(fault.place)
    args, kwargs, calls = kept[0]
    return Scene(fresh, args, kwargs, calls, fault.made, seed)


def _detached(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.detach()
    if type(values) in (tuple, list):
        return type(values)(map(_detached, values))
    if type(values) is dict:
        return {name: _detached(value) for name, value in values.items()}
    return values


def variants(module: torch.nn.Module, name: str) -> Iterator[Variant]:
    """What a port may have made of a torch layer; each a function of the layer's inputs."""
    if hasattr(module, "eps"):
        yield from _norms(module, name)
    if isinstance(module, torch.nn.modules.batchnorm._NormBase):
        title = "training with running statistics" if module.training else "evaluation with batch statistics"
        other = copy.deepcopy(module).train(not module.training)
        yield Explanation(title, f"{name}: use_running_average={not module.training}"), other
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        yield from _convolutions(module, name)
    if isinstance(getattr(module, "weight", None), torch.nn.Parameter):
        yield from _weighted(module, name)
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        yield from _dropouts(module, name)
    yield (
        Explanation("layer applied twice", f"call {name} once"),
        lambda x, *args, **kwargs: module(module(x, *args, **kwargs), *args, **kwargs),
    )
    title = "missing norm" if hasattr(module, "eps") else "missing layer"
    yield Explanation(title, f"call {name}: the port returns its input"), lambda x, *_, **__: x
    for other, function in ACTIVATIONS.items():
        yield Explanation("other activation", f"{name}: the port computes {other}"), lambda x, f=function: f(x)


def _changed(module: torch.nn.Module, **settings: Any) -> torch.nn.Module:
    other = copy.deepcopy(module)
    for key, value in settings.items():
        setattr(other, key, value)
    return other


def _norms(module: Any, name: str) -> Iterator[Variant]:
    own = module.eps or torch.finfo(torch.float64).eps
    for eps in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0):
        if eps != own:
            fix = f"{name}: set epsilon={own:g}, the port has {eps:g}"
            yield Explanation("norm eps", fix), _changed(module, eps=eps)


def _dropouts(module: Any, name: str) -> Iterator[Variant]:
    for rate in (1 - module.p, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        if rate != module.p:
            fix = f"{name}: set rate={module.p:g}, the port has {rate:g}"
            yield Explanation("dropout rate" if rate else "no dropout", fix), _changed(module, p=rate)
    fix = f"{name}: divide what is kept by 1 - rate"
    yield Explanation("dropout not scaled", fix), lambda x: module(x) * (1 - module.p)
    yield Explanation("no dropout", f"{name}: drop in training"), lambda x: x


def _convolutions(module: Any, name: str) -> Iterator[Variant]:
    space = len(module.kernel_size)
    own = module.padding
    for padding in [*range(6), "same"]:
        pads = padding if isinstance(padding, str) else (padding,) * space
        if pads != own and not (padding == "same" and any(stride != 1 for stride in module.stride)):
            fix = f"{name}: pad by {own}, the port pads by {padding}"
            yield Explanation("padding", fix), _changed(module, padding=pads, padding_mode="zeros")
    yield from _one_sided(module, name, space)
    for stride in (1, 2):
        if module.stride != (stride,) * space:
            fix = f"{name}: set strides={module.stride}, the port has {stride}"
            yield Explanation("stride", fix), _changed(module, stride=(stride,) * space)
    for dilation in (1, 2):
        if module.dilation != (dilation,) * space:
            fix = f"{name}: set kernel_dilation={module.dilation}, the port has {dilation}"
            yield Explanation("dilation", fix), _changed(module, dilation=(dilation,) * space)


def _one_sided(module: Any, name: str, space: int) -> Iterator[Variant]:
    none = {
        "padding": (0,) * space,
        "_reversed_padding_repeated_twice": [0] * (2 * space),
        "padding_mode": "zeros",
    }
    plain = _changed(module, **none)
    for low in range(4):
        for high in range(4):
            if low != high:
                ends = f"{low} before and {high} behind, as SAME does with a stride"
                yield (
                    Explanation("asymmetric padding", f"{name}: pad by {module.padding}, the port pads {ends}"),
                    lambda x, pads=(low, high): plain(F.pad(x, pads * space)),
                )
    for axis in range(2, 2 + space):
        for shift in (1, -1):
            fix = f"{name}: its input is shifted by {shift}: pad both sides alike"
            yield (
                Explanation("asymmetric padding", fix),
                lambda x, shift=shift, axis=axis: module(torch.roll(x, shift, axis)),
            )


def _weighted(module: Any, name: str) -> Iterator[Variant]:
    """Layers whose own weights are used in another way than torch does."""

    def given(**values: torch.Tensor) -> torch.nn.Module:
        return _changed(module, **{key: torch.nn.Parameter(value.contiguous()) for key, value in values.items()})

    weight = module.weight
    if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        fix = f"{name}: transpose the weight, torch keeps (out, in)"
        yield Explanation("transposed weight", fix), given(weight=weight.T)
    if weight.ndim == 2 and isinstance(module, torch.nn.Linear):
        fix = f"{name}: flatten (C, H, W) as torch does, or reorder the weight's columns"
        for shape in images(weight.shape[1]):
            image = weight.reshape(len(weight), *shape)
            for order in ((2, 3, 1), (3, 1, 2), (1, 3, 2), (3, 2, 1), (2, 1, 3)):
                turned = image.permute(0, *order).reshape(weight.shape)
                yield Explanation("flatten order", fix), given(weight=turned)
    if weight.ndim == 4:
        yield Explanation("mirrored kernel", f"{name}: do not flip the kernel"), given(weight=weight.flip(2, 3))
        fix = f"{name}: exchange height and width"
        yield Explanation("kernel height and width", fix), given(weight=weight.transpose(2, 3))
    if getattr(module, "bias", None) is not None:
        yield Explanation("missing bias", f"{name}: add the bias"), given(bias=torch.zeros_like(module.bias))
        yield Explanation("doubled bias", f"{name}: add the bias once"), given(bias=2 * module.bias)


def variance(fault: Fault) -> Iterator[Candidate]:
    """For a norm that is wrong on inputs of large mean alone: the digits that a difference of squares loses."""
    fix = f"{fault.place}: use_fast_variance=False; E[x^2] - E[x]^2 has no digits left at a large mean in float32"
    yield Explanation("fast variance", fix), 0.0 if fault.error < LOST else math.inf
