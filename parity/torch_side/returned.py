"""What torch's model returns in training, cut off from it: what the loss makes of that is the loss's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from parity import masks
from parity.torch_side.side import TorchSide
from parity.torch_side.values import mapped, numpy, outputs


class Returned:
    """Of the first batch.

    Args:
      side: torch's.
      seed: of batch and masks.
    """

    def __init__(self, side: TorchSide, seed: int) -> None:
        self.side, self.seed = side, seed
        inputs, self.targets = side.batch(seed, 0)
        with masks.in_torch(seed, 0):
            made = side.run(side.fresh().train(), inputs)
        self.made = mapped(made, lambda x: x.detach().requires_grad_())
        self.tensors = [x for x in outputs(self.made).values() if x.is_floating_point()]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The floating-point tensors among it."""
        return tuple(map(numpy, self.tensors))

    def loss(self, other: Callable[..., Any] | None = None) -> tuple[np.ndarray, ...]:
        """The loss, or another ``(outputs, *targets) -> scalar``, and its gradients by `arrays`."""
        made = self.side.picked(self.made)
        loss = other(made, *self.targets) if other else self.side.objective(made, self.targets, self.seed)
        found = torch.autograd.grad(loss, self.tensors, allow_unused=True)
        pairs = zip(self.tensors, found, strict=True)
        return (numpy(loss), *(numpy(torch.zeros_like(x) if g is None else g) for x, g in pairs))
