"""Residual networks, named and initialised as torchvision's."""

import functools
from typing import Literal

import jax
from flax import nnx

from jaxdl.nn.conv import Conv2d
from jaxdl.nn.init import kaiming_normal
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import BatchNorm
from jaxdl.nn.pooling import adaptive_avg_pool2d, max_pool2d
from jaxdl.typing import Array


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut: (B, H, W, Cin) -> (B, H / stride, W / stride, channels)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.conv1 = _conv(in_channels, channels, 3, stride, rngs=rngs)
        self.bn1 = BatchNorm(channels)
        self.conv2 = _conv(channels, channels, 3, rngs=rngs)
        self.bn2 = BatchNorm(channels)
        self.downsample = _downsample(in_channels, channels, stride, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return jax.nn.relu(y + _applied(self.downsample, x))


class Bottleneck(nnx.Module):
    """A 3x3 convolution between two of 1x1, beside a shortcut: (B, H, W, Cin) -> (..., 4 * channels).

    The stride is in the 3x3 convolution, as in torchvision; the paper has it in the first.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.conv1 = _conv(in_channels, channels, 1, rngs=rngs)
        self.bn1 = BatchNorm(channels)
        self.conv2 = _conv(channels, channels, 3, stride, rngs=rngs)
        self.bn2 = BatchNorm(channels)
        self.conv3 = _conv(channels, 4 * channels, 1, rngs=rngs)
        self.bn3 = BatchNorm(4 * channels)
        self.downsample = _downsample(in_channels, 4 * channels, stride, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return jax.nn.relu(y + _applied(self.downsample, x))


class ResNet(nnx.Module):
    """Convolution, four stages of residual blocks, average, Linear: images (B, H, W, C) -> logits (B, classes).

    Args:
      image_shape: (H, W, C); only C matters, images of any size are taken.
      classes: the number of classes.
      block: `BasicBlock` or `Bottleneck`.
      layers: the number of blocks in each stage.
      stem: "imagenet": a 7x7 convolution of stride 2 and max-pooling, as torchvision's; an image of 32x32 is 1x1
        in the last stage. "cifar": one 3x3 convolution, so that it is 4x4 there, for some 15 times the work.
      width: channels of the first stage; every other has twice those of the one before it.
      rngs: draws the weights from its ``params`` stream.

    Source: He et al. 2015, https://docs.pytorch.org/vision/stable/models/resnet.html
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        classes: int = 10,
        *,
        block: type[BasicBlock] | type[Bottleneck],
        layers: tuple[int, int, int, int],
        stem: Literal["imagenet", "cifar"] = "imagenet",
        width: int = 64,
        rngs: nnx.Rngs,
    ) -> None:
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1)}[stem]
        out = block.expansion * width
        self.conv1 = _conv(image_shape[2], width, kernel, stride, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.layer1 = _stage(block, width, width, layers[0], 1, rngs=rngs)
        self.layer2 = _stage(block, out, 2 * width, layers[1], 2, rngs=rngs)
        self.layer3 = _stage(block, 2 * out, 4 * width, layers[2], 2, rngs=rngs)
        self.layer4 = _stage(block, 4 * out, 8 * width, layers[3], 2, rngs=rngs)
        self.fc = Linear(8 * out, classes, rngs=rngs)
        self.stem = stem

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        del rngs  # nothing here is random
        x = jax.nn.relu(self.bn1(self.conv1(x)))  # (B, 16, 16, 64) of images of 32x32, "imagenet"
        if self.stem == "imagenet":
            x = max_pool2d(x, 3, stride=2, padding=1)  # (B, 8, 8, 64)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = _applied(stage, x)  # (B, 8, 8, 64), (B, 4, 4, 128), (B, 2, 2, 256), (B, 1, 1, 512)
        x = adaptive_avg_pool2d(x, 1).reshape(x.shape[0], -1)  # (B, 512)
        return self.fc(x)  # (B, classes)


resnet18 = functools.partial(ResNet, block=BasicBlock, layers=(2, 2, 2, 2))
resnet34 = functools.partial(ResNet, block=BasicBlock, layers=(3, 4, 6, 3))
resnet50 = functools.partial(ResNet, block=Bottleneck, layers=(3, 4, 6, 3))


def _conv(in_channels: int, channels: int, kernel_size: int, stride: int = 1, *, rngs: nnx.Rngs) -> Conv2d:
    init = functools.partial(kaiming_normal, fan=kernel_size**2 * channels)
    padding = kernel_size // 2
    return Conv2d(in_channels, channels, kernel_size, stride, padding, bias=False, weight_init=init, rngs=rngs)


def _downsample(in_channels: int, channels: int, stride: int, *, rngs: nnx.Rngs) -> nnx.List:
    """What fits the shortcut to the block's output; nothing where it fits."""
    if (in_channels, stride) == (channels, 1):
        return nnx.List()
    return nnx.List([_conv(in_channels, channels, 1, stride, rngs=rngs), BatchNorm(channels)])


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    channels: int,
    count: int,
    stride: int,
    *,
    rngs: nnx.Rngs,
) -> nnx.List:
    """Blocks one after the other; the first takes the stride."""
    first = block(in_channels, channels, stride, rngs=rngs)
    rest = [block(block.expansion * channels, channels, rngs=rngs) for _ in range(count - 1)]
    return nnx.List([first, *rest])


def _applied(layers: nnx.List, x: Array) -> Array:
    for layer in layers:
        x = layer(x)
    return x
