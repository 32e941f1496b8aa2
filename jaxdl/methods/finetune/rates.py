"""How fast each layer of a pre-trained model learns, and from when on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl import tree
from jaxdl.engine.stages import of_model
from jaxdl.optim.optimizers import RateState
from jaxdl.typing import Array, PyTree


def layers(model: nnx.Module, image: Array | jax.ShapeDtypeStruct) -> list[list[str]]:
    """The parameters' names layer by layer, in the order in which the forward pass uses them.

    A layer is what a name says before its last part, but no finer than the first part that ends in a digit:
    ``conv1.weight`` is of ``conv1``, ``layer1.0.conv2.weight`` of ``layer1``.

    Args:
      model: takes ``image`` in evaluation mode.
      image: (B, H, W, C); only shape and type matter, of the parameters as well.
    """
    program, _, _ = of_model(model, image)
    grouped: dict[str, list[str]] = {}
    for name in program.met:
        grouped.setdefault(layer_of(name), []).append(name)
    return list(grouped.values())


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to, see `layers`."""
    parts = name.split(".")[:-1] or [name]
    ends = [place for place, part in enumerate(parts, 1) if part[-1].isdigit()]
    return ".".join(parts[: ends[0]] if ends else parts)


def decayed_rates(order: Sequence[Sequence[str]], decay: float) -> dict[str, float]:
    """Factors of the learning rate: 1 for the last layer, ``decay`` times that of the next above for each other.

    Source: Howard and Ruder 2018 (ULMFiT's discriminative fine-tuning), Bao et al. 2021 (BEiT's layer decay).

    Raises:
      ValueError: a decay that is not above 0 and at most 1.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"--layer-decay expects a factor above 0 and at most 1; got {decay}")
    return {name: decay**above for above, layer in enumerate(reversed(order)) for name in layer}


def scale_rates(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies the update of each parameter; goes behind an optimizer, all of which apply their rate last.

    So a factor is one of the rate: torch's parameter groups ``{"params": ..., "lr": factor * lr}``.
    """

    def update(updates: PyTree, params: PyTree = None) -> PyTree:
        del params
        return tree.map_named(lambda name, u: u * jnp.asarray(factors.get(name, 1.0), u.dtype), updates)

    return optax.stateless(update)


class UnfreezeState(NamedTuple):
    """The number of steps taken, int32, and the state of the optimizer within."""

    step: Array
    inner: PyTree


def unfreeze_gradually(
    tx: optax.GradientTransformation, stages: Mapping[str, int], every: int
) -> optax.GradientTransformation:
    """Trains the parameters of stage 0, after ``every`` steps those of stage 1 as well, and so on.

    With each stage the optimizer starts anew, as a torch optimizer that is made for the parameters that now train;
    the learning rate's schedule goes on. What waits stays bit for bit and counts for no clipping.

    Args:
      tx: the optimizer, with its clipping.
      stages: parameter -> its stage; one that is not named trains from the start.
      every: steps in a stage.

    Source: Howard and Ruder 2018 (ULMFiT).
    """
    last = max(stages.values(), default=0)

    def init(params: PyTree) -> UnfreezeState:
        return UnfreezeState(jnp.zeros((), jnp.int32), tx.init(params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, UnfreezeState]:
        stage = state.step // every

        def waiting(leaf: Array, name: str, value: float) -> Array:
            return jnp.where(stages.get(name, 0) <= stage, leaf, jnp.full_like(leaf, value))

        begins = (state.step % every == 0) & (stage <= last)
        inner = jax.tree.map(
            lambda old, new: old if isinstance(old, RateState) else jnp.where(begins, new, old),
            state.inner,
            tx.init(params),
            is_leaf=lambda node: isinstance(node, RateState),
        )
        gradients = tree.map_named(lambda name, g: waiting(g, name, 0.0), updates)
        steps, inner = tx.update(gradients, inner, params)
        # x + -0.0 is x for every x; x + 0.0 turns -0.0 into 0.0.
        steps = tree.map_named(lambda name, u: waiting(u, name, -0.0), steps)
        return steps, UnfreezeState(state.step + 1, inner)

    return optax.GradientTransformation(init, update)
