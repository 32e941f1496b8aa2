"""Correct ports of many kinds of layers, in the words of Flax alone, as people write them: what must pass.

Names differ from torch's on purpose, and so do sizes that are square: nothing but the bridge and its probing tells
which weight goes where.
"""

from collections.abc import Callable, Mapping

from flax import linen, nnx

from parity.pair import Pair
from parity.twins.families.attention import attention, encoder, linen_attention
from parity.twins.families.conv import conv1d, conv2d, conv3d, conv_transpose, dropped, flattened
from parity.twins.families.dense import linen_perceptron, own, sequential, tied
from parity.twins.families.norms import image_norms, norms
from parity.twins.families.parts import TRAINED
from parity.twins.families.recurrent import LinenRecurrent, Recurrent, recurrent

FAMILIES: Mapping[str, Callable[[], Pair]] = {
    "sequential": sequential,
    "linen-perceptron": linen_perceptron,
    "conv1d": conv1d,
    "conv2d": conv2d,
    "conv3d": conv3d,
    "conv-transpose": lambda: conv_transpose(mirrored=False),
    "conv-transpose-mirrored": lambda: conv_transpose(mirrored=True),
    "norms": norms,
    "image-norms": image_norms,
    "tied": tied,
    "attention": attention,
    "linen-attention": linen_attention,
    "encoder": encoder,
    "lstm": lambda: recurrent("LSTM", lambda: Recurrent(nnx.LSTMCell, 5)),
    "lstm-both-ways": lambda: recurrent(
        "LSTM", lambda: Recurrent(nnx.OptimizedLSTMCell, 5, 2, True), num_layers=2, bidirectional=True
    ),
    "linen-lstm": lambda: recurrent("LSTM", lambda: LinenRecurrent(linen.OptimizedLSTMCell, 5, 2), num_layers=2),
    "linen-gru": lambda: recurrent("GRU", lambda: LinenRecurrent(linen.GRUCell, 5), TRAINED),
    "rnn": lambda: recurrent("RNN", lambda: Recurrent(nnx.SimpleCell, 5), TRAINED),
    "own": lambda: own(turned=False),
    "own-turned": lambda: own(turned=True),
    "flattened": flattened,
    "flattened-channels-first": lambda: flattened(channels_first=True),
    "dropped": dropped,
    "dropped-channels": lambda: dropped(whole_channels=True),
}
