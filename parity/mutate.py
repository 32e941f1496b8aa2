"""Plants the bugs that ports have, one at a time, into a pair that is right: what a check is worth is what it catches.

Every fault is planted on the port's side, through its weights, its layers, the functions of JAX it calls, its loss,
its optax transformation or its inputs. `parity.diagnose` knows nothing of this file.
"""

import contextlib
import copy
import dataclasses
import functools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from jaxdl.optim import optimizers
from parity import torch_side
from parity.bridge import Bridge, Link, Way
from parity.flax_side import FlaxSide
from parity.pair import Pair
from parity.prove import prepare, precise


@dataclasses.dataclass(frozen=True)
class Planted:
    """A pair with a fault.

    Attributes:
      pair: with it.
      kinds: what `parity.locate` may call the kind of place.
      places: torch's paths that it may name; empty where the fault has no place in the model.
    """

    pair: Pair
    kinds: frozenset[str]
    places: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Fault:
    """A kind of bug.

    Attributes:
      name: short, unique; `parity.diagnose` uses the same names.
      text: what the port's author did.
      plant: ``right pair -> planted pairs``, none where the pair has nothing to spoil in this way.
    """

    name: str
    text: str
    plant: Callable[["Right"], Iterator[Planted]]


@dataclasses.dataclass(frozen=True)
class Right:
    """A correct pair made ready to be spoiled.

    Attributes:
      pair: with fixed weights in both modules.
      module: torch's.
      bridge: between the two.
      port: the Flax module with the weights.
      optimizer: the torch optimizer's class name and settings; empty without one.
      rates: the learning rate of each update.
    """

    pair: Pair
    module: torch.nn.Module
    bridge: Bridge
    port: Any
    optimizer: Mapping[str, Any]
    rates: tuple[float, ...]
    weights: Mapping[str, np.ndarray]


FAULTS: list[Fault] = []


def fault(name: str, text: str) -> Callable[[Any], Any]:
    """Registers a function that plants a fault."""

    def register(plant: Any) -> Any:
        FAULTS.append(Fault(name, text, plant))
        return plant

    return register


def right(pair: Pair, *, seed: int = 0, steps: int = 5) -> Right:
    """Fixes the weights of a correct pair, shaken so that none of them hides a fault."""
    with precise():
        subject = prepare(pair, seed=seed)
    module = copy.deepcopy(subject.module).double()
    torch_side.load(module, subject.weights)
    port = pair.flax_module()
    optimizer: dict[str, Any] = {}
    rates: list[float] = []
    if pair.torch_optimizer:
        scratch = copy.deepcopy(module)
        made = pair.torch_optimizer(scratch)
        optimizer = {"class": type(made).__name__, "groups": len(made.param_groups), **made.defaults}
        scheduler = pair.torch_scheduler(made) if pair.torch_scheduler else None
        for parameter in scratch.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for _ in range(steps + 2):
            rates.append(float(made.param_groups[0]["lr"]))
            made.step()
            if scheduler:
                scheduler.step()
    fixed = dataclasses.replace(pair, torch=module, flax=port, shake=False)
    return Right(fixed, module, subject.bridge, port, optimizer, tuple(rates), subject.weights)


def planted(given: Right, names: Sequence[str] = ()) -> Iterator[tuple[Fault, Planted]]:
    """Every fault that the pair has a place for, once each, at the first of these places."""
    for one in FAULTS:
        if not names or one.name in names:
            found = next(one.plant(given), None)
            if found:
                yield one, found


# ---- weights: what a conversion gets wrong


def _converted(
    given: Right, change: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]], keys: Sequence[str]
):
    """The pair with a conversion of weights that spoils some."""
    bridge = given.bridge

    def convert(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return change(bridge.to_flax(state))

    pair = dataclasses.replace(given.pair, weights=convert)
    return Planted(pair, frozenset({"weights", "layer", "glue"}), frozenset(_owners(keys) | set(keys)))


def _owners(keys: Sequence[str]) -> set[str]:
    return {key.split(" + ")[0].rpartition(".")[0] for key in keys}


def _spoil_links(
    given: Right, wanted: Callable[[Link], bool], change: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Planted]:
    for link in given.bridge.links:
        if wanted(link):
            name = link.leaf.name

            def spoil(values: Mapping[str, np.ndarray], name: str = name) -> dict[str, np.ndarray]:
                return {**values, name: change(np.asarray(values[name]))}

            before = given.bridge.to_flax(given.weights)[name]
            if change(before).shape == before.shape and not np.allclose(change(before), before, rtol=1e-6):
                yield _converted(given, spoil, [link.source.name])


def _is_weight(link: Link, rank: int) -> bool:
    return (
        link.source.keys[0].split(".")[-1].startswith(("weight", "in_proj_weight"))
        and len(link.source.cut) == rank
    )


@fault("transposed weight", "a square weight is not transposed")
def _transposed(given: Right) -> Iterator[Planted]:
    def square(link: Link) -> bool:
        shape = link.leaf.shape
        return _is_weight(link, 2) and len(shape) == 2 and shape[0] == shape[1] and "Embed" not in link.leaf.kind

    return _spoil_links(given, square, lambda x: x.T)


@fault("flatten order", "the weight behind a flattened image keeps torch's order of channels")
def _flatten(given: Right) -> Iterator[Planted]:
    for link in given.bridge.links:
        layout = link.way.layout
        if layout and len(layout.split) == 4 and layout.split[2] > 1:
            plain = Way((1, 0))

            def spoil(
                values: Mapping[str, np.ndarray], link: Link = link, plain: Way = plain
            ) -> dict[str, np.ndarray]:
                theirs = link.way.to_torch(values[link.leaf.name], link.source.cut)
                return {**values, link.leaf.name: plain.to_flax(theirs, link.leaf.shape)}

            yield _converted(given, spoil, [link.source.name])


@fault("mirrored kernel", "a convolution is taken for a correlation: its kernel runs backwards")
def _mirrored(given: Right) -> Iterator[Planted]:
    return _spoil_links(given, lambda link: _is_weight(link, 4), lambda x: x[::-1, ::-1])


@fault("kernel height and width", "height and width of a kernel are exchanged")
def _exchanged(given: Right) -> Iterator[Planted]:
    return _spoil_links(given, lambda link: _is_weight(link, 4), lambda x: np.swapaxes(x, 0, 1))


@fault("missing bias", "a bias is not carried over")
def _no_bias(given: Right) -> Iterator[Planted]:
    return _spoil_links(given, lambda link: link.source.keys[0].endswith("bias"), np.zeros_like)


@fault("weights of another layer", "two layers of one shape are exchanged")
def _other_layer(given: Right) -> Iterator[Planted]:
    links = [link for link in given.bridge.links if not link.leaf.statistic]
    for place, first in enumerate(links):
        for second in links[place + 1 :]:
            same = first.leaf.path[-1] == second.leaf.path[-1] and first.leaf.shape == second.leaf.shape
            if same and len(first.leaf.shape) > 1:
                names = first.leaf.name, second.leaf.name

                def spoil(
                    values: Mapping[str, np.ndarray], names: tuple[str, str] = names
                ) -> dict[str, np.ndarray]:
                    return {**values, names[0]: values[names[1]], names[1]: values[names[0]]}

                yield _converted(given, spoil, [first.source.name, second.source.name])


@fault("norm weight and bias", "scale and bias of a norm are exchanged")
def _norm_swapped(given: Right) -> Iterator[Planted]:
    yield from _exchange(given, ("weight", "scale"), "bias", statistic=False)


@fault("running mean and variance", "the running statistics are exchanged")
def _statistics_swapped(given: Right) -> Iterator[Planted]:
    yield from _exchange(given, ("running_mean", "mean"), ("running_var", "var"), statistic=True)


@fault("running statistics not loaded", "the running statistics stay those of a fresh module")
def _statistics_fresh(given: Right) -> Iterator[Planted]:
    return _spoil_links(given, lambda link: link.source.keys[0].endswith("running_var"), np.ones_like)


@fault("half precision weights", "a weight went through float16")
def _half(given: Right) -> Iterator[Planted]:
    return _spoil_links(
        given, lambda link: len(link.leaf.shape) > 1, lambda x: x.astype(np.float16).astype(x.dtype)
    )


def _exchange(given: Right, first: Any, second: Any, *, statistic: bool) -> Iterator[Planted]:
    names = {link.leaf.path: link for link in given.bridge.links if link.leaf.statistic == statistic}
    for path, link in names.items():
        if path[-1] in first and len(link.leaf.shape) == 1:
            other = next(
                (o for p, o in names.items() if p[:-1] == path[:-1] and p[-1] in second and p != path), None
            )
            if other and other.leaf.shape == link.leaf.shape:
                pair = link.leaf.name, other.leaf.name

                def spoil(values: Mapping[str, np.ndarray], pair: tuple[str, str] = pair) -> dict[str, np.ndarray]:
                    return {**values, pair[0]: values[pair[1]], pair[1]: values[pair[0]]}

                yield _converted(given, spoil, [link.source.name, other.source.name])


# ---- layers: settings that a port leaves at another default


def _parts(port: Any) -> list[tuple[str, Any]]:
    if isinstance(port, nnx.Module):
        return [(".".join(map(str, path)), part) for path, part in nnx.iter_modules(port)]
    return []


def _torch_place(given: Right, port_path: str) -> frozenset[str]:
    """torch's path of a layer of the port: by its weights, else by its name."""
    found = {
        link.source.keys[0].rpartition(".")[0]
        for link in given.bridge.links
        if ".".join(link.leaf.path[:-1]) == port_path
    }
    return frozenset(found or {port_path})


def _changed(
    given: Right,
    change: Callable[[str, Any], bool],
    kinds: Sequence[str] = ("layer", "glue"),
    *,
    anywhere: bool = False,
) -> Iterator[Planted]:
    """The pair with one layer changed in place; ``change`` says whether it could."""
    for path, _ in _parts(given.port):
        port = nnx.clone(given.port)
        part = dict(_parts(port))[path]
        if change(path, part):
            places = frozenset() if anywhere else _torch_place(given, path)
            yield Planted(dataclasses.replace(given.pair, flax=port), frozenset(kinds), places)


def _attribute(names: Sequence[str], value: Callable[[Any], Any], of: Callable[[Any], bool] = lambda _: True):
    def change(_: str, part: Any) -> bool:
        for name in names:
            if hasattr(part, name) and of(part):
                before = getattr(part, name)
                after = value(before)
                if after is None or after == before:
                    return False
                setattr(part, name, after)
                return True
        return False

    return change


def _is_norm(part: Any) -> bool:
    return hasattr(part, "epsilon") or hasattr(part, "eps")


def _has_statistics(part: Any) -> bool:
    return _is_norm(part) and hasattr(part, "momentum")


@fault("norm eps", "the eps of a norm is another")
def _eps(given: Right) -> Iterator[Planted]:
    return _changed(given, _attribute(("epsilon", "eps"), lambda e: 1e-6 if e > 5e-6 else 1e-5))


@fault("fast variance", "a norm computes its variance as E[x^2] - E[x]^2")
def _fast(given: Right) -> Iterator[Planted]:
    return _changed(given, _attribute(("use_fast_variance",), lambda fast: True if fast is False else None))


@fault("BatchNorm momentum", "momentum counts the other way round")
def _momentum(given: Right) -> Iterator[Planted]:
    change = _attribute(("momentum",), lambda m: 1 - m, _has_statistics)
    return _changed(given, change, ("buffers",))


@fault("BatchNorm momentum default", "momentum is the default of Flax, 0.99")
def _momentum_default(given: Right) -> Iterator[Planted]:
    def change(path: str, part: Any) -> bool:
        flax = type(part).__module__.startswith("flax")
        return _attribute(("momentum",), lambda _: 0.99 if flax else 0.01, _has_statistics)(path, part)

    return _changed(given, change, ("buffers",))


@fault("biased running variance", "the running variance is not multiplied by n/(n-1)")
def _biased(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        before = self.running_var[...]
        y = original(x, *rest, **more)
        count = x.size // x.shape[-1]
        moved = self.running_var[...] - (1 - self.momentum) * before
        if not self.use_running_average:
            self.running_var[...] = (1 - self.momentum) * before + moved * ((count - 1) / count)
        return y

    return _wrapped(given, lambda part: hasattr(part, "running_var"), call, ("buffers",))


@fault("evaluation with batch statistics", "BatchNorm normalises with the batch in evaluation too")
def _eval_batch(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, *args: Any, **more: Any) -> Any:
        self.use_running_average = False
        return original(*args, **more)

    return _wrapped(given, lambda part: hasattr(part, "use_running_average"), call)


@fault("training with running statistics", "BatchNorm normalises with the running statistics in training too")
def _train_running(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, *args: Any, **more: Any) -> Any:
        self.use_running_average = True
        return original(*args, **more)

    return _wrapped(given, lambda part: hasattr(part, "use_running_average"), call, ("layer", "glue", "buffers"))


@fault("dropout rate", "the rate is that of keeping")
def _rate(given: Right) -> Iterator[Planted]:
    return _changed(given, _attribute(("rate",), lambda rate: 1 - rate if rate != 0.5 else 0.4), anywhere=True)


@fault("no dropout", "dropout is left out")
def _no_dropout(given: Right) -> Iterator[Planted]:
    return _changed(given, _attribute(("rate",), lambda rate: 0.0 if rate else None), anywhere=True)


@fault("dropout not scaled", "what dropout keeps is not divided by the probability of keeping it")
def _unscaled(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, *args: Any, **more: Any) -> Any:
        y = original(*args, **more)
        return y if self.deterministic else y * (1 - self.rate)

    return _wrapped(
        given, lambda part: getattr(part, "rate", 0) and hasattr(part, "deterministic"), call, anywhere=True
    )


@fault("padding", "a convolution is padded by another amount")
def _padding(given: Right) -> Iterator[Planted]:
    def change(_: str, part: Any) -> bool:
        padding, kernel = getattr(part, "padding", None), getattr(part, "kernel_size", None)
        if padding is None or (kernel is None and not hasattr(part, "stride")):
            return False
        if isinstance(padding, int):
            part.padding = padding + 1
        elif isinstance(padding, str):
            part.padding = "VALID" if padding.upper() == "SAME" else "SAME"
        else:
            return False
        return True

    return (one for one in _changed(given, change) if _runs(one.pair))


@fault("asymmetric padding", "a padding of one is put on one side, as SAME does with a stride of 2")
def _asymmetric(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        return original(jnp.roll(x, 1, axis=1), *rest, **more)

    def convolution(part: Any) -> bool:
        return type(part).__name__ in ("Conv", "Conv2d")

    return _wrapped(given, convolution, call)


@fault("layer applied twice", "a layer is called twice")
def _twice(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        y = original(x, *rest, **more)
        return original(y, *rest, **more) if y.shape == x.shape else y

    def square(part: Any) -> bool:
        return _is_norm(part) and not hasattr(part, "momentum")

    return _wrapped(given, square, call)


@fault("missing norm", "a norm is left out")
def _skipped(given: Right) -> Iterator[Planted]:
    return _wrapped(given, _is_norm, lambda _self, _original, x, *_rest, **_more: x, ("layer", "glue"))


@fault("bfloat16 layer", "a layer computes in bfloat16")
def _bfloat16(given: Right) -> Iterator[Planted]:
    return _wrapped(given, _has_weights, _in(jnp.bfloat16))


@fault("float32 layer", "a layer rounds to float32")
def _float32(given: Right) -> Iterator[Planted]:
    return _wrapped(given, _has_weights, _in(jnp.float32))


@fault("stopped gradient", "no gradient passes through a layer")
def _stopped(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        return original(jax.lax.stop_gradient(x), *rest, **more)

    return _wrapped(given, _has_weights, call, ("backward", "layer", "glue", "loss"), anywhere=True, skip=1)


@fault("scaled gradient", "a gradient of one's own is off by a factor")
def _scaled_gradient(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, *args: Any, **more: Any) -> Any:
        y = original(*args, **more)
        return 0.9 * y + 0.1 * jax.lax.stop_gradient(y)

    return _wrapped(given, _has_weights, call, ("backward", "layer", "glue", "loss"), anywhere=True)


def _has_weights(part: Any) -> bool:
    weight = getattr(part, "weight", getattr(part, "kernel", None))
    return isinstance(weight, nnx.Param) and len(weight.shape) > 1


def _in(dtype: Any) -> Callable[..., Any]:
    def call(_: Any, original: Any, *args: Any, **more: Any) -> Any:
        return original(*args, **more).astype(dtype).astype(args[0].dtype)

    return call


def _wrapped(
    given: Right,
    wanted: Callable[[Any], Any],
    call: Callable[..., Any],
    kinds: Sequence[str] = ("layer", "glue"),
    *,
    anywhere: bool = False,
    skip: int = 0,
) -> Iterator[Planted]:
    """The pair with the ``__call__`` of one layer replaced by ``call(layer, original, *args)``."""

    def change(_: str, part: Any) -> bool:
        if not wanted(part) or not callable(part):
            return False
        cls = type(part)

        @functools.wraps(cls.__call__)
        def spoiled(self: Any, *args: Any, **more: Any) -> Any:
            return call(self, types.MethodType(cls.__call__, self), *args, **more)

        part.__class__ = type(cls.__name__, (cls,), {"__call__": spoiled})
        return True

    found = _changed(given, change, kinds, anywhere=anywhere)
    for _ in range(skip):
        next(found, None)
    return found


def _runs(pair: Pair) -> bool:
    """Whether the port still runs on its inputs."""
    try:
        with precise():
            side = FlaxSide(pair, pair.flax, pair.batch(0, 0)[0])
            inputs, _ = side.batch(0, 0)
            jax.eval_shape(lambda x: side.forward(side.model.params, side.model.stats, x, train=False)[0], inputs)
    except (ValueError, TypeError):
        return False
    return True


# ---- functions: another one is called, or with another option


def _replaced(given: Right, original: Any, other: Callable[..., Any], which: int = 0) -> Iterator[Planted]:
    """The pair whose port calls another function at the ``which``-th place where it calls ``original``."""

    def patched_call(module: Any, *inputs: Any, train: bool, rngs: Any) -> Any:
        calls = 0

        def function(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return other(*args, **kwargs) if calls == which + 1 else original(*args, **kwargs)

        with everywhere(original, function):
            return FlaxSide.plain_call(given.pair, module, inputs, train, rngs)

    pair = dataclasses.replace(given.pair, flax_call=patched_call)
    if _uses(given.pair, original) > which:
        yield Planted(pair, frozenset({"glue", "layer"}))


@contextlib.contextmanager
def everywhere(original: Any, other: Any) -> Iterator[None]:
    """While it lasts every module that has a function under any name has another in its place."""
    places = [
        (module, name)
        for module in list(sys.modules.values())
        if isinstance(module, types.ModuleType)
        for name, value in list(vars(module).items())
        if value is original and not module.__name__.startswith(("jax._src", "parity.mutate"))
    ]
    try:
        for module, name in places:
            setattr(module, name, other)
        yield
    finally:
        for module, name in places:
            setattr(module, name, original)


def _uses(pair: Pair, original: Any) -> int:
    calls = 0

    def count(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs)

    with precise(), everywhere(original, count):
        side = FlaxSide(pair, pair.flax_module(), pair.batch(0, 0)[0])
        inputs, _ = side.batch(0, 0)
        calls = 0
        jax.eval_shape(lambda x: side.forward(side.model.params, side.model.stats, x, train=False)[0], inputs)
    return calls


@fault("gelu form", "gelu is the approximation by tanh where torch's is exact, or the other way round")
def _gelu(given: Right) -> Iterator[Planted]:
    exact = jax.nn.gelu
    return _replaced(given, exact, lambda x, approximate=True: exact(x, approximate=not approximate))


@fault("other activation", "another activation function")
def _activation(given: Right) -> Iterator[Planted]:
    for name, other in (
        ("relu", jax.nn.silu),
        ("gelu", jax.nn.silu),
        ("silu", jax.nn.relu),
        ("tanh", jax.nn.relu),
    ):
        yield from _replaced(given, getattr(jax.nn, name), lambda x, *_, other=other, **__: other(x))


@fault("missing activation", "an activation is left out")
def _no_activation(given: Right) -> Iterator[Planted]:
    for name in ("relu", "gelu", "silu"):
        yield from _replaced(given, getattr(jax.nn, name), lambda x, *_, **__: x)


@fault("leaky activation", "relu is leaky")
def _leaky(given: Right) -> Iterator[Planted]:
    return _replaced(given, jax.nn.relu, lambda x: jax.nn.leaky_relu(x, 0.01))


@fault("softmax axis", "softmax over another axis")
def _softmax(given: Right) -> Iterator[Planted]:
    original = jax.nn.softmax
    return _replaced(given, original, lambda x, axis=-1, **more: original(x, axis=axis - 1, **more))


@fault("attention scale", "attention is not divided by the root of the size of a head")
def _scale(given: Right) -> Iterator[Planted]:
    original = jax.nn.dot_product_attention

    def unscaled(query: Any, *args: Any, **more: Any) -> Any:
        return original(query * query.shape[-1] ** 0.5, *args, **more)

    yield from _replaced(given, original, unscaled)


@fault("attention mask polarity", "the mask of attention says what to leave out, not what to keep")
def _polarity(given: Right) -> Iterator[Planted]:
    original = jax.nn.dot_product_attention

    def inverted(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, **more: Any) -> Any:
        if mask is None and more.get("is_causal"):
            size = query.shape[1]
            mask, more = jnp.tril(jnp.ones((1, 1, size, size), bool)), more | {"is_causal": False}
        return original(query, key, value, bias, None if mask is None else ~mask, **more)

    if _masked(given.pair):
        yield from _replaced(given, original, inverted)


def _masked(pair: Pair) -> bool:
    original, found = jax.nn.dot_product_attention, []

    def look(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, **more: Any) -> Any:
        found.append(mask is not None or bool(more.get("is_causal")))
        return original(query, key, value, bias, mask, **more)

    with precise(), everywhere(original, look):
        side = FlaxSide(pair, pair.flax_module(), pair.batch(0, 0)[0])
        inputs, _ = side.batch(0, 0)
        jax.eval_shape(lambda x: side.forward(side.model.params, side.model.stats, x, train=False)[0], inputs)
    return any(found)


@fault("pooling", "an average where torch takes the maximum")
def _pooling(given: Right) -> Iterator[Planted]:
    from jaxdl.nn import pooling

    def average(x: Any, window: Any, *_: Any, **__: Any) -> Any:
        return pooling.avg_pool2d(x, window)

    yield from _replaced(given, pooling.max_pool2d, average)
    yield from _replaced(
        given,
        nnx.max_pool,
        lambda x, window_shape, strides=None, padding="VALID": nnx.avg_pool(x, window_shape, strides, padding),
    )


# ---- loss


def _with_loss(given: Right, change: Callable[..., Any]) -> Iterator[Planted]:
    if given.pair.loss:
        theirs, ours = given.pair.loss
        loss = (theirs, lambda made, *targets: change(ours, made, *targets))
        yield Planted(dataclasses.replace(given.pair, loss=loss), frozenset({"loss"}))


@fault("loss summed", "the loss is the sum over the batch, not the mean")
def _summed(given: Right) -> Iterator[Planted]:
    return _with_loss(given, lambda loss, made, *targets: loss(made, *targets) * len(targets[0]))


@fault("label smoothing", "labels are smoothed on one side")
def _smoothing(given: Right) -> Iterator[Planted]:
    def change(loss: Any, made: Any, *targets: Any) -> Any:
        return 0.9 * loss(made, *targets) - 0.1 * jax.nn.log_softmax(made).mean()

    return _with_loss(given, change) if _classifies(given.pair) else iter(())


@fault("softmax twice", "the loss is given probabilities where it wants logits")
def _twice_softmax(given: Right) -> Iterator[Planted]:
    def change(loss: Any, made: Any, *targets: Any) -> Any:
        return loss(jax.nn.softmax(made), *targets)

    return _with_loss(given, change) if _classifies(given.pair) else iter(())


@fault("labels shifted", "labels are off by one")
def _shifted(given: Right) -> Iterator[Planted]:
    def change(loss: Any, made: Any, *targets: Any) -> Any:
        return loss(made, (targets[0] + 1) % made.shape[-1], *targets[1:])

    return _with_loss(given, change) if _classifies(given.pair) else iter(())


def _classifies(pair: Pair) -> bool:
    _, targets = pair.batch(0, 0)
    return bool(targets) and targets[0].dtype.kind in "iu"


# ---- data


def _with_inputs(given: Right, change: Callable[[Any], Any]) -> Iterator[Planted]:
    inputs, _ = given.pair.batch(0, 0)
    first = next(iter(inputs.values()))
    if first.dtype.kind != "f":
        return
    before = given.pair.flax_inputs or (lambda *given: given if len(given) > 1 else given[0])
    pair = dataclasses.replace(given.pair, flax_inputs=lambda x, *rest, **more: before(change(x), *rest, **more))
    yield Planted(pair, frozenset({"glue", "layer"}))


@fault("input scale", "inputs are divided by 255 once more, or not at all")
def _input_scale(given: Right) -> Iterator[Planted]:
    return _with_inputs(given, lambda x: x / 255)


@fault("input height and width", "height and width of the images are exchanged")
def _input_axes(given: Right) -> Iterator[Planted]:
    inputs, _ = given.pair.batch(0, 0)
    first = next(iter(inputs.values()))
    if first.ndim == 4 and first.shape[2] == first.shape[3]:
        yield from _with_inputs(given, lambda x: x.transpose(0, 1, 3, 2))


@fault("input channels", "the channels are in the order of another library")
def _input_channels(given: Right) -> Iterator[Planted]:
    inputs, _ = given.pair.batch(0, 0)
    first = next(iter(inputs.values()))
    if first.ndim == 4 and first.shape[1] > 1:
        yield from _with_inputs(given, lambda x: x[:, ::-1])


# ---- optimizer and schedule


def _with_tx(given: Right, tx: Any, kinds: Sequence[str] = ("optimizer", "schedule")) -> Iterator[Planted]:
    yield Planted(dataclasses.replace(given.pair, tx=tx), frozenset(kinds))


def _after(given: Right, change: Callable[[Any, Any], Any]) -> Iterator[Planted]:
    """The same transformation with ``change(updates, params)`` behind it."""
    if given.pair.tx is not None:
        extra = optax.stateless(change)
        yield from _with_tx(given, optax.chain(given.pair.tx, extra))


def _before(given: Right, first: Any) -> Iterator[Planted]:
    if given.pair.tx is not None:
        yield from _with_tx(given, optax.chain(first, given.pair.tx))


def _rebuilt(given: Right, **changes: Any) -> Any:
    """torch's optimizer in jaxdl, with other settings; None where it is one that jaxdl has not."""
    own = {**given.optimizer, **changes}
    rate = own.pop("rate", None)
    lr = rate or _rate(given)
    kind = own.get("class")
    if own.get("groups") != 1 or given.pair.clip or given.pair.accumulate > 1 or not given.pair.zero_grad:
        return None
    if kind == "SGD":
        names = ("momentum", "dampening", "nesterov", "weight_decay")
        return optimizers.sgd(lr, **{name: own[name] for name in names})
    if kind in ("Adam", "AdamW"):
        names = ("betas", "eps", "weight_decay", "amsgrad")
        return getattr(optimizers, kind.lower())(lr, **{name: own[name] for name in names})
    if kind == "RMSprop":
        names = ("alpha", "eps", "weight_decay", "momentum", "centered")
        return optimizers.rmsprop(lr, **{name: own[name] for name in names})
    return None


def _rate(given: Right) -> Any:
    return _table(given.rates) if len(set(given.rates)) > 1 else given.rates[0]


def _table(rates: Sequence[float]) -> Callable[[Any], Any]:
    values = np.asarray(rates)
    return lambda step: jnp.asarray(values)[jnp.minimum(step, len(values) - 1)]


def _setting(given: Right, **changes: Any) -> Iterator[Planted]:
    if all(name in given.optimizer or name in ("class", "rate") for name in changes):
        tx = _rebuilt(given, **changes)
        if tx is not None:
            yield from _with_tx(given, tx)


@fault("learning rate", "the learning rate is ten times too large")
def _lr(given: Right) -> Iterator[Planted]:
    return _after(given, lambda updates, _: jax.tree.map(lambda u: 10 * u, updates))


@fault("sign of the update", "the update goes uphill")
def _sign(given: Right) -> Iterator[Planted]:
    return _after(given, lambda updates, _: jax.tree.map(jnp.negative, updates))


@fault("no update", "the optimizer does nothing")
def _no_update(given: Right) -> Iterator[Planted]:
    return _after(given, lambda updates, _: jax.tree.map(jnp.zeros_like, updates))


@fault("frozen layer", "one parameter is never updated")
def _frozen(given: Right) -> Iterator[Planted]:
    def change(updates: Any, _: Any) -> Any:
        leaves, tree = jax.tree.flatten(updates)
        return jax.tree.unflatten(tree, [*leaves[:-1], jnp.zeros_like(leaves[-1])])

    return _after(given, change)


@fault("no momentum", "momentum is left out")
def _no_momentum(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("momentum"):
        yield from (
            _setting(given, momentum=0.0, nesterov=False)
            if "nesterov" in given.optimizer
            else _setting(given, momentum=0.0)
        )


@fault("Nesterov", "momentum is Nesterov's on one side")
def _nesterov(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("momentum") and "nesterov" in given.optimizer and not given.optimizer.get("dampening"):
        yield from _setting(given, nesterov=not given.optimizer["nesterov"])


@fault("dampening", "momentum is dampened, as an average is")
def _dampening(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("momentum") and not given.optimizer.get("nesterov"):
        yield from _setting(given, dampening=given.optimizer["momentum"])


@fault("weight decay default", "weight decay is another library's default")
def _decay_default(given: Right) -> Iterator[Planted]:
    if "weight_decay" in given.optimizer:
        yield from _setting(given, weight_decay=1e-4 if given.optimizer["weight_decay"] != 1e-4 else 1e-2)


@fault(
    "decay kind",
    "weight decay is added to the gradient where torch takes it off the weight, or the other way round",
)
def _decay_kind(given: Right) -> Iterator[Planted]:
    other = {"Adam": "AdamW", "AdamW": "Adam"}.get(given.optimizer.get("class", ""))
    if other and given.optimizer["weight_decay"]:
        yield from _setting(given, **{"class": other})


@fault("decay mask", "biases and norms are not decayed")
def _decay_mask(given: Right) -> Iterator[Planted]:
    decay = given.optimizer.get("weight_decay")
    if decay and given.optimizer["class"] == "AdamW":
        own = {name: given.optimizer[name] for name in ("betas", "eps")}
        yield from _with_tx(
            given,
            optax.adamw(
                _rate(given), *own["betas"], eps=own["eps"], weight_decay=decay,
                mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
            ),
        )  # fmt: skip
    elif decay:
        base = _rebuilt(given, weight_decay=0.0)
        if base is not None:
            masked = optax.masked(
                optax.add_decayed_weights(decay), lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
            )
            yield from _with_tx(given, optax.chain(masked, base))


@fault("optimizer eps", "the eps of the optimizer is another")
def _optimizer_eps(given: Right) -> Iterator[Planted]:
    if "eps" in given.optimizer:
        yield from _setting(given, eps=given.optimizer["eps"] * 100)


@fault("betas", "the second beta is another")
def _betas(given: Right) -> Iterator[Planted]:
    if "betas" in given.optimizer:
        first, second = given.optimizer["betas"]
        yield from _setting(given, betas=(first, 0.99 if second != 0.99 else 0.999))


@fault("RMSprop decay", "the decay of RMSprop is another library's default, 0.9")
def _alpha(given: Right) -> Iterator[Planted]:
    if "alpha" in given.optimizer:
        yield from _setting(given, alpha=0.9)


@fault("no bias correction", "Adam's averages are not corrected for their start at zero")
def _uncorrected(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("class") in ("Adam", "AdamW") and not given.optimizer["weight_decay"]:
        (b1, b2), eps = given.optimizer["betas"], given.optimizer["eps"]

        def update(grads: Any, state: Any, params: Any = None) -> Any:
            del params
            mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state[0], grads)
            nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state[1], grads)
            return jax.tree.map(lambda m, v: -given.rates[0] * m / (jnp.sqrt(v) + eps), mu, nu), (mu, nu)

        zeros = lambda params: (jax.tree.map(jnp.zeros_like, params),) * 2  # noqa: E731
        yield from _with_tx(given, optax.GradientTransformation(zeros, update))


@fault("no clipping", "gradients are not clipped")
def _unclipped(given: Right) -> Iterator[Planted]:
    if given.pair.clip:
        tx = _rebuilt(dataclasses.replace(given, pair=dataclasses.replace(given.pair, clip=None)))
        if tx is not None:
            yield from _with_tx(given, tx)


@fault("clipping", "gradients are clipped on one side")
def _clipped(given: Right) -> Iterator[Planted]:
    if given.pair.tx is not None and not given.pair.clip:
        yield from _before(given, optax.clip_by_global_norm(0.05))


@fault("accumulated gradients", "gradients add up from step to step: nobody calls zero_grad")
def _accumulating(given: Right) -> Iterator[Planted]:
    if given.pair.zero_grad:
        yield from _before(given, optax.trace(decay=1.0))


@fault("gradient scale", "gradients are averaged where torch adds them, or the other way round")
def _gradient_scale(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("class") == "SGD":
        yield from _before(given, optax.scale(0.5))


@fault("schedule off by one", "the schedule is one step ahead")
def _schedule(given: Right) -> Iterator[Planted]:
    if len(set(given.rates)) > 1:
        yield from _setting(given, rate=_table(given.rates[1:]))


@fault("schedule not applied", "the rate stays at its first value")
def _constant(given: Right) -> Iterator[Planted]:
    if len(set(given.rates)) > 1:
        yield from _setting(given, rate=_table(given.rates[:1]))
