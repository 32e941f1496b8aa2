"""Models, one family a file, and how a command line names them."""

from collections.abc import Callable, Mapping

from flax import nnx

from jaxdl.models.cnn import CNN
from jaxdl.models.net import Net
from jaxdl.models.resnet import ResNet, resnet18, resnet34, resnet50
from jaxdl.models.vit import VisionTransformer

MODELS: Mapping[str, Callable[..., nnx.Module]] = {
    "net": Net,
    "cnn": CNN,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vit": VisionTransformer,
}

__all__ = ["CNN", "MODELS", "Net", "ResNet", "VisionTransformer", "resnet18", "resnet34", "resnet50"]
