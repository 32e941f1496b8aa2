"""The document's network in torch's own words, and its pairs."""

import optax
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.models import Net
from jaxdl.nn import losses
from jaxdl.optim import optimizers
from parity.pair import Pair, channels_last
from parity.twins.images import images, labels


class TorchNet(torch.nn.Module):
    """784-128-10 with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(784, 128)
        self.fc2 = torch.nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def pair(**training) -> Pair:
    """The network with cross-entropy, and an optimizer."""
    return Pair(
        torch=TorchNet,
        flax=lambda seed=0: Net(rngs=nnx.Rngs(seed)),
        inputs=images(),
        flax_inputs=channels_last,
        targets=labels(),
        loss=(F.cross_entropy, losses.cross_entropy),
        **training,
    )


def sgd() -> Pair:
    """As in the document."""
    return pair(torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.01), tx=optimizers.sgd(0.01))


def adam() -> Pair:
    """Adam with torch's defaults."""
    return pair(torch_optimizer=lambda m: torch.optim.Adam(m.parameters(), 0.001), tx=optimizers.adam(0.001))


def rmsprop() -> Pair:
    """RMSprop with torch's defaults."""
    return pair(torch_optimizer=lambda m: torch.optim.RMSprop(m.parameters(), 0.01), tx=optimizers.rmsprop(0.01))


def accumulating() -> Pair:
    """As the document's loop really runs: nobody calls zero_grad, so every gradient adds to those before."""
    return pair(
        torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.01),
        zero_grad=False,
        tx=optax.chain(optax.trace(decay=1.0), optimizers.sgd(0.01)),
    )
