"""Residual networks as torchvision writes them, and their pairs.

Source: https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py
"""

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl import models
from jaxdl.nn import losses
from jaxdl.optim import optimizers
from parity.pair import Pair, channels_last
from parity.twins.images import images, labels


def conv3x3(in_planes: int, out_planes: int, stride: int = 1) -> torch.nn.Conv2d:
    """3x3 with padding, without bias."""
    return torch.nn.Conv2d(in_planes, out_planes, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> torch.nn.Conv2d:
    """1x1, without bias."""
    return torch.nn.Conv2d(in_planes, out_planes, 1, stride=stride, bias=False)


class TorchBasicBlock(torch.nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int, downsample: torch.nn.Module | None) -> None:
        super().__init__()
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = torch.nn.BatchNorm2d(planes)
        self.relu = torch.nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = torch.nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class TorchBottleneck(torch.nn.Module):
    """A 3x3 convolution between two of 1x1, beside a shortcut."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int, downsample: torch.nn.Module | None) -> None:
        super().__init__()
        self.conv1 = conv1x1(inplanes, planes)
        self.bn1 = torch.nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, stride)
        self.bn2 = torch.nn.BatchNorm2d(planes)
        self.conv3 = conv1x1(planes, planes * self.expansion)
        self.bn3 = torch.nn.BatchNorm2d(planes * self.expansion)
        self.relu = torch.nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


class TorchResNet(torch.nn.Module):
    """torchvision's, with the beginning for small images as an option.

    Args:
      block, layers: as in torchvision.
      num_classes: the number of classes.
      stem: "imagenet", as in torchvision, or "cifar".
      width: channels of the first stage.
      channels: of the images.
    """

    def __init__(
        self,
        block: type[TorchBasicBlock] | type[TorchBottleneck],
        layers: Sequence[int],
        num_classes: int = 10,
        stem: str = "imagenet",
        width: int = 64,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.inplanes = width
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = torch.nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.relu = torch.nn.ReLU(inplace=True)
        self.maxpool = torch.nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else torch.nn.Identity()
        self.layer1 = self._make_layer(block, width, layers[0])
        self.layer2 = self._make_layer(block, 2 * width, layers[1], stride=2)
        self.layer3 = self._make_layer(block, 4 * width, layers[2], stride=2)
        self.layer4 = self._make_layer(block, 8 * width, layers[3], stride=2)
        self.avgpool = torch.nn.AdaptiveAvgPool2d((1, 1))
        self.fc = torch.nn.Linear(8 * width * block.expansion, num_classes)
        for m in self.modules():
            if isinstance(m, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def _make_layer(
        self, block: type[TorchBasicBlock] | type[TorchBottleneck], planes: int, blocks: int, stride: int = 1
    ) -> torch.nn.Sequential:
        downsample, out = None, planes * block.expansion
        if stride != 1 or self.inplanes != out:
            downsample = torch.nn.Sequential(conv1x1(self.inplanes, out, stride), torch.nn.BatchNorm2d(out))
        layers = [block(self.inplanes, planes, stride, downsample)]
        self.inplanes = out
        layers += [block(out, planes, 1, None) for _ in range(1, blocks)]
        return torch.nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


torch_resnet18 = functools.partial(TorchResNet, TorchBasicBlock, (2, 2, 2, 2))


def pair(
    original: Callable[..., TorchResNet], port: Callable[..., models.ResNet], size: int = 32, **options
) -> Pair:
    """The network with cross-entropy, on images of ``size`` pixels; SGD with momentum and weight decay."""
    return Pair(
        torch=lambda: original(**options),
        flax=lambda seed=0: port(rngs=nnx.Rngs(seed), **options),
        inputs=images(shape=(3, size, size)),
        flax_inputs=channels_last,
        targets=labels(),
        loss=(F.cross_entropy, losses.cross_entropy),
        torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=5e-4),
        tx=optimizers.sgd(0.05, momentum=0.9, weight_decay=5e-4),
    )


def resnet18() -> Pair:
    """ResNet-18 with 8 channels in its first stage instead of 64."""
    return pair(torch_resnet18, models.resnet18, width=8)


def resnet18_cifar() -> Pair:
    """The same with the beginning for small images."""
    return pair(torch_resnet18, models.resnet18, size=16, width=8, stem="cifar")


def resnet18_full() -> Pair:
    """ResNet-18 in full."""
    return pair(torch_resnet18, models.resnet18)
