"""What is inside a model while it runs: the outputs of named layers, as torch's forward hooks give them."""

from collections.abc import Sequence

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
