"""A trained model in parts: each a function of its own, which takes what the part before it gives.

Source: torch's ``torch.distributed.pipelining``, torchvision's ``create_feature_extractor``.
"""

import dataclasses
from collections.abc import Sequence

import jax
from flax import nnx

from jaxdl import tree
from jaxdl.engine.stages import Stage, of_model
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
      cuts: the layers, or groups of them, that all parts but the first begin with; `Program.balanced` and
        `Program.around` choose them.

    Raises:
      ValueError: as `Program.cut`.
    """
    program, params, stats = of_model(model, image)
    named = list(tree.flatten(params).items())
    return [Part(stage, dict(named[place] for place in stage.params), stats) for stage in program.cut(cuts)]
