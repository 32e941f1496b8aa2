"""Options of ``python -m jaxdl.gan``. Nothing here imports jax."""

import dataclasses
from pathlib import Path

from jaxdl.config import Dataset
from jaxdl.engine.seeds import SeedOptions


@dataclasses.dataclass(frozen=True)
class GanOptions:
    """What to make, and how to learn it."""

    dataset: Dataset | None = None
    """Data set. Without it: MNIST where it is at hand or can be downloaded, otherwise the embedded digits."""
    data_dir: Path | None = None
    """Where the data lies, as for ``jaxdl.train``."""
    steps: int = 2000
    """Steps, each of both networks."""
    batch_size: int = 64
    """Real images to a step, and made ones."""
    latent: int = 64
    """Numbers of noise that an image is made of."""
    width: int = 32
    """Channels at half the image's size, in both networks; at a quarter there are twice as many."""
    lr: float = 5e-4
    """Learning rate of Adam, for both networks."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's averages."""
    classifier: Path | None = None
    """Folder of a run that judges the images. Without it: no judgement."""
    layer: str = "fc1"
    """Layer of the classifier whose outputs are the features of the Frechet distance."""
    confidence: float = 0.9
    """Probability from which on the classifier counts as sure of an image."""
    judged: int = 10000
    """Images that are made for the judgement."""


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """All options of ``python -m jaxdl.gan``."""

    gan: GanOptions = dataclasses.field(default_factory=GanOptions)
    run: SeedOptions = dataclasses.field(default_factory=SeedOptions)


def check(options: GanOptions) -> None:
    """
    Raises:
      ValueError: a number outside its range.
    """
    for name in ("steps", "latent", "width"):
        if (value := getattr(options, name)) < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}")
    if options.batch_size < 2:
        raise ValueError(f"--batch-size must be at least 2; got {options.batch_size}")
    if not 0 <= options.confidence <= 1:
        raise ValueError(f"--confidence must lie in [0, 1]; got {options.confidence}")
    if options.judged < 2:
        raise ValueError(f"--judged must be at least 2; got {options.judged}")
