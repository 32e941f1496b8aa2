"""The port in pieces: each layer is fed what torch's was fed and hands on what torch's gave ("teacher forcing").

A fault in one then shows in no other, forward and backward.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import tree
from parity.flax_side import FlaxSide, arrays
from parity.trace import arrays_of, batch_of, counted, leaves, replaced

Arrays = tuple[np.ndarray, ...]


def forced(
    side: FlaxSide,
    noted: Mapping[str, Any],
    given: Mapping[str, tuple[Arrays | None, Arrays]],
    *,
    seed: int = 0,
    train: bool,
) -> tuple[dict[str, tuple[Arrays, Arrays]], dict[str, np.ndarray]]:
    """What layers of the port make of torch's inputs.

    Args:
      side, noted, seed, train: as in `parity.trace.flax_calls`.
      given: call -> its inputs (None: those that it gets), and what it is said to return; with the port's axes.

    Returns:
      call -> the inputs it would have got, and what it really made of those it was given. As all calls before it
      have returned torch's values, a difference in either is a fault of its own. And the statistics afterwards.
    """
    inputs, _, draws = batch_of(side, noted, seed, train)

    def run(given: Any, params: Any, stats: Any, inputs: Any, draws: Any) -> Any:
        records: dict[str, Any] = {}

        def watch(name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            if name not in given:
                return call(*args, **kwargs)
            wanted, returned = given[name]
            received = leaves((args, kwargs))
            args, kwargs = (args, kwargs) if wanted is None else replaced((args, kwargs), wanted)
            made = call(*args, **kwargs)
            records[name] = received, leaves(made)
            return replaced(made, returned)

        _, after, _ = side.forward(params, stats, inputs, train, draws, counted(watch))
        return records, after

    records, after = jax.jit(run)(dict(given), side.model.params, side.model.stats, inputs, draws)
    found = {name: (arrays_of(before), arrays_of(made)) for name, (before, made) in records.items()}
    return found, side.statistics(after)


@dataclasses.dataclass(frozen=True)
class Handed:
    """What an innermost layer is handed of torch's, with the port's axes.

    Attributes:
      inputs, by_inputs: what it is fed, and the gradients of the loss by that.
      outputs, by_outputs: what it is said to return, and the gradients by that.
    """

    inputs: Arrays
    by_inputs: Arrays
    outputs: Arrays
    by_outputs: Arrays


def forced_gradients(
    side: FlaxSide, noted: Mapping[str, Any], handed: Mapping[str, Handed], root: Arrays, *, seed: int = 0
) -> tuple[dict[str, tuple[Arrays, Arrays]], dict[str, np.ndarray]]:
    """What layers of the port pass on of torch's gradients, in training.

    Args:
      side, noted, seed: as in `forced`.
      handed: by call.
      root: torch's gradients of the loss by what the model returns; empty where that does not correspond.

    Returns:
      call -> the gradients that it passes to its inputs, given torch's by its outputs, and those that arrive at
      its outputs, given torch's by the inputs of the layers behind it; and the gradients by parameters.
    """

    def run(taps: Any, params: Any, stats: Any, inputs: Any, draws: Any) -> Any:
        terms: list[Any] = []

        def watch(name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            given = handed.get(name)
            if given is None:
                return call(*args, **kwargs)
            # The gradient by a zero that is added to a value is the gradient by the value.
            terms.extend(map(_product, leaves((args, kwargs)), given.by_inputs))
            args, kwargs = replaced((args, kwargs), map(jnp.add, given.inputs, taps[name][0]))
            made = call(*args, **kwargs)
            terms.extend(map(_product, leaves(made), given.by_outputs))
            return replaced(made, map(jnp.add, given.outputs, taps[name][1]))

        made, _, _ = side.forward(params, stats, inputs, True, draws, counted(watch))
        terms.extend(map(_product, leaves(made), root))
        return sum(terms, jnp.zeros(()))

    inputs, _, draws = batch_of(side, noted, seed, train=True)
    taps = {name: jax.tree.map(np.zeros_like, (given.inputs, given.outputs)) for name, given in handed.items()}
    model = side.model
    calls, own = jax.jit(jax.grad(run, (0, 1)))(taps, model.params, model.stats, inputs, draws)
    found = {name: (arrays_of(ins), arrays_of(outs)) for name, (ins, outs) in calls.items()}
    return found, arrays(tree.flatten(own))


def passed_gradients(
    side: FlaxSide, noted: Mapping[str, Any], handed: Mapping[str, Handed], root: Arrays, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """The gradients by parameters when every layer hands on torch's values, but the port's own gradients.

    Args:
      side, noted, handed, root, seed: as in `forced_gradients`.
    """

    def run(params: Any, stats: Any, inputs: Any, draws: Any) -> Any:
        def watch(name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            made = call(*args, **kwargs)
            if name not in handed:
                return made
            pairs = zip(leaves(made), handed[name].outputs, strict=True)
            moved = [x + jax.lax.stop_gradient(wanted - x) for x, wanted in pairs]
            return replaced(made, moved)

        made, _, _ = side.forward(params, stats, inputs, True, draws, counted(watch))
        return sum(map(_product, leaves(made), root), jnp.zeros(()))

    inputs, _, draws = batch_of(side, noted, seed, train=True)
    own = jax.jit(jax.grad(run))(side.model.params, side.model.stats, inputs, draws)
    return arrays(tree.flatten(own))


def _product(made: Any, gradient: Any) -> Any:
    return jnp.sum(made * gradient)


def forced_loss(
    side: FlaxSide, noted: Mapping[str, Any], returned: Sequence[np.ndarray], *, seed: int = 0
) -> Arrays:
    """The port's loss of what torch's model returns in training, and its gradients by that.

    Args:
      side, noted, seed: as in `forced`.
      returned: by torch's model, with the port's axes.
    """

    def run(returned: Any, params: Any, stats: Any, inputs: Any, targets: Any, draws: Any) -> Any:
        made, _, _ = side.forward(params, stats, inputs, True, draws)
        return side.objective(replaced(made, returned), targets, seed, noted["outputs"])

    arguments = (tuple(returned), side.model.params, side.model.stats, *batch_of(side, noted, seed, train=True))
    value, gradients = jax.jit(jax.value_and_grad(run))(*arguments)
    return (*arrays_of([value]), *arrays_of(gradients))


def returned(side: FlaxSide, noted: Mapping[str, Any], *, seed: int = 0) -> Arrays:
    """The floating-point arrays that the port's model returns in training."""

    def run(params: Any, stats: Any, inputs: Any, draws: Any) -> Any:
        return leaves(side.forward(params, stats, inputs, True, draws)[0])

    inputs, _, draws = batch_of(side, noted, seed, train=True)
    return arrays_of(jax.jit(run)(side.model.params, side.model.stats, inputs, draws))
