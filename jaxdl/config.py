"""Options of a training run: frozen dataclasses that become a command line and a JSON file.

Nothing here imports jax, so that ``--help`` and a mistyped option answer at once.
"""

import contextlib
import dataclasses
import difflib
import io
import json
import re
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from jaxdl.command_line import fail

Config = TypeVar("Config")

Dataset = Literal["mnist", "fashion_mnist", "digits", "npz", "folder"]


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """What to train on."""

    dataset: Dataset | None = None
    """Data set. Without it: MNIST where it is at hand or can be downloaded, otherwise the embedded digits."""
    data_dir: Path | None = None
    """Where the data lies: a folder with the original idx files or a prepared tfds folder (mnist,
    fashion_mnist), a .npz file (npz), or a folder with train/CLASS/*.png and test/CLASS/*.png (folder)."""
    batch_size: int = 64
    """Examples per step."""
    shuffle: bool = True
    """A new order each epoch."""
    drop_last: bool = False
    """Leave out the last batch of an epoch when it is not full."""
    placement: Literal["auto", "resident", "streamed"] = "auto"
    """resident: the whole set lies on the device. streamed: batches are sent ahead. auto: by size."""
    normalize: bool = False
    """Subtract the training images' mean and divide by their standard deviation, per channel."""
    augment: str = ""
    """Augmentation of training images, a list such as "crop:2,rotate:10,erase" (crop flip rotate affine erase
    mixup)."""


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """What to train. An option that the model has no use for is an error."""

    model: Literal["net", "cnn", "resnet18", "resnet34", "resnet50", "vit"] = "net"
    """net: 784-128-10 with ReLU. cnn: two convolutions and two linear layers. resnet18, resnet34, resnet50:
    torchvision's. vit: a vision transformer for small images."""
    dropout: float = 0.0
    """Rate of dropout (net, cnn, vit)."""
    hidden: int | None = None
    """Width of the hidden linear layers (net, cnn) or of the tokens (vit). Without it: 128; vit 192."""
    channels: tuple[int, int] | None = None
    """Channels of the two convolutions (cnn). Without it: 32 64."""
    stem: Literal["imagenet", "cifar"] | None = None
    """How it begins (resnet18, resnet34, resnet50). imagenet, as without it: 7x7 with stride 2 and max-pooling, as
    torchvision. cifar: 3x3, more accurate on images of about 32x32 for 15 times the work."""
    patch: int | None = None
    """Pixels along a patch, which have to divide the image's (vit). Without it: 4."""
    depth: int | None = None
    """Number of hidden layers (net) or of blocks (vit). Without it: 1; vit 6."""
    activation: Literal["relu", "elu", "gelu", "silu", "tanh"] | None = None
    """Activation function (net, cnn). Without it: relu."""
    heads: int | None = None
    """Heads of the attention, which have to divide the width (vit). Without it: 3."""


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """How to train; names, meanings and defaults are torch's."""

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = "sgd"
    """Optimizer."""
    lr: float | None = None
    """Learning rate. Without it: the document's 0.01 for sgd, otherwise torch's default of the optimizer."""
    momentum: float = 0.0
    """Momentum (sgd, rmsprop)."""
    dampening: float = 0.0
    """Dampening of the momentum (sgd)."""
    nesterov: bool = False
    """Nesterov momentum (sgd)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of gradient and squared gradient (adam, adamw)."""
    alpha: float = 0.99
    """Decay of the average of the squared gradient (rmsprop)."""
    centered: bool = False
    """Divide by the standard deviation of the gradient (rmsprop)."""
    weight_decay: float | None = None
    """Weight decay. Without it: torch's default of the optimizer (0.01 for adamw, otherwise 0)."""
    schedule: Literal["constant", "step", "multi_step", "exponential", "cosine", "one_cycle"] = "constant"
    """How the learning rate changes. step, multi_step and exponential count epochs; cosine and one_cycle run
    over all steps."""
    step_size: int = 1
    """Epochs between two reductions (step)."""
    milestones: tuple[int, ...] = ()
    """Epochs of the reductions (multi_step)."""
    gamma: float = 0.1
    """Factor of a reduction (step, multi_step, exponential)."""
    warmup_epochs: float = 0.0
    """Epochs in which the rate rises linearly to its value (not with one_cycle, which has its own)."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""
    class_weight: Literal["none", "balanced"] = "none"
    """balanced: an example weighs the more the rarer its class is among the training images."""
    l1: float = 0.0
    """Strength of the penalty on the sum of absolute parameters."""
    l2: float = 0.0
    """Strength of the penalty on the sum of squared parameters, halved: what torch's SGD calls weight decay."""
    clip_norm: float | None = None
    """Largest norm of the gradient."""
    clip_value: float | None = None
    """Largest absolute value of a gradient's element."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one update."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How long, where, and what is kept."""

    recipe: str | None = None
    """A shipped set of options (mlp, cnn, cnn-short), to which the other options given here are added."""
    epochs: int = 10
    """Passes through the training data."""
    steps: int | None = None
    """Number of steps, instead of epochs."""
    early_stop: int | None = None
    """Epochs without a lower loss on held-out training images, after which the run ends with its best weights."""
    validation: float = 0.1
    """Share of each class's training images that is held out (--early-stop)."""
    seed: int = 0
    """Of initial weights, order of the data, dropout and augmentation."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type to compute in; parameters stay float32."""
    out: Path | None = None
    """The run's folder. Without it: a new one under runs/."""
    resume: bool = False
    """Go on with the run in --out, from its last checkpoint, bit for bit."""
    save_every: int | None = None
    """Steps between checkpoints. Without it: at the end of an epoch, 10 seconds or more after the last."""
    keep: int = 2
    """Checkpoints to keep beside the best."""
    log_every: int = 100
    """Steps between records of the loss, counted within an epoch."""
    chunk_steps: int | None = None
    """Steps in one compiled program. Without it: by the work in a step."""
    tensorboard: bool = True
    """Write TensorBoard files."""
    quiet: bool = False
    """Print the result only."""
    explain: bool = False
    """Train nothing: look at the data and the machine, and say which options suit them and why."""


@dataclasses.dataclass(frozen=True)
class ScaleOptions:
    """Over which devices and processes each batch is split."""

    devices: int = 1
    """Devices of each process to split a batch over."""
    parallel: Literal["jit", "pmap"] = "jit"
    """jit: one program for the whole batch over a mesh of devices. pmap: a program for each device's share."""
    uneven: Literal["pad", "error"] = "pad"
    """A batch that the devices do not divide. pad: with examples that count in no mean. error: refuse it."""
    sync_batchnorm: bool = True
    """BatchNorm takes the statistics of the whole batch; otherwise each device those of its own share."""
    fsdp: bool = False
    """Split parameters and optimizer state over the devices, too (jit): each holds a part of them."""
    stages: int = 1
    """Cut the model into this many stages, each on a device of its own, through which parts of a batch pass one
    behind the other: a pipeline."""
    micro_batches: int | None = None
    """Into how many parts a batch is divided there. Without it: 4 for each stage."""
    cut_at: tuple[str, ...] = ()
    """The layers that all stages but the first begin with, as "conv2 fc1". Without it: by their work."""
    tensor: int = 1
    """Split each layer over this many devices, one by its outputs, the next by its inputs."""
    coordinator: str | None = None
    """host:port of process 0, where several processes meet. SLURM and MPI tell it by themselves."""
    process_id: int | None = None
    """Which of the processes this one is, from 0. SLURM, MPI and Kubernetes tell it by themselves."""
    num_processes: int | None = None
    """How many processes there are. SLURM and MPI tell it by themselves."""
    start_timeout: float = 300.0
    """Seconds to wait for the other processes at the start."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All options of ``python -m jaxdl.train``."""

    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    optim: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)
    run: RunOptions = dataclasses.field(default_factory=RunOptions)
    scale: ScaleOptions = dataclasses.field(default_factory=ScaleOptions)


def to_dict(config: Any) -> dict[str, Any]:
    """The options of all groups by name, as JSON values."""
    groups = dataclasses.asdict(config).values()
    return json.loads(json.dumps({name: value for group in groups for name, value in group.items()}, default=str))


def replace(config: Config, options: Mapping[str, Any]) -> Config:
    """The configuration with some options changed; the inverse of `to_dict`.

    Raises:
      ValueError: a name that is no option, with the nearest that is.
    """
    known = to_dict(config)
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {name!r}{nearest(name, known)}")
    groups = {}
    for field in dataclasses.fields(config):  # pyright: ignore[reportArgumentType]
        group = getattr(config, field.name)
        hints = typing.get_type_hints(type(group))
        changes = {name: _restore(hints[name], options[name]) for name in hints if name in options}
        groups[field.name] = dataclasses.replace(group, **changes)
    return dataclasses.replace(config, **groups)  # pyright: ignore[reportArgumentType, reportReturnType]


def parse(default: Config, argv: Sequence[str], prog: str) -> Config:
    """Reads a command line over ``default``, whose type says which options there are.

    Exits with status 0 after ``--help``, and with 2 after one line on stderr that says what is wrong.
    """
    import tyro

    known = _flags(default)
    for token in argv:
        flag = token.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            sys.exit(fail(prog, f"unknown option {flag}{nearest(flag, known)}; see --help"))
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                type(default), args=argv, default=default, prog=prog, config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as stop:
        if stop.code:
            sys.exit(fail(prog, _one_line(stderr.getvalue())))
        raise


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean X?"`` where one of the known names is near, otherwise empty."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _restore(hint: Any, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_restore(typing.get_args(hint)[0], part) for part in value)
    return Path(value) if value is not None and Path in (hint, *typing.get_args(hint)) else value


def _flags(config: Any) -> list[str]:
    names = [name.replace("_", "-") for name in to_dict(config)]
    return ["--help", *(f"--{name}" for name in names), *(f"--no-{name}" for name in names)]


def _one_line(box: str) -> str:
    """The message inside the box that tyro draws around an error, without its title and its help."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│╭╮╰╯|+ ") for line in plain.splitlines()[1:]]
    text = [line for line in lines if line.strip("─-")]
    end = next((i for i, line in enumerate(text) if line.endswith("helptext:") or "full helptext" in line), None)
    return " ".join(text[:end])
