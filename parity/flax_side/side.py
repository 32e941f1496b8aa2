"""The Flax module of a pair, in one precision."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from jaxdl import tree
from parity import masks
from parity.align import align
from parity.bridge import FlaxLeaf
from parity.flax_side.calling import given, split
from parity.flax_side.linen_model import LinenModel
from parity.flax_side.nnx_model import NnxModel
from parity.flax_side.precision import cast, exact_attention, hollow
from parity.flax_side.values import arrays, named
from parity.flax_side.watching import Watch
from parity.pair import Pair, PairError, projection


class FlaxSide:
    """The port, its weights, and how it is run.

    Args:
      pair: its Flax part.
      module: of the pair.
      example: inputs of a batch, as `Pair.batch` gives them.
      dtype: to compute in.
      seed: of the initial variables of a linen module.
      empty: its own weights are not kept, as all of them will be loaded.
    """

    def __init__(
        self,
        pair: Pair,
        module: Any,
        example: Mapping[Any, np.ndarray],
        *,
        dtype: Any = jnp.float64,
        seed: int = 0,
        empty: bool = False,
    ) -> None:
        self.pair, self.dtype = pair, dtype
        made = hollow if empty else cast
        if isinstance(module, nnx.Module):
            self.model: Any = NnxModel(module, dtype, pair.flax_call and given(pair.flax_call), made)
        elif isinstance(module, linen.Module):
            self.model = LinenModel(
                module, dtype, pair.flax_call, self.port_inputs(self.arrays(example)), seed, made
            )
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

    def batch(self, seed: int, step: int) -> tuple[dict[Any, Any], tuple[Any, ...]]:
        """Inputs, torch's, and targets of a step."""
        inputs, targets = self.pair.batch(seed, step)
        return self.arrays(inputs), tuple(map(self.array, targets))

    def port_inputs(self, inputs: Mapping[Any, Any]) -> dict[Any, Any]:
        """The port's inputs, from torch's."""
        if self.pair.flax_inputs is None:
            return dict(inputs)
        positional, keywords = split(inputs)
        made = self.pair.flax_inputs(*positional, **keywords)
        if isinstance(made, Mapping):
            return dict(made)
        return dict(enumerate(made if isinstance(made, tuple | list) else (made,)))

    def variables(self) -> dict[str, np.ndarray]:
        """All parameters and statistics, by dotted path."""
        return arrays(tree.flatten(self.model.params)) | self.statistics(self.model.stats)

    def statistics(self, stats: Any) -> dict[str, np.ndarray]:
        """Statistics by dotted path, on the host."""
        parts = self.model.collections(stats).values()
        return arrays({name: value for part in parts for name, value in tree.flatten(part).items()})

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Overwrites what is given, by dotted path."""
        model = self.model
        model.params = replaced(model.params, values)
        stats = {key: replaced(part, values) for key, part in model.collections(model.stats).items()}
        model.stats = model.joined(stats)

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

        ``watch`` stands in for every call of a layer, see `parity.flax_side.watching`.
        """
        with masks.in_jax(draws) as calls, exact_attention():
            made, stats = self.model.apply(params, stats, self.port_inputs(inputs), train, watch)
        return made, stats, calls

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
        found = named(self.pair.outputs[1](made) if self.pair.outputs else made)
        if len(found) != len(noted):
            raise PairError(
                f"torch returns {len(noted)} tensors ({', '.join(noted)}), the port {len(found)} arrays; "
                "give outputs=(of_torch, of_flax)"
            )
        if found.keys() == noted.keys():
            return {name: found[name] for name in noted}
        return dict(zip(noted, found.values(), strict=True))

    def objective(self, made: Any, targets: Sequence[Any], seed: int, noted: Mapping[str, Sequence[int]]) -> Any:
        """The loss, or without one the projection that torch's side takes too."""
        if self.pair.loss:
            picked = self.pair.outputs[1](made) if self.pair.outputs else made
            loss = jnp.asarray(self.pair.loss[1](picked, *targets))
            if loss.shape:
                raise PairError(f"the loss of the port has shape {loss.shape}; expected a scalar")
            return loss
        found = self.outputs(made, noted).values()
        floats = [value for value in found if jnp.issubdtype(value.dtype, jnp.floating)]
        return sum(
            jnp.sum(value * jnp.asarray(projection(seed, place, value.shape), value.dtype))
            for place, value in enumerate(floats)
        )

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


def replaced(part: Any, values: Mapping[str, np.ndarray]) -> Any:
    """A tree with what is given, by dotted path, in place of its own."""
    return tree.map_named(lambda name, old: jnp.asarray(values[name], old.dtype) if name in values else old, part)


def converted(values: Mapping[str, Any], side: FlaxSide) -> dict[str, np.ndarray]:
    """What a user's own conversion made, by dotted path; all differences to the port at once.

    Raises:
      PairError: something is missing, surplus or of another shape.
    """
    own = side.variables()
    wanted = {leaf.name: own[leaf.name] for leaf in side.leaves}  # without counters, which need not be converted
    flat = jax.tree_util.tree_flatten_with_path(values)[0]
    dotted = {".".join(str(getattr(entry, "key", entry)) for entry in path): value for path, value in flat}
    found = {name if name in own else _without_collection(name): np.asarray(v) for name, v in dotted.items()}
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


def _without_collection(name: str) -> str:
    collections = ("params.", "batch_stats.")
    return next((name.removeprefix(prefix) for prefix in collections if name.startswith(prefix)), name)
