"""Every call of every layer, on both sides: what went in, what came out, and the gradient of the loss by it."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx

from parity import masks
from parity.flax_side import FlaxSide
from parity.torch_side import TorchSide, mapped, outputs


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
      path: dotted, empty for the root.
      index: the how manieth call of this module.
      inputs, outputs: the floating-point arrays among arguments and results.
      gradients: of the loss by each output; None in evaluation or where none arrives.
      input_gradients: of the loss by each input, through this call alone.
    """

    path: str
    index: int
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    gradients: tuple[np.ndarray | None, ...] = ()
    input_gradients: tuple[np.ndarray | None, ...] = ()

    @property
    def name(self) -> str:
        """Path and index; what both sides are matched by."""
        return f"{self.path}#{self.index}"


def torch_calls(side: TorchSide, *, seed: int = 0, train: bool, gradients: bool = True) -> list[Call]:
    """The calls in torch, in the order in which they end; with gradients when training, if they are wanted."""
    wanted = train and gradients
    module = side.fresh().train(train)
    inputs, targets = side.batch(seed, 0)
    for value in inputs.values():
        if value.is_floating_point():
            value.requires_grad_(wanted)
    opened: list[tuple[str, int, list[np.ndarray], list[Any]]] = []
    done: list[tuple[str, int, list[np.ndarray], list[np.ndarray], list[Any], list[Any]]] = []
    counts: collections.Counter[str] = collections.Counter()

    def before(path: str) -> Callable[..., Any]:
        def hook(_: Any, args: Any, kwargs: Any) -> Any:
            # Copies, so that the gradient is that of this use of a tensor, and not of others beside it.
            args, kwargs = mapped((args, kwargs), lambda x: x.clone() if x.requires_grad else x)
            tensors = _floats((args, kwargs))
            opened.append((path, counts[path], [_array(x) for x in tensors], _watched(tensors)))
            counts[path] += 1
            return args, kwargs

        return hook

    def after(_module: Any, _args: Any, _kwargs: Any, made: Any) -> None:
        tensors = _floats(made)
        done.append((*opened.pop(), [_array(x) for x in tensors], _watched(tensors)))

    for path, child in module.named_modules():
        child.register_forward_pre_hook(before(path), with_kwargs=True)
        child.register_forward_hook(after, with_kwargs=True)
    with torch.set_grad_enabled(wanted), masks.in_torch(seed, 0) if train else contextlib.nullcontext():
        made = side.call(module, inputs)
        if wanted:
            side.objective(made, targets, seed).backward()
    return [
        Call(path, index, tuple(given), tuple(outs), tuple(out_grads), tuple(in_grads))
        for path, index, given, in_grads, outs, out_grads in done
    ]


def flax_calls(
    side: FlaxSide, noted: Mapping[str, Any], *, seed: int = 0, train: bool, gradients: bool = True
) -> list[Call]:
    """The calls in the port, in the order in which they end; with gradients when training, if they are wanted.

    A module that is called inside a loop of JAX (`nnx.scan`) is seen from outside only.
    """

    def run(taps: Any, params: Any, stats: Any, inputs: Any, targets: Any, draws: Any) -> Any:
        records: dict[str, Any] = {}

        def watch(name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            given = leaves((args, kwargs))
            if taps is None:
                made = call(*args, **kwargs)
            else:
                # The gradient by a zero that is added to a value is the gradient by the value.
                args, kwargs = replaced((args, kwargs), map(jnp.add, given, taps[name][0]))
                made = call(*args, **kwargs)
                made = replaced(made, map(jnp.add, leaves(made), taps[name][1]))
            records[name] = given, leaves(made)
            return made

        made, _, _ = side.forward(params, stats, inputs, train, draws, counted(watch))
        loss = jnp.zeros(()) if taps is None else side.objective(made, targets, seed, noted["outputs"])
        return loss, records

    arguments = (side.model.params, side.model.stats, *batch_of(side, noted, seed, train))
    if not (train and gradients):
        return _calls(jax.jit(run)(None, *arguments)[1], {})
    shapes = jax.eval_shape(lambda *given: run(None, *given)[1], *arguments)
    taps = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    by, records = jax.jit(jax.grad(run, has_aux=True))(taps, *arguments)
    return _calls(records, by)


def counted(watch: Callable[..., Any]) -> Callable[..., Any]:
    """Names every call, and leaves those alone that happen inside a loop of JAX: their values cannot get out."""
    counts: collections.Counter[str] = collections.Counter()
    outermost = _level()

    def named(path: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        name = f"{path}#{counts[path]}"
        counts[path] += 1
        return watch(name, call, args, kwargs) if _level() == outermost else call(*args, **kwargs)

    return named


def _level() -> Any:
    """The transformation of JAX that is being traced."""
    return jax.extend.core.get_opaque_trace_state(convention="nnx")


def batch_of(side: FlaxSide, noted: Mapping[str, Any], seed: int, train: bool) -> tuple[Any, Any, Any]:
    inputs, targets = side.batch(seed, 0)
    draws = side.draws(seed, 0, side.model.params, side.model.stats, inputs, noted) if train else None
    return inputs, targets, draws


def _calls(records: Mapping[str, Any], gradients: Mapping[str, Any]) -> list[Call]:
    found = []
    for name, (given, made) in records.items():
        path, index = name.rsplit("#", 1)
        ins, outs = map(arrays_of, gradients.get(name, ((), ())))
        found.append(Call(path, int(index), arrays_of(given), arrays_of(made), outs, ins))
    return found


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)


def leaves(values: Any) -> tuple[Any, ...]:
    """The floating-point arrays in arguments or results; modules and flags among them are passed over."""
    return tuple(leaf for leaf in jax.tree.leaves(_plain(values)) if _is_float(leaf))


def _plain(values: Any) -> Any:
    """Without what is no array: a module or nnx.Rngs among the arguments is a tree of its own."""
    return jax.tree.map(
        lambda x: None if isinstance(x, nnx.Module | nnx.Rngs | linen.Module) else x, values, is_leaf=_opaque
    )


def _opaque(value: Any) -> bool:
    return isinstance(value, nnx.Module | nnx.Rngs | nnx.RngStream | linen.Module)


def replaced(values: Any, arrays: Any) -> Any:
    """The same structure with other floating-point arrays."""
    rest = iter(arrays)
    return jax.tree.map(
        lambda x: jnp.asarray(next(rest), x.dtype) if not _opaque(x) and _is_float(x) else x,
        values,
        is_leaf=_opaque,
    )


def arrays_of(values: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(value, np.float64) for value in values)


def _floats(values: Any) -> list[torch.Tensor]:
    return [value for value in outputs(values).values() if value.is_floating_point()]


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy().copy()


def _watched(tensors: list[torch.Tensor]) -> list[Any]:
    """A list that the gradients of these tensors will appear in."""
    gradients: list[Any] = [None] * len(tensors)

    def keep(place: int) -> Callable[[torch.Tensor], None]:
        return lambda gradient: gradients.__setitem__(place, _array(gradient))

    for place, tensor in enumerate(tensors):
        if tensor.requires_grad:
            tensor.register_hook(keep(place))
    return gradients
