"""The small convolutional network in torch's own words, and its pairs."""

import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.models import CNN
from jaxdl.nn import losses
from jaxdl.optim import optimizers
from parity.pair import Pair, channels_last
from parity.twins.images import images, labels


class TorchCNN(torch.nn.Module):
    """Two 3x3 convolutions with ReLU and max-pooling, two linear layers, dropout in front of each."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.dropout = torch.nn.Dropout(dropout)
        self.fc1 = torch.nn.Linear(64 * 7 * 7, 128)
        self.fc2 = torch.nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = self.dropout(torch.flatten(x, 1))
        return self.fc2(self.dropout(torch.relu(self.fc1(x))))


def pair(**training) -> Pair:
    """The network with dropout and cross-entropy, and an optimizer."""
    return Pair(
        torch=lambda: TorchCNN(dropout=0.25),
        flax=lambda seed=0: CNN(dropout=0.25, rngs=nnx.Rngs(seed)),
        inputs=images(),
        flax_inputs=channels_last,
        targets=labels(),
        loss=(F.cross_entropy, losses.cross_entropy),
        **training,
    )


def sgd() -> Pair:
    """SGD with momentum."""
    return pair(
        torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9),
        tx=optimizers.sgd(0.05, momentum=0.9),
    )


def adam() -> Pair:
    """Adam with torch's defaults."""
    return pair(torch_optimizer=lambda m: torch.optim.Adam(m.parameters(), 0.001), tx=optimizers.adam(0.001))


def rmsprop() -> Pair:
    """RMSprop with torch's defaults."""
    return pair(torch_optimizer=lambda m: torch.optim.RMSprop(m.parameters(), 0.01), tx=optimizers.rmsprop(0.01))
