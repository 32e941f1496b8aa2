"""Options of fine-tuning; nothing here imports jax, as in `jaxdl.config`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxdl.config import OptimizerOptions, TrainConfig

BODY = "body"  # of --freeze


@dataclasses.dataclass(frozen=True)
class FinetuneOptions:
    """What to start from, what of it may change, and how fast."""

    pretrained: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run that has ended, or a .safetensors file under torch's names."""
    take: str = ".*"
    """Regular expression for the parameters to take, such as "conv.*"; the others start anew."""
    rename: tuple[str, ...] = ()
    """PATTERN=REPLACEMENT for the names in the source, such as "^module\\.=" "^backbone\\.=conv"."""
    new: str = ""
    """Regular expression for parameters that start anew beside the head."""
    head: Literal["auto", "keep", "new"] = "auto"
    """The last layer. auto: it starts anew where the classes are others than the source's."""
    fit: Literal["no", "resize", "center"] = "no"
    """Images of another shape than the source's. no: an error. resize: they are scaled. center: cut off, or padded
    with black. With both gray becomes colour, and colour gray."""
    margin: int = 0
    """Black pixels to leave on each side of a scaled image; MNIST's digits have 4."""
    image_shape: tuple[int, int, int] | None = None
    """Height, width, channels that the model takes. Without it: those of the run."""
    mean: tuple[float, ...] = ()
    """Mean that the source's images were normalized with, per channel. Without it: that of the run; --normalize
    takes that of the new images."""
    std: tuple[float, ...] = ()
    """Their standard deviation."""
    freeze: str = ""
    """Regular expression for parameters that stay as they are, bit for bit, such as "conv.*"; "body" is all that
    was taken but the head. BatchNorm's statistics still move, as in torch."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one before it."""
    lr_scale: tuple[str, ...] = ()
    """PATTERN=FACTOR of the learning rate of parameters, such as "conv.*=0.1"."""
    unfreeze_every: float | None = None
    """Gradual unfreezing: epochs from one layer to the next, from the head backwards."""
    lora: int | None = None
    """Rank of low-rank adapters, which are all that trains beside the head and what is new."""
    lora_alpha: float | None = None
    """Adapters count alpha / rank times. Without it: once."""
    lora_layers: str = ".*"
    """Regular expression for the weights that get one."""
    labels: tuple[int, ...] = ()
    """Number of training images to use, balanced over the classes and repeated to an epoch's usual length. Several
    with --compare-scratch."""
    scratch: bool = False
    """Start all parameters anew: the other side of the comparison."""
    compare_scratch: bool = False
    """Train with and without the source's weights for each number of labels and each seed; print, write and draw
    what they gain."""
    seeds: int = 3
    """How many, from --seed on (--compare-scratch)."""


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """All options of ``python -m jaxdl.finetune``; those of the model are the run's unless given."""

    optim: OptimizerOptions = dataclasses.field(default_factory=lambda: OptimizerOptions(optimizer="adam"))
    finetune: FinetuneOptions = dataclasses.field(default_factory=FinetuneOptions)
