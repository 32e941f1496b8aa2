"""A trained model in parts: each a function of its own, which takes what the part before it gives.

Source: torch's ``torch.distributed.pipelining``, torchvision's ``create_feature_extractor``.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl import tree
from jaxdl.engine.stages import Program, Stage
from jaxdl.typing import Array, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Consecutive layers of a model, with their weights.

    Attributes:
      stage: their program.
      weights: by name, as in torch's state_dict.
      stats: of the whole model.
    """

    stage: Stage
    weights: dict[str, Array]
    stats: PyTree

    @property
    def takes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and types of its arguments: several where a shortcut passes the cut."""
        return self.stage.carried

    def __call__(self, *given: Array) -> list[Array]:
        """What the next part takes; of the last one, the logits alone."""
        onward, outputs = self.stage.run(list(self.weights.values()), jax.tree.leaves(self.stats), given)
        return onward or outputs


def split(model: nnx.Module, image: jax.ShapeDtypeStruct, cuts: Sequence[str]) -> list[Part]:
    """The parts of a model in evaluation mode.

    Args:
      model: with its weights.
      image: shape and type of what it takes, (B, H, W, C); B is a number or a symbol of `jax.export`.
      cuts: the layers, or groups of them, that all parts but the first begin with; see `balanced` and `around`.

    Raises:
      ValueError: as `Program.cut`.
    """
    program, params, stats = _traced(model, image)
    named = list(tree.flatten(params).items())
    return [Part(stage, dict(named[place] for place in stage.params), stats) for stage in program.cut(cuts)]


def balanced(model: nnx.Module, image_shape: Sequence[int], count: int) -> list[str]:
    """Where to cut a model for images (H, W, C) into parts of about the same work.

    Raises:
      ValueError: as `Program.balanced`.
    """
    return _traced(model, _one(image_shape))[0].balanced_cuts(count)


def layers(model: nnx.Module, image_shape: Sequence[int]) -> tuple[str, ...]:
    """The layers of a model for images (H, W, C), in the order in which the images meet them."""
    return _traced(model, _one(image_shape))[0].layers


def around(model: nnx.Module, image_shape: Sequence[int], first: str, last: str) -> tuple[list[str], int]:
    """Where to cut so that one part is the layers from ``first`` to ``last``, and which of the parts that is.

    Raises:
      ValueError: unknown layers, or the last lies in front of the first.
    """
    program = _traced(model, _one(image_shape))[0]
    begin, behind = program.place(first), program.behind(last)
    if behind is not None and program.place(behind) <= begin:
        raise ValueError(f"layer {last} lies in front of {first}; the order is {', '.join(program.layers)}")
    before = [first] if begin > program.place(program.layers[0]) else []
    return [*before, *([behind] if behind else [])], len(before)


def _one(image_shape: Sequence[int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)


def _traced(model: nnx.Module, image: jax.ShapeDtypeStruct) -> tuple[Program, PyTree, PyTree]:
    """The program of a model, its parameters and its statistics."""
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    graph, *values = nnx.split(view, nnx.Param, nnx.BatchStat)
    params, stats = (nnx.to_pure_dict(value) for value in values)

    def forward(params: PyTree, image: Array, stats: PyTree) -> Any:
        return nnx.merge(graph, params, stats)(image)  # pyright: ignore[reportCallIssue]

    return Program(forward, params, image, stats), params, stats
