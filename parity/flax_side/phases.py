"""Every phase of the port, in order, under torch's names."""

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import tree
from parity.bridge import Bridge
from parity.flax_side.side import FlaxSide
from parity.flax_side.training import Training
from parity.flax_side.values import arrays
from parity.recording import TRAINING, Recording


def record(
    side: FlaxSide,
    bridge: Bridge,
    reference: Recording,
    *,
    seed: int = 0,
    steps: int = 5,
    start: Mapping[str, np.ndarray] | None = None,
    into: MutableMapping[str, np.ndarray] | None = None,
    portion: int | None = None,
) -> Recording:
    """What the port computes from torch's weights, batches and masks.

    Args:
      side: with its weights.
      bridge: carries names and layouts.
      reference: of torch.
      seed, steps: as there.
      start: torch's initial weights; with them the optimizer is also fed torch's gradients.
      into: takes the tensors as they come; a dict by default.
      portion: bytes of parameters whose gradients are in memory at once; None for all.
    """
    facts: dict[str, Any] = {
        "side": "flax",
        "versions": {"jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__},
        "dtype": jnp.dtype(side.dtype).name,
        "seed": seed,
        "steps": steps,
        "warnings": [],
        "skipped": {},
    }
    tensors: MutableMapping[str, np.ndarray] = {} if into is None else into
    step = _Step(side, bridge, reference.facts, seed)
    tensors.update(step.evaluation(facts))
    step.gradients(tensors, portion)
    facts["dropout"] = side.dropout
    tensors.update(step.buffers())
    if side.pair.tx is None or not steps:
        reason = "the pair has no tx" if side.pair.tx is None else "no updates were asked for"
        facts["skipped"] |= dict.fromkeys(TRAINING, reason)
    else:
        training = Training(side, bridge, reference, seed, steps)
        tensors.update(training.lockstep())
        if start is not None:
            tensors.update(training.fed(start))
    return Recording(tensors, facts)


@dataclasses.dataclass
class _Step:
    """The first batch: one evaluation, one forward and backward pass in training."""

    side: FlaxSide
    bridge: Bridge
    noted: Mapping[str, Any]
    seed: int
    stats: Any = None  # after the forward pass

    def evaluation(self, facts: dict[str, Any]) -> dict[str, np.ndarray]:
        """The outputs in evaluation; what dropout asks for there is noted."""
        side, model = self.side, self.side.model

        @jax.jit
        def evaluate(params: Any, stats: Any, inputs: Any) -> dict[str, Any]:
            made, _, calls = side.forward(params, stats, inputs, train=False)
            facts["evaluation_dropout"] = calls
            return side.outputs(made, self.noted["outputs"])

        made = evaluate(model.params, model.stats, side.batch(self.seed, 0)[0])
        return arrays({f"eval_forward/{name}": value for name, value in made.items()})

    def gradients(self, tensors: MutableMapping[str, np.ndarray], portion: int | None) -> None:
        """Outputs in training, loss, and the gradients by inputs and parameters, a portion after the other."""
        side, model = self.side, self.side.model
        inputs, targets = side.batch(self.seed, 0)
        draws = side.draws(self.seed, 0, model.params, model.stats, inputs, self.noted)
        differentiate = jax.jit(self._differentiate)
        flat, self.stats = tree.flatten(model.params), model.stats
        for place, names in enumerate(_portions(self.bridge, flat, portion)):
            chosen = {name: flat[name] for name in names}
            value, grads = differentiate(chosen, model.params, model.stats, inputs, targets, draws)
            loss, (made, self.stats) = value
            grads, input_grads = grads
            if place == 0:
                tensors.update(arrays({f"train_forward/{name}": value for name, value in made.items()}))
                if side.pair.loss:
                    tensors["loss/loss"] = arrays({"loss": loss})["loss"]
                tensors.update(arrays({f"input_gradients/{key}": value for key, value in input_grads.items()}))
            _deliver(self.bridge, grads, tensors)

    def _differentiate(self, chosen: Any, params: Any, stats: Any, inputs: Any, targets: Any, draws: Any) -> Any:
        """Loss, outputs, statistics; gradients by some parameters and by the floating-point inputs."""
        side, shapes = self.side, self.noted["outputs"]

        def loss(chosen: Mapping[str, Any], moving: Mapping[Any, Any]) -> Any:
            whole = tree.map_named(lambda name, old: chosen.get(name, old), params)
            made, after, _ = side.forward(whole, stats, {**inputs, **moving}, True, draws)
            return side.objective(made, targets, self.seed, shapes), (side.outputs(made, shapes), after)

        moving = {key: value for key, value in inputs.items() if jnp.issubdtype(value.dtype, jnp.floating)}
        return jax.value_and_grad(loss, (0, 1), has_aux=True)(chosen, moving)

    def buffers(self) -> dict[str, np.ndarray]:
        """What the forward pass in training changed of the statistics."""
        before, after = (
            self.bridge.to_torch(self.side.statistics(stats)) for stats in (self.side.model.stats, self.stats)
        )
        return {f"buffers/{name}": after[name] - before[name] for name in after}


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
        found = bridge.to_torch(arrays({name: grads.pop(name) for name in names}))
        tensors.update({f"parameter_gradients/{name}": value for name, value in found.items()})
