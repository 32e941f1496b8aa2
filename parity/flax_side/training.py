"""The port's training loop: several updates, resumed in the middle; and its optimizer fed torch's gradients."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import tree
from parity.bridge import Bridge
from parity.flax_side.side import FlaxSide, replaced
from parity.flax_side.slots import slots
from parity.flax_side.values import arrays
from parity.recording import Recording


class Training:
    """Training from the weights that the side holds.

    Args:
      side, bridge, reference, seed, steps: as in `parity.flax_side.phases.record`.
    """

    def __init__(self, side: FlaxSide, bridge: Bridge, reference: Recording, seed: int, steps: int) -> None:
        self.side, self.bridge, self.reference = side, bridge, reference
        self.seed, self.steps = seed, steps
        self.update, self.apply = jax.jit(self._update), jax.jit(self._apply)

    def _init(self, params: Any) -> Any:
        """The optimizer's state, its int32 counters in int64 where it stands that.

        JAX divides int32 in float32, so that a schedule would have no more digits.
        """
        state = self.side.pair.tx.init(params)
        for place, leaf in enumerate(jax.tree.leaves(state)):
            if self.side.dtype == jnp.float64 and jnp.result_type(leaf) == jnp.int32:
                wide = _with_leaf(state, place, jnp.asarray(leaf, jnp.int64))
                state = wide if self._keeps(params, wide) else state
        return state

    def _keeps(self, params: Any, state: Any) -> bool:
        """Whether an update leaves a state of the same types."""
        try:
            after = jax.eval_shape(self._apply, params, state, params)[1]
        except (TypeError, ValueError):
            return False
        kinds = [[jnp.result_type(leaf) for leaf in jax.tree.leaves(each)] for each in (state, after)]
        return kinds[0] == kinds[1]

    def _apply(self, params: Any, opt_state: Any, grads: Any) -> Any:
        updates, opt_state = self.side.pair.tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def _update(self, params: Any, stats: Any, opt_state: Any, inputs: Any, targets: Any, draws: Any) -> Any:
        side, shapes = self.side, self.reference.facts["outputs"]

        def loss(params: Any) -> Any:
            made, after, _ = side.forward(params, stats, inputs, True, draws)
            return side.objective(made, targets, self.seed, shapes), after

        (value, after), grads = jax.value_and_grad(loss, has_aux=True)(params)
        params, opt_state = self._apply(params, opt_state, grads)
        return (params, after, opt_state), value

    def _one(self, state: Any, step: int) -> Any:
        inputs, targets = self.side.batch(self.seed, step)
        draws = self.side.draws(self.seed, step, state[0], state[1], inputs, self.reference.facts)
        return self.update(*state, inputs, targets, draws)

    def _changed(self, after: Any, before: Any) -> dict[str, np.ndarray]:
        """The difference of two sets of parameters, under torch's names."""
        return self.bridge.to_torch(arrays(tree.flatten(jax.tree.map(jnp.subtract, after, before))))

    def lockstep(self) -> dict[str, np.ndarray]:
        """The updates, the optimizer's state after the first, and what a run resumed in the middle makes."""
        start = self.side.model.params
        state: Any = (start, self.side.model.stats, self._init(start))
        tensors, losses, saved = {}, [], state
        for step in range(self.steps):
            if step == self.steps // 2:
                saved = jax.tree.map(np.asarray, state)  # through the host, as a checkpoint goes
            state, value = self._one(state, step)
            losses.append(float(value))
            now = self._changed(state[0], start)
            tensors |= {f"updates/{step + 1}/{name}": delta for name, delta in now.items()}
            if step == 0:
                tensors |= {f"first_update/{name}": delta for name, delta in now.items()}
                tensors |= self._kept(state[2])
        tensors["updates/loss"] = np.asarray(losses)
        state = jax.tree.map(jnp.asarray, saved)
        for step in range(self.steps // 2, self.steps):
            state, _ = self._one(state, step)
        return tensors | {f"resume/{name}": delta for name, delta in self._changed(state[0], start).items()}

    def _kept(self, opt_state: Any) -> dict[str, np.ndarray]:
        """What the optimizer keeps for every parameter."""
        return {
            f"optimizer_state/{name}.{slot}": value
            for slot, values in slots(opt_state, self.side.model.params).items()
            for name, value in self.bridge.to_torch(arrays(values)).items()
        }

    def fed(self, start: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the optimizer alone makes of torch's gradients, every update from where torch's parameters are.

        Faults of the model and of the loss do not reach it: what differs here is the optimizer's own.

        Args:
          start: torch's initial weights.
        """
        found, opt_state = {}, None
        for step in range(1, self.steps + 1):
            params = self._parameters(start, step - 1)
            opt_state = self._init(params) if opt_state is None else opt_state
            after, opt_state = self.apply(params, opt_state, self._gradients(step))
            changed = self._changed(after, params)
            found |= {f"optimizer/{step}/{name}": delta for name, delta in changed.items()}
        return found

    def _parameters(self, start: Mapping[str, np.ndarray], step: int) -> Any:
        """torch's after so many updates, in the port's tree."""
        moved = self._torchs(f"updates/{step}")
        now = {name: value + moved[name] if name in moved else value for name, value in start.items()}
        return replaced(self.side.model.params, self.bridge.to_flax(now))

    def _gradients(self, step: int) -> Any:
        """torch's in a step, in the port's tree; zeros for what torch does not have."""
        given = self.bridge.merged(self._torchs(f"gradients/{step}"), "gradient")
        zeros = jax.tree.map(jnp.zeros_like, self.side.model.params)
        return replaced(zeros, self.bridge.to_flax(given))

    def _torchs(self, prefix: str) -> dict[str, np.ndarray]:
        found = self.reference.phase(prefix)
        return {name: self.reference.tensors[key] for name, key in found.items()}


def _with_leaf(tree: Any, place: int, leaf: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [*leaves[:place], leaf, *leaves[place + 1 :]])
