"""The torch side of every jaxdl concept, and the pairs that are shipped."""

from collections.abc import Callable, Mapping

from parity.pair import Pair
from parity.twins import cnn, net, resnet, testbed, vit

PAIRS: Mapping[str, Callable[[], Pair]] = {
    "net": net.sgd,
    "net-adam": net.adam,
    "net-rmsprop": net.rmsprop,
    "net-accumulating": net.accumulating,
    "cnn": cnn.sgd,
    "cnn-adam": cnn.adam,
    "cnn-rmsprop": cnn.rmsprop,
    "resnet18": resnet.resnet18,
    "resnet18-cifar": resnet.resnet18_cifar,
    "resnet18-full": resnet.resnet18_full,
    "vit": vit.vit,
    "vit-full": vit.vit_full,
    "perceptron": testbed.perceptron,
    "convnet": testbed.convnet,
    "block": testbed.block,
}
