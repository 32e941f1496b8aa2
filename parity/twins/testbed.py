"""Three small correct pairs to plant faults into: a perceptron, a network with BatchNorm, a transformer block.

Each has another optimizer, schedule and way to train, so that together they have a place for every fault.
"""

import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.nn import losses
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.layout import flattened
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import BatchNorm
from jaxdl.nn.pooling import max_pool2d
from jaxdl.optim import optimizers
from jaxdl.optim.transforms import clip_by_norm
from parity.pair import Pair, channels_last
from parity.twins.images import images, labels


class TorchPerceptron(torch.nn.Module):
    """20-24-24-5 with ReLU and GELU, dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(20, 24)
        self.fc2 = torch.nn.Linear(24, 24)
        self.fc3 = torch.nn.Linear(24, 5)
        self.dropout = torch.nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(torch.relu(self.fc1(x)))
        return self.fc3(F.gelu(self.fc2(x)))


class Perceptron(nnx.Module):
    """The port."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.fc1 = Linear(20, 24, rngs=rngs)
        self.fc2 = Linear(24, 24, rngs=rngs)
        self.fc3 = Linear(24, 5, rngs=rngs)
        self.dropout = Dropout(0.3)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.dropout(jax.nn.relu(self.fc1(x)), rngs)
        return self.fc3(jax.nn.gelu(self.fc2(x), approximate=False))


class TorchConvNet(torch.nn.Module):
    """Two convolutions with BatchNorm, ReLU, dropout and max-pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.conv2 = torch.nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(8)
        self.dropout = torch.nn.Dropout(0.25)
        self.fc = torch.nn.Linear(8 * 3 * 3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        x = self.dropout(torch.relu(self.bn2(self.conv2(x))))
        return self.fc(torch.flatten(x, 1))


class ConvNet(nnx.Module):
    """The port."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = Conv2d(3, 8, 3, padding=1, rngs=rngs)
        self.bn1 = BatchNorm(8)
        self.conv2 = Conv2d(8, 8, 3, stride=2, padding=1, bias=False, rngs=rngs)
        self.bn2 = BatchNorm(8)
        self.dropout = Dropout(0.25)
        self.fc = Linear(8 * 3 * 3, 5, layout=flattened(3, 3, 8, 5), rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = max_pool2d(jax.nn.relu(self.bn1(self.conv1(x))), 2)
        x = self.dropout(jax.nn.relu(self.bn2(self.conv2(x))), rngs)
        return self.fc(x.reshape(len(x), -1))


WIDTH, HEADS = 16, 4


class TorchBlock(torch.nn.Module):
    """A causal transformer block with the norms in front, and a classifier on the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.out = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm2 = torch.nn.LayerNorm(WIDTH)
        self.fc1 = torch.nn.Linear(WIDTH, 32)
        self.fc2 = torch.nn.Linear(32, WIDTH)
        self.head = torch.nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm1(x)
        q, k, v = (layer(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))
        return self.head(x.mean(1))


class Block(nnx.Module):
    """The port, of Flax's own layers."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(WIDTH, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

        self.norm1, self.norm2 = norm(), norm()
        self.q, self.k, self.v, self.out = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(4))
        self.fc1 = nnx.Linear(WIDTH, 32, rngs=rngs)
        self.fc2 = nnx.Linear(32, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.norm1(x)
        q, k, v = (layer(h).reshape(*h.shape[:2], HEADS, -1) for layer in (self.q, self.k, self.v))
        x = x + self.out(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(h.shape))
        x = x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x))))
        return self.head(x.mean(1))


def perceptron() -> Pair:
    """AdamW with a step schedule."""
    return Pair(
        torch=TorchPerceptron,
        flax=lambda seed=0: Perceptron(rngs=nnx.Rngs(seed)),
        inputs=lambda rng: rng.normal(0.5, 1.0, (12, 20)),
        targets=labels(12, 5),
        loss=(F.cross_entropy, losses.cross_entropy),
        torch_optimizer=lambda m: torch.optim.AdamW(m.parameters(), 1e-3),
        torch_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
        tx=optimizers.adamw(lambda step: 1e-3 * 0.5 ** (step // 2)),
        name="perceptron",
    )


def convnet() -> Pair:
    """SGD with momentum, weight decay and an exponential schedule."""
    return Pair(
        torch=TorchConvNet,
        flax=lambda seed=0: ConvNet(rngs=nnx.Rngs(seed)),
        inputs=images(8, (3, 12, 12)),
        flax_inputs=channels_last,
        targets=labels(8, 5),
        loss=(F.cross_entropy, losses.cross_entropy),
        torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=5e-3),
        torch_scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8),
        tx=optimizers.sgd(lambda step: 0.05 * jnp.asarray(0.8) ** step, momentum=0.9, weight_decay=5e-3),
        name="convnet",
    )


def block() -> Pair:
    """Adam with clipped gradients."""
    return Pair(
        torch=TorchBlock,
        flax=lambda seed=0: Block(rngs=nnx.Rngs(seed)),
        inputs=lambda rng: rng.normal(0.3, 1.0, (4, 6, WIDTH)),
        targets=labels(4, 5),
        loss=(F.cross_entropy, losses.cross_entropy),
        torch_optimizer=lambda m: torch.optim.Adam(m.parameters(), 1e-3),
        clip=lambda m: torch.nn.utils.clip_grad_norm_(m.parameters(), 0.1),
        tx=optax.chain(clip_by_norm(0.1), optimizers.adam(1e-3)),
        name="block",
    )
