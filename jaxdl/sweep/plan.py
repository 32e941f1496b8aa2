"""Options of ``python -m jaxdl.sweep``, and the members that they ask for; nothing here imports jax."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import tyro

from jaxdl.config import TrainConfig, replace
from jaxdl.sweep import settings

Record = dict[str, Any]  # of a member after an epoch, see `jaxdl.sweep.members`


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """What the members differ in."""

    seeds: int = 1
    """Members of each setting: their seeds are --seed, --seed + 1, and so on."""
    over: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """An option and its values, such as lr=0.05,0.1; may be repeated. Values that have commas themselves (augment,
    betas, channels, milestones) are set apart by slashes: augment=crop:2/crop:2,rotate:10."""
    way: Literal["auto", "map", "vmap"] = "auto"
    """How a device goes through its members. map: one after another. vmap: all at once. auto: the faster one,
    on a CPU map, elsewhere as measured."""


@dataclasses.dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """All options of ``python -m jaxdl.sweep``: those of ``jaxdl.train`` hold for all members."""

    sweep: SweepOptions = dataclasses.field(default_factory=SweepOptions)


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
      number: its place.
      setting: what its setting is made of, empty where only seeds differ.
      config: its options.
      records: filled with one record an epoch.
    """

    number: int
    setting: dict[str, Any]
    config: TrainConfig
    records: list[Record] = dataclasses.field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether its loss became no number."""
        return not all(math.isfinite(self.records[-1][name]) for name in ("loss", "train_loss"))


def planned(config: SweepConfig) -> list[Member]:
    """The members: every setting with every seed.

    Raises:
      ValueError: an option that there is not, or that a sweep has no use for.
    """
    wanted, seeds = settings.product([text for words in config.sweep.over for text in words]), config.sweep.seeds
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {seeds}")
    if seeds * len(wanted) == 1:
        raise ValueError("expected several members: --seeds 8, or --over lr=0.05,0.1")
    if seeds > 1 and "seed" in wanted[0]:
        raise ValueError("expected --seeds or --over seed=..., not both")
    run = {"--resume": config.run.resume, "--early-stop": config.run.early_stop is not None}
    for flag in [*(flag for flag, given in run.items() if given), *settings.flags(config.scale)]:
        raise ValueError(
            f"{flag} has no meaning for a sweep, whose members are trained from start to end, on all devices"
        )
    train = TrainConfig(config.data, config.model, config.optim, config.run, config.scale)
    numbered = [
        replace(train, {"seed": config.run.seed + seed} | setting) for setting in wanted for seed in range(seeds)
    ]
    return [Member(number, wanted[number // seeds], own) for number, own in enumerate(numbered)]
