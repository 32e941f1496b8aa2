"""DCGAN for 28x28 images in torch's own words, and one step of both networks."""

import torch
from torch import nn
from torch.nn import functional as F


class Generator(nn.Module):
    """Noise (B, latent, 1, 1) -> images in [-1, 1]."""

    def __init__(self, side: int = 7, channels: int = 1, latent: int = 64, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(latent, 2 * width, side, bias=False)
        self.bn1 = nn.BatchNorm2d(2 * width)
        self.conv2 = nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(noise)))
        return torch.tanh(self.conv3(F.relu(self.bn2(self.conv2(x)))))


class Discriminator(nn.Module):
    """Images in [-1, 1] -> logits (B,)."""

    def __init__(self, side: int = 7, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 1, side, bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.conv1(image), 0.2)
        return self.conv3(F.leaky_relu(self.bn2(self.conv2(x)), 0.2)).flatten()


def step(
    generator: Generator,
    discriminator: Discriminator,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    real: torch.Tensor,
    noise: torch.Tensor,
) -> tuple[float, float]:
    """As in the tutorial; returns the losses of generator and discriminator."""
    make, tell = optimizers
    ones, zeros = torch.ones(len(real), dtype=real.dtype), torch.zeros(len(real), dtype=real.dtype)
    discriminator.zero_grad()
    on_real = F.binary_cross_entropy_with_logits(discriminator(real), ones)
    on_real.backward()
    fake = generator(noise)
    on_fake = F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
    on_fake.backward()
    tell.step()
    generator.zero_grad()
    fooling = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
    fooling.backward()
    make.step()
    return fooling.item(), (on_real + on_fake).item()
