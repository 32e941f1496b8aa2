"""Proves that a Flax port computes what its PyTorch original computes, and says where and why when it does not."""

from parity.bridge import Rule
from parity.pair import Pair, channels_last

__all__ = ["Pair", "Rule", "channels_last"]
