"""What a model says and what is inside it: outputs of named layers, and a model that has been run."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl.config import nearest
from jaxdl.typing import Array


def with_outputs(
    model: nnx.Module, layers: Sequence[str], image: Array, rngs: nnx.Rngs | None = None
) -> tuple[Array, list[Array]]:
    """``model(image, rngs)``, run once, and what each of the layers gave.

    Args:
      model: any, merged where it is traced; it is as it was afterwards, but for running statistics.
      layers: dotted names as in the state_dict: ``"fc1"``, ``"layer3.1"``. Of a layer that is called several times
        the last output counts.
      image, rngs: what the model takes.

    Raises:
      ValueError: a layer that the model lacks or does not call, with those it calls.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_forward_hook
    """
    output, captured = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(image, rngs)
    outputs = {
        ".".join(map(str, path[:-1])): variable.get_value()[-1]
        for path, variable in nnx.to_flat_state(captured)
        if path[-1] == "__call__" and len(path) > 1
    }
    for name in layers:
        if name not in outputs:
            raise ValueError(
                f"the model has no layer {name}{nearest(name, outputs)}; it has {', '.join(sorted(outputs))}"
            )
    return output, [outputs[name] for name in layers]


def output_shape(model: nnx.Module, layer: str, image_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of what a layer gives for an image (H, W, C), without the axis of images.

    Raises:
      ValueError: as `with_outputs`.
    """
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    parts, image = nnx.split(view), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    outputs = jax.eval_shape(lambda image: with_outputs(nnx.merge(*parts), [layer], image)[1], image)
    return outputs[0].shape[1:]


class Answered(nnx.Module):
    """A model that has been run: a loss gets its parameters and its answer, without a second run.

    A second would draw other dropout masks and move running statistics twice.

    Args:
      model: whose parameters a penalty is for.
      answer: what it is to say, whatever it is asked.
    """

    def __init__(self, model: nnx.Module, answer: Array) -> None:
        self.model, self.answer = model, answer

    def __call__(self, *_: Any) -> Array:
        return self.answer
