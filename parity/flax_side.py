"""The port's side: runs the Flax module through every phase and records what came out, under torch's names."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from flax.core import unfreeze

from jaxdl import tree
from parity import masks
from parity.align import align
from parity.bridge import Bridge, FlaxLeaf
from parity.pair import Pair, PairError, projection
from parity.recording import Recording

# (path, call, args, kwargs) -> what the call shall return.
Watch = Callable[[str, Callable[..., Any], Any, Any], Any]
# How a port is told whether it trains: a keyword of its __call__ -> its value, given `train`.
FLAGS: Mapping[str, Callable[[bool], bool]] = {
    "train": lambda train: train,
    "training": lambda train: train,
    "is_training": lambda train: train,
    "deterministic": lambda train: not train,
    "use_running_average": lambda train: not train,
}


# What a layer may pin; the state of a recurrent one starts in the type of its parameters.
PINS = ("dtype", "param_dtype")


class _Nnx:
    """A module of flax.nnx as pure functions of nested dicts."""

    def __init__(self, module: nnx.Module, dtype: Any, call: Callable[..., Any] | None) -> None:
        self.defined = _defined(module)
        module = nnx.clone(module)
        for _, part in nnx.iter_modules(module):
            for name in PINS:
                if _pinned(part, name, dtype):
                    setattr(part, name, dtype)
        self.call = call or _caller(type(module).__call__)
        self.graphdef, params, stats, rest = nnx.split(module, nnx.Param, _is_statistic, ...)
        self.params, self.stats = (_cast(nnx.to_pure_dict(part), dtype) for part in (params, stats))
        self.rest = nnx.to_pure_dict(rest)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.state(module))
        self.module = nnx.merge(self.graphdef, shapes)  # its weights would stay in memory beside `params`

    def merged(self, params: Any, stats: Any, train: bool) -> nnx.Module:
        """A module with these values, told whether it trains."""
        module = nnx.merge(self.graphdef, params, stats, self.rest, copy=True)
        flags = {name: value(train) for name, value in FLAGS.items() if name != "train"}  # that one is a method
        module.set_attributes(**flags, raise_if_not_found=False)
        return module

    def apply(
        self, params: Any, stats: Any, inputs: Mapping[Any, Any], train: bool, watch: Watch | None = None
    ) -> tuple[Any, Any]:
        """What the module returns, and its statistics afterwards."""
        module = self.merged(params, stats, train)
        with watched_nnx(module, watch) if watch else contextlib.nullcontext():
            made = self.call(module, inputs, train)
        return made, nnx.to_pure_dict(nnx.state(module, _is_statistic))

    def leaves(self) -> list[FlaxLeaf]:
        """Parameters and statistics as the bridge sees them."""
        kinds = {tuple(map(str, path)): part for path, part in nnx.iter_modules(self.module)}
        place = {path: index for index, path in enumerate(self.defined)}
        found = []
        for variable_type, statistic in ((nnx.Param, False), (_is_statistic, True)):
            flat = nnx.to_flat_state(nnx.state(self.module, variable_type))
            for path, variable in sorted(flat, key=lambda item: place.get(tuple(map(str, item[0])), len(place))):
                if not jnp.issubdtype(variable.dtype, jnp.floating):
                    continue  # a counter
                owner = kinds.get(_home(kinds, tuple(map(str, path))))
                layout = variable.get_metadata().get("layout")
                found.append(
                    FlaxLeaf(
                        tuple(map(str, path)),
                        tuple(variable.shape),
                        _kind(owner),
                        statistic,
                        layout,
                        bool(getattr(owner, "transpose_kernel", False)),
                    )
                )
        return found


class _Linen:
    """A module of flax.linen as pure functions of nested dicts."""

    def __init__(
        self,
        module: linen.Module,
        dtype: Any,
        call: Callable[..., Any] | None,
        inputs: Mapping[Any, Any],
        seed: int,
    ) -> None:
        self.module, self.call, self.dtype = module, call, dtype
        self.flags = _flags(type(module).__call__)
        self.kinds: dict[tuple[str, ...], linen.Module] = {}

        def note(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            self.kinds.setdefault(tuple(context.module.path), context.module)
            return self._unpinned(next_call, args, kwargs, context)

        positional, keywords = _split(inputs)
        key = jax.random.key(seed)
        with linen.intercept_methods(note):
            keywords |= self._flags(train=False)
            variables = module.init({"params": key, "dropout": key}, *positional, **keywords)
        variables = _cast(unfreeze(variables), dtype)
        self.params = variables.pop("params", {})
        self.stats = {name: variables[name] for name in variables if name not in ("intermediates", "cache")}

    def apply(
        self, params: Any, stats: Any, inputs: Mapping[Any, Any], train: bool, watch: Watch | None = None
    ) -> tuple[Any, Any]:
        """What the module returns, and its statistics afterwards."""
        positional, keywords = _split(inputs)
        given: dict[str, Any] = {
            "mutable": list(stats) if train else False,
            "rngs": {"dropout": jax.random.key(0)},
        }
        call = self.call
        if call:
            given["method"] = lambda module, *args, **more: call(module, *args, **more, train=train, rngs=None)
        else:
            keywords |= self._flags(train)
        with watched_linen(watch) if watch else contextlib.nullcontext(), linen.intercept_methods(self._unpinned):
            made = self.module.apply({"params": params, **stats}, *positional, **keywords, **given)
        return made if train else (made, stats)

    def _unpinned(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        # The cell of a recurrent layer is asked for its state before it is called.
        held = [part for part in vars(context.module).values() if isinstance(part, linen.Module)]
        for part in (context.module, *held):
            for name in PINS:
                if part is not context.module.parent and _pinned(part, name, self.dtype):
                    object.__setattr__(part, name, self.dtype)
        return call(*args, **kwargs)

    def leaves(self) -> list[FlaxLeaf]:
        """Parameters and statistics as the bridge sees them; statistics carry no name of their collection."""
        found = []
        place = {path: index for index, path in enumerate(self.kinds)}  # in the order in which they are called
        trees = [(self.params, False), *((part, True) for part in self.stats.values())]
        for part, statistic in trees:
            for path, value in jax.tree_util.tree_flatten_with_path(part)[0]:
                if not jnp.issubdtype(value.dtype, jnp.floating):
                    continue  # a counter
                names = tuple(str(entry.key) for entry in path)
                owner = self.kinds.get(_home(self.kinds, names))
                transposed = bool(getattr(owner, "transpose_kernel", False))
                found.append(FlaxLeaf(names, tuple(value.shape), _kind(owner), statistic, None, transposed))
        return sorted(found, key=lambda leaf: (leaf.statistic, place.get(_home(place, leaf.path), 0)))

    def _flags(self, train: bool) -> dict[str, bool]:
        return {name: FLAGS[name](train) for name in self.flags}


class FlaxSide:
    """The Flax module of a pair, in one precision.

    Args:
      pair: its Flax part.
      module: of the pair.
      example: inputs of a batch, as `Pair.batch` gives them.
      dtype: to compute in.
      seed: of the initial variables of a linen module.
    """

    def __init__(
        self,
        pair: Pair,
        module: Any,
        example: Mapping[Any, np.ndarray],
        *,
        dtype: Any = jnp.float64,
        seed: int = 0,
    ) -> None:
        self.pair, self.dtype = pair, dtype
        if isinstance(module, nnx.Module):
            self.model: Any = _Nnx(module, dtype, pair.flax_call and _given(pair.flax_call))
        elif isinstance(module, linen.Module):
            self.model = _Linen(module, dtype, pair.flax_call, self.port_inputs(self.arrays(example)), seed)
        else:
            raise PairError(f"expected a module of flax.nnx or flax.linen, got {type(module).__name__}")
        self.leaves: list[FlaxLeaf] = self.model.leaves()
        # Of the bridge: images that torch flattens in another order.
        self.flattened: list[tuple[int, int, int]] = []
        self.dropout: list[dict[str, Any]] | None = None  # what a training step asks masks for, once known
        # Orders of axes that shapes leave open, see `parity.probe`: of outputs, and of torch's dropout masks.
        self.orders: dict[str, tuple[int, ...]] = {}
        self.mask_orders: list[tuple[int, ...] | None] = []

    def arrays(self, inputs: Mapping[Any, np.ndarray]) -> dict[Any, Any]:
        """Inputs as JAX takes them: floats in the precision of the side."""
        return {key: self.array(value) for key, value in inputs.items()}

    def array(self, value: np.ndarray) -> Any:
        """One array: floats in the precision of the side, integers as they are."""
        return jnp.asarray(value, self.dtype) if value.dtype.kind == "f" else jnp.asarray(value)

    def port_inputs(self, inputs: Mapping[Any, Any]) -> dict[Any, Any]:
        """The port's inputs, from torch's."""
        if self.pair.flax_inputs is None:
            return dict(inputs)
        positional, keywords = _split(inputs)
        made = self.pair.flax_inputs(*positional, **keywords)
        if isinstance(made, Mapping):
            return dict(made)
        return dict(enumerate(made if isinstance(made, tuple | list) else (made,)))

    def variables(self) -> dict[str, np.ndarray]:
        """All parameters and statistics, by dotted path."""
        own = tree.flatten(self.model.params) | self.flat_stats(self.model.stats)
        return {name: np.asarray(value, np.float64) for name, value in own.items()}

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Overwrites what is given, by dotted path."""

        def replaced(part: Any) -> Any:
            return tree.map_named(
                lambda name, old: jnp.asarray(values[name], old.dtype) if name in values else old, part
            )

        self.model.params = replaced(self.model.params)
        stats = self.model.stats
        linen_stats = isinstance(self.model, _Linen)
        self.model.stats = {key: replaced(part) for key, part in stats.items()} if linen_stats else replaced(stats)

    def flat_stats(self, stats: Any) -> dict[str, Any]:
        """Statistics by dotted path."""
        parts = stats.values() if isinstance(self.model, _Linen) else [stats]
        return {name: value for part in parts for name, value in tree.flatten(part).items()}

    def outputs(self, made: Any, noted: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """What the port returned, under the names and with the axes of torch's outputs.

        Raises:
          PairError: another number of arrays, or shapes that no order of axes makes equal.
        """
        found = {}
        for name, array in self.named(made, noted).items():
            known = self.orders.get(name)
            aligned = align(array, noted[name]) if known is None else array.transpose(known)
            if aligned is None:
                raise PairError(f"output {name}: torch's shape is {tuple(noted[name])}, the port's {array.shape}")
            found[name] = aligned
        return found

    def named(self, made: Any, noted: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """What the port returned, with its own axes, by the names of torch's outputs: the same, or in their order.

        Raises:
          PairError: another number of arrays.
        """
        found = _named(self.pair.outputs[1](made) if self.pair.outputs else made)
        if len(found) != len(noted):
            raise PairError(
                f"torch returns {len(noted)} tensors ({', '.join(noted)}), the port {len(found)} arrays; "
                "give outputs=(of_torch, of_flax)"
            )
        if found.keys() == noted.keys():
            return {name: found[name] for name in noted}
        return dict(zip(noted, found.values(), strict=True))

    def forward(
        self,
        params: Any,
        stats: Any,
        inputs: Mapping[Any, Any],
        train: bool,
        draws: Sequence[Any] | None = None,
        watch: Watch | None = None,
    ) -> tuple[Any, Any, list[dict[str, Any]]]:
        """What the port returns for torch's inputs, its statistics afterwards, and the dropout calls.

        ``watch`` stands in for every call of a layer, see `watched_nnx`.
        """
        with masks.in_jax(draws) as calls, exact_attention():
            made, stats = self.model.apply(params, stats, self.port_inputs(inputs), train, watch)
        return made, stats, calls

    @staticmethod
    def plain_call(pair: Pair, module: Any, inputs: Sequence[Any], train: bool, rngs: Any) -> Any:
        """What the port returns when it is called as the pair says, or as its signature does."""
        if pair.flax_call:
            return pair.flax_call(module, *inputs, train=train, rngs=rngs)
        return _caller(type(module).__call__)(module, dict(enumerate(inputs)), train)

    def objective(self, made: Any, targets: Sequence[Any], seed: int, noted: Mapping[str, Sequence[int]]) -> Any:
        """The loss, or without one the projection that torch's side takes too."""
        if self.pair.loss:
            picked = self.pair.outputs[1](made) if self.pair.outputs else made
            loss = jnp.asarray(self.pair.loss[1](picked, *targets))
            if loss.shape:
                raise PairError(f"the loss of the port has shape {loss.shape}; expected a scalar")
            return loss
        found = [
            value for value in self.outputs(made, noted).values() if jnp.issubdtype(value.dtype, jnp.floating)
        ]
        return sum(
            jnp.sum(value * jnp.asarray(projection(seed, place, value.shape), value.dtype))
            for place, value in enumerate(found)
        )

    def record(
        self,
        bridge: Bridge,
        noted: Mapping[str, Any],
        *,
        seed: int = 0,
        steps: int = 5,
        into: MutableMapping[str, np.ndarray] | None = None,
        portion: int | None = None,
    ) -> Recording:
        """Every phase, in order, under torch's names.

        Args:
          bridge: carries names and layouts.
          noted: the facts of torch's recording.
          seed, steps: as there.
          into: takes the tensors as they come; a dict by default.
          portion: bytes of parameters whose gradients are in memory at once; None for all.
        """
        facts: dict[str, Any] = {
            "side": "flax",
            "versions": {"jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__},
            "dtype": jnp.dtype(self.dtype).name,
            "seed": seed,
            "steps": steps,
            "warnings": [],
            "skipped": {},
        }
        inputs, targets = self.batch(seed, 0)
        params, stats = self.model.params, self.model.stats
        shapes = noted["outputs"]

        @jax.jit
        def evaluate(params: Any, stats: Any, inputs: Any) -> dict[str, Any]:
            made, _, calls = self.forward(params, stats, inputs, train=False)
            facts["evaluation_dropout"] = calls
            return self.outputs(made, shapes)

        tensors: MutableMapping[str, np.ndarray] = {} if into is None else into
        made = evaluate(params, stats, inputs)
        tensors.update(arrays({f"eval_forward/{name}": value for name, value in made.items()}))
        draws = self.draws(seed, 0, params, stats, inputs, noted)
        facts["dropout"] = self.dropout
        floats = [key for key, value in inputs.items() if jnp.issubdtype(value.dtype, jnp.floating)]

        @jax.jit
        def differentiate(chosen: Any, params: Any, stats: Any, inputs: Any, targets: Any, draws: Any) -> Any:
            def loss(chosen: Mapping[str, Any], moving: Mapping[Any, Any]) -> Any:
                whole = tree.map_named(lambda name, old: chosen.get(name, old), params)
                made, after, _ = self.forward(whole, stats, {**inputs, **moving}, True, draws)
                return self.objective(made, targets, seed, shapes), (self.outputs(made, shapes), after)

            moving = {key: inputs[key] for key in floats}
            return jax.value_and_grad(loss, (0, 1), has_aux=True)(chosen, moving)

        flat, after = tree.flatten(params), stats
        for place, names in enumerate(_portions(bridge, flat, portion)):
            chosen = {name: flat[name] for name in names}
            value, grads = differentiate(chosen, params, stats, inputs, targets, draws)
            loss, (made, after) = value
            grads, input_grads = grads
            if place == 0:
                tensors.update(arrays({f"train_forward/{name}": value for name, value in made.items()}))
                if self.pair.loss:
                    tensors["loss/loss"] = arrays({"loss": loss})["loss"]
                tensors.update(arrays({f"input_gradients/{key}": value for key, value in input_grads.items()}))
            _deliver(bridge, grads, tensors)
        before = bridge.to_torch(arrays(self.flat_stats(stats)))
        moved = bridge.to_torch(arrays(self.flat_stats(after)))
        tensors.update({f"buffers/{name}": moved[name] - before[name] for name in moved})
        if self.pair.tx is None or not steps:
            reason = "the pair has no tx" if self.pair.tx is None else "no updates were asked for"
            facts["skipped"] |= dict.fromkeys(("first_update", "optimizer_state", "updates", "resume"), reason)
        else:
            tensors.update(arrays(self._train(bridge, noted, seed, steps)))
        return Recording(tensors, facts)

    def _train(self, bridge: Bridge, noted: Mapping[str, Any], seed: int, steps: int) -> dict[str, Any]:
        start, shapes, tx = self.model.params, noted["outputs"], self.pair.tx

        @jax.jit
        def update(params: Any, stats: Any, opt_state: Any, inputs: Any, targets: Any, draws: Any) -> Any:
            def loss(params: Any) -> Any:
                made, after, _ = self.forward(params, stats, inputs, True, draws)
                return self.objective(made, targets, seed, shapes), after

            (value, after), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), after, opt_state, value

        def one(state: Any, step: int) -> Any:
            inputs, targets = self.batch(seed, step)
            draws = self.draws(seed, step, state[0], state[1], inputs, noted)
            *state, value = update(*state, inputs, targets, draws)
            return state, value

        def changed(params: Any) -> dict[str, np.ndarray]:
            return bridge.to_torch(arrays(tree.flatten(jax.tree.map(jnp.subtract, params, start))))

        state: Any = [start, self.model.stats, tx.init(start)]
        tensors, losses, saved = {}, [], None
        for step in range(steps):
            if step == steps // 2:
                saved = jax.tree.map(np.asarray, state)  # through the host, as a checkpoint goes
            state, value = one(state, step)
            losses.append(float(value))
            now = changed(state[0])
            tensors |= {f"updates/{step + 1}/{name}": delta for name, delta in now.items()}
            if step == 0:
                tensors |= {f"first_update/{name}": delta for name, delta in now.items()}
                for slot, values in slots(state[2], start).items():
                    found = bridge.to_torch(arrays(values), "gradient")
                    tensors |= {f"optimizer_state/{name}.{slot}": value for name, value in found.items()}
        tensors["updates/loss"] = np.asarray(losses)
        if saved is not None:
            state = jax.tree.map(jnp.asarray, saved)
            for step in range(steps // 2, steps):
                state, _ = one(state, step)
            tensors |= {f"resume/{name}": delta for name, delta in changed(state[0]).items()}
        return tensors

    def batch(self, seed: int, step: int) -> tuple[dict[Any, Any], tuple[Any, ...]]:
        inputs, targets = self.pair.batch(seed, step)
        return self.arrays(inputs), tuple(map(self.array, targets))

    def draws(
        self, seed: int, step: int, params: Any, stats: Any, inputs: Mapping[Any, Any], noted: Mapping[str, Any]
    ) -> list[Any]:
        """The shared numbers for every dropout of a training step."""
        if self.dropout is None:
            calls: list[dict[str, Any]] = []

            def trace(params: Any, stats: Any, inputs: Any) -> int:
                calls.extend(self.forward(params, stats, inputs, train=True)[2])
                return 0

            jax.eval_shape(trace, params, stats, inputs)
            self.dropout = calls
        shapes = [call["shape"] for call in self.dropout]
        theirs = [call["shape"] for call in noted["dropout"]]
        found = masks.draws(seed, step, shapes, theirs, self.flattened, self.mask_orders)
        return [jnp.asarray(numbers) for numbers in found]


@contextlib.contextmanager
def watched_nnx(module: nnx.Module, watch: Callable[..., Any]) -> Iterator[None]:
    """While it lasts ``watch(path, call, args, kwargs)`` stands in for every call of a part of the module."""
    paths: dict[int, str] = {}
    for path, part in nnx.iter_modules(module):
        paths.setdefault(id(part), ".".join(map(str, path)))
    classes = {type(part) for _, part in nnx.iter_modules(module) if callable(part)}
    stack: list[int] = []

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)  # its signature is asked for
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            # A module built on the way, or a class that calls its parent's __call__.
            if id(self) not in paths or (stack and stack[-1] == id(self)):
                return original(self, *args, **kwargs)
            stack.append(id(self))
            try:
                return watch(paths[id(self)], lambda *a, **k: original(self, *a, **k), args, kwargs)
            finally:
                stack.pop()

        return call

    own = {cls: cls.__dict__.get("__call__") for cls in classes}
    originals = {cls: cls.__call__ for cls in classes}
    try:
        for cls, original in originals.items():
            cls.__call__ = wrapped(original)
        yield
    finally:
        for cls, before in own.items():
            if before is None:
                del cls.__call__
            else:
                cls.__call__ = before


@contextlib.contextmanager
def watched_linen(watch: Callable[..., Any]) -> Iterator[None]:
    """The same for every ``__call__`` of a linen module."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        return watch(".".join(context.module.path), call, args, kwargs)

    with linen.intercept_methods(intercept):
        yield


def _portions(bridge: Bridge, params: Mapping[str, Any], size: int | None) -> list[list[str]]:
    """The parameters that have a counterpart, in portions of at most so many bytes; parts of one torch tensor stay
    together."""
    together: dict[str, list[str]] = {}
    for link in bridge.links:
        if link.leaf.name in params:
            together.setdefault(link.source.name, []).append(link.leaf.name)
    portions: list[list[str]] = [[]]
    room = size
    for names in together.values():
        needed = sum(params[name].nbytes for name in names)
        if size is not None and room is not None and needed > room and portions[-1]:
            portions.append([])
            room = size
        portions[-1] += names
        room = None if room is None else room - needed
    return portions


def _deliver(bridge: Bridge, grads: dict[str, Any], tensors: MutableMapping[str, np.ndarray]) -> None:
    """Records gradients tensor by tensor, and lets go of each."""
    for names in _portions(bridge, grads, 0):
        own = arrays({name: grads.pop(name) for name in names})
        found = bridge.to_torch(own, "gradient")
        tensors.update({f"parameter_gradients/{name}": value for name, value in found.items()})


def slots(opt_state: Any, params: Any) -> dict[str, dict[str, Any]]:
    """What the optimizer keeps for each parameter: name of the slot -> parameter -> array."""

    def like_params(node: Any) -> bool:
        return isinstance(node, dict) and set(node) == set(params)

    wanted = {name: value.shape for name, value in tree.flatten(params).items()}
    found: dict[str, dict[str, Any]] = {}
    for path, node in jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=like_params)[0]:
        if like_params(node):
            values = {name: value for name, value in tree.flatten(node).items() if value.shape == wanted.get(name)}
            name = next((str(entry.name) for entry in reversed(path) if hasattr(entry, "name")), "state")
            while values.keys() & found.get(name, {}).keys():
                name += "'"
            found.setdefault(name, {}).update(values)
    return {name: values for name, values in found.items() if values}


@contextlib.contextmanager
def precise() -> Iterator[None]:
    """float64 on the CPU, with JAX's own rules of promotion, whatever is set outside."""
    with (
        jax.enable_x64(True),
        jax.default_device(jax.local_devices(backend="cpu")[0]),
        jax.default_matmul_precision("highest"),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def converted(values: Mapping[str, Any], side: FlaxSide) -> dict[str, np.ndarray]:
    """What a user's own conversion made, by dotted path; all differences to the port at once."""
    flat = jax.tree_util.tree_flatten_with_path(values)[0]
    found = {
        ".".join(str(getattr(entry, "key", entry)) for entry in path): np.asarray(value) for path, value in flat
    }
    own = side.variables()
    wanted = {leaf.name: own[leaf.name] for leaf in side.leaves}  # without counters, which need not be converted
    collections = ("params.", "batch_stats.")
    found = {
        name
        if name in own
        else next((name.removeprefix(c) for c in collections if name.startswith(c)), name): value
        for name, value in found.items()
    }
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not in the port" for name in found if name not in own]
    problems += [
        f"{name}: expected shape {wanted[name].shape}, got {value.shape}"
        for name, value in found.items()
        if name in wanted and wanted[name].shape != value.shape
    ]
    if problems:
        raise PairError(f"the pair's own conversion of weights: {'; '.join(problems)}")
    return {name: value for name, value in found.items() if name in wanted}


def arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """On the host; floats in float64."""
    host = jax.device_get(dict(values))
    return {
        name: np.asarray(value, np.float64 if jnp.issubdtype(np.asarray(value).dtype, jnp.floating) else None)
        for name, value in host.items()
    }


@contextlib.contextmanager
def exact_attention() -> Iterator[None]:
    """While it lasts `jax.nn.dot_product_attention` keeps float64: its own softmax is always float32."""
    original = jax.nn.dot_product_attention

    def attend(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, **options: Any) -> Any:
        rare = {
            name
            for name, given in options.items()
            if given is not None and name not in ("scale", "is_causal", "implementation")
        }
        if query.dtype != jnp.float64 or query.ndim != 4 or rare - {"return_residual"}:
            return original(query, key, value, bias, mask, **options)
        if key.shape[-2] != query.shape[-2]:
            key, value = (jnp.repeat(x, query.shape[-2] // x.shape[-2], axis=-2) for x in (key, value))
        scale = options.get("scale")
        scores = jnp.einsum("btnh,bsnh->bnts", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
        scores = scores if bias is None else scores + bias.astype(scores.dtype)
        if options.get("is_causal"):
            causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))[None, None]
            mask = causal if mask is None else jnp.logical_and(mask, causal)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.asarray(-0.7 * jnp.finfo(jnp.float32).max, scores.dtype))
        return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores, axis=-1), value)

    with masks.patched([(jax.nn, "dot_product_attention", attend)]):
        yield


def _named(values: Any) -> dict[str, Any]:
    """The arrays in what a module returned by their place, as `parity.torch_side.outputs` names tensors."""
    if hasattr(values, "shape") and hasattr(values, "dtype"):
        return {"output": values}
    if isinstance(values, Mapping):
        items = list(values.items())
    else:
        parts = values if isinstance(values, tuple | list) else jax.tree.leaves(values)
        items = list(enumerate(parts)) if len(parts) != 1 or parts[0] is not values else []
    found = {}
    for place, value in items:
        inner = _named(value)
        found |= {str(place) if name == "output" else f"{place}.{name}": array for name, array in inner.items()}
    return found


def _is_statistic(_: Any, variable: Any) -> bool:
    if not isinstance(variable, nnx.Variable) or isinstance(variable, nnx.Param | nnx.RngState | nnx.Cache):
        return False
    value = variable.get_value() if hasattr(variable, "get_value") else variable[...]
    return hasattr(value, "dtype") and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _pinned(module: Any, name: str, dtype: Any) -> bool:
    """Whether a layer pins a type that would round everything behind it.

    One that pins less than a float32 port has is what a comparison in float32 is for.
    """
    own = getattr(module, name, None)
    try:
        if own is None or not jnp.issubdtype(own, jnp.floating):
            return False
    except TypeError:
        return False
    return dtype == jnp.float64 or jnp.finfo(own).bits > jnp.finfo(dtype).bits


def _cast(values: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda x: jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x), values
    )


def _split(inputs: Mapping[Any, Any]) -> tuple[list[Any], dict[str, Any]]:
    positional = [value for key, value in inputs.items() if isinstance(key, int)]
    return positional, {key: value for key, value in inputs.items() if isinstance(key, str)}


def _flags(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name in FLAGS]


def _caller(function: Any) -> Callable[..., Any]:
    """Calls a module with its inputs and whatever its signature has of flags and randomness."""
    parameters, flags = inspect.signature(function).parameters, _flags(function)

    def call(module: Any, inputs: Mapping[Any, Any], train: bool) -> Any:
        positional, keywords = _split(inputs)
        keywords |= {name: FLAGS[name](train) for name in flags}
        if "rngs" in parameters:
            keywords["rngs"] = nnx.Rngs(0, dropout=0) if train else None
        for name in ("key", "rng"):
            if name in parameters and name not in keywords:
                keywords[name] = jax.random.key(0)
        return module(*positional, **keywords)

    return call


def _given(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(module: Any, inputs: Mapping[Any, Any], train: bool) -> Any:
        positional, keywords = _split(inputs)
        return function(module, *positional, **keywords, train=train, rngs=nnx.Rngs(0, dropout=0))

    return call


def _defined(module: nnx.Module) -> list[tuple[str, ...]]:
    """The paths of a module's variables in the order of definition; nnx itself sorts them by name."""
    found: list[tuple[str, ...]] = []
    seen: set[int] = set()

    def visit(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, nnx.Variable):
            found.append(path)
        elif isinstance(node, nnx.Module | Mapping | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            plain = isinstance(node, list | tuple)
            parts = dict(enumerate(node)) if plain else vars(node) if isinstance(node, nnx.Module) else node
            for name, part in parts.items():
                visit(part, (*path, str(name)))

    visit(module, ())
    return found


def _kind(owner: Any) -> str:
    """The layer of Flax or jaxdl that a module is or is derived from; what users wrote has its own name."""
    own = type(owner)
    base = next((cls for cls in own.__mro__ if cls.__module__.split(".")[0] in ("flax", "jaxdl")), own)
    return f"own {own.__name__}" if base in (nnx.Module, nnx.Pytree, linen.Module, object) else base.__name__


def _home(modules: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """The longest of these paths that a variable's path begins with."""
    return next((path[:end] for end in range(len(path) - 1, -1, -1) if path[:end] in modules), ())
