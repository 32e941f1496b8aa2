"""The vision transformer as torchvision writes it, and its pairs.

Source: https://github.com/pytorch/vision/blob/main/torchvision/models/vision_transformer.py
"""

import functools
import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.models import VisionTransformer
from jaxdl.nn import losses
from jaxdl.optim import optimizers
from parity.pair import Pair, channels_last
from parity.twins.images import images, labels

norm_layer = functools.partial(torch.nn.LayerNorm, eps=1e-6)


class TorchMLPBlock(torch.nn.Sequential):
    """Linear, GELU, dropout, Linear, dropout."""

    def __init__(self, in_dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__(
            torch.nn.Linear(in_dim, mlp_dim),
            torch.nn.GELU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(mlp_dim, in_dim),
            torch.nn.Dropout(dropout),
        )
        for m in self.modules():
            if isinstance(m, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(m.weight)
                torch.nn.init.normal_(m.bias, std=1e-6)


class TorchEncoderBlock(torch.nn.Module):
    """Attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(self, num_heads: int, hidden_dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = norm_layer(hidden_dim)
        self.self_attention = torch.nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        self.dropout = torch.nn.Dropout(dropout)
        self.ln_2 = norm_layer(hidden_dim)
        self.mlp = TorchMLPBlock(hidden_dim, mlp_dim, dropout)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = self.ln_1(input)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = self.dropout(x) + input
        return x + self.mlp(self.ln_2(x))


class TorchEncoder(torch.nn.Module):
    """Learned positions, blocks, a norm."""

    def __init__(
        self, seq_length: int, num_layers: int, num_heads: int, hidden_dim: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.pos_embedding = torch.nn.Parameter(torch.empty(1, seq_length, hidden_dim).normal_(std=0.02))
        self.dropout = torch.nn.Dropout(dropout)
        layers: OrderedDict[str, torch.nn.Module] = OrderedDict()
        for i in range(num_layers):
            layers[f"encoder_layer_{i}"] = TorchEncoderBlock(num_heads, hidden_dim, mlp_dim, dropout)
        self.layers = torch.nn.Sequential(layers)
        self.ln = norm_layer(hidden_dim)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.ln(self.layers(self.dropout(input + self.pos_embedding)))


class TorchVisionTransformer(torch.nn.Module):
    """torchvision's, with jaxdl's defaults for small images.

    Args:
      image_size, patch_size: pixels.
      num_layers, num_heads, hidden_dim, mlp_dim, dropout, num_classes: as in torchvision.
      channels: of the images.
    """

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 4,
        num_layers: int = 6,
        num_heads: int = 3,
        hidden_dim: int = 192,
        mlp_dim: int = 768,
        dropout: float = 0.0,
        num_classes: int = 10,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv_proj = torch.nn.Conv2d(channels, hidden_dim, patch_size, stride=patch_size)
        seq_length = (image_size // patch_size) ** 2 + 1
        self.class_token = torch.nn.Parameter(torch.zeros(1, 1, hidden_dim))
        self.encoder = TorchEncoder(seq_length, num_layers, num_heads, hidden_dim, mlp_dim, dropout)
        head = torch.nn.Linear(hidden_dim, num_classes)
        self.heads = torch.nn.Sequential(OrderedDict(head=head))
        fan_in = channels * patch_size**2
        torch.nn.init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / fan_in))
        assert self.conv_proj.bias is not None
        torch.nn.init.zeros_(self.conv_proj.bias)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_proj(x).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        return self.heads(self.encoder(x)[:, 0])


def pair(size: int, patch: int, hidden: int, depth: int, heads: int, dropout: float) -> Pair:
    """The transformer on images of ``size`` pixels, with cross-entropy and AdamW."""

    def original() -> torch.nn.Module:
        return TorchVisionTransformer(size, patch, depth, heads, hidden, 4 * hidden, dropout)

    def port(seed: int = 0) -> nnx.Module:
        options = {"patch": patch, "hidden": hidden, "depth": depth, "heads": heads, "dropout": dropout}
        return VisionTransformer((size, size, 3), rngs=nnx.Rngs(seed), **options)

    return Pair(
        torch=original,
        flax=port,
        inputs=images(shape=(3, size, size)),
        flax_inputs=channels_last,
        targets=labels(),
        loss=(F.cross_entropy, losses.cross_entropy),
        torch_optimizer=lambda m: torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=0.05),
        tx=optimizers.adamw(1e-3, weight_decay=0.05),
    )


def vit() -> Pair:
    """A narrow one with three blocks, on images of 16x16, with dropout."""
    return pair(size=16, patch=4, hidden=24, depth=3, heads=3, dropout=0.1)


def vit_full() -> Pair:
    """What ``--model vit`` trains on images of 32x32."""
    return pair(size=32, patch=4, hidden=192, depth=6, heads=3, dropout=0.0)
