"""Options of ``python -m jaxdl.reinforce``. Nothing here imports jax."""

import dataclasses
import math
from typing import Any, Literal

from jaxdl.engine.seeds import SeedOptions


@dataclasses.dataclass(frozen=True)
class ReinforceOptions:
    """What to learn, and how. An option that the algorithm has no use for is an error."""

    env: str = "CartPole-v1"
    """Environment of gymnax with a finite number of actions."""
    algorithm: Literal["ppo", "reinforce"] = "ppo"
    """reinforce: one update from one episode of every environment. ppo: several updates from some steps of each,
    held near the policy that took them."""
    envs: int | None = None
    """Environments side by side. Without it: 1024."""
    updates: int | None = None
    """Rounds of acting and learning. Without it: 100 (ppo), 60 (reinforce)."""
    hidden: int = 64
    """Width of the two hidden layers of policy and critic."""
    lr: float | None = None
    """Learning rate of Adam. Without it: 0.002 (ppo), 0.01 (reinforce)."""
    anneal: bool = True
    """The learning rate falls linearly to 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient. Without it: 0.5 (ppo), 10 (reinforce)."""
    gamma: float = 0.99
    """Discount of later rewards."""
    value_weight: float = 0.5
    """Weight of the critic's squared error in the loss."""
    entropy_weight: float | None = None
    """Weight of the policy's entropy, which keeps it trying. Without it: 0.01 (ppo), 0 (reinforce)."""
    baseline: Literal["value", "none"] | None = None
    """What is subtracted from the return (reinforce). Without it: value, what the critic says of the state."""
    rollout: int | None = None
    """Steps of every environment for one round of updates (ppo). Without it: 32."""
    passes: int | None = None
    """How often each step is used for an update (ppo). Without it: 4."""
    minibatches: int | None = None
    """Into how many parts the steps are divided, shuffled, in every pass (ppo). Without it: 4."""
    lam: float | None = None
    """Lambda of generalized advantage estimation (ppo). Without it: 0.95."""
    reward_scale: float | None = None
    """What rewards are multiplied by for learning (ppo); 1 - gamma keeps what the critic has to say near 1.
    Without it: 0.01."""
    clip: float | None = None
    """How far the probability of an action may move before the gradient ends (ppo). Without it: 0.2."""
    episodes: int = 100
    """Episodes that are played greedily at the end."""


@dataclasses.dataclass(frozen=True)
class ReinforceConfig:
    """All options of ``python -m jaxdl.reinforce``."""

    learn: ReinforceOptions = dataclasses.field(default_factory=ReinforceOptions)
    run: SeedOptions = dataclasses.field(default_factory=SeedOptions)


# What stands for an option that is not given; another algorithm's has no meaning.
DEFAULTS: dict[str, dict[str, Any]] = {
    "ppo": {
        "envs": 1024, "updates": 100, "lr": 0.002, "entropy_weight": 0.01, "clip_norm": 0.5,
        "rollout": 32, "passes": 4, "minibatches": 4, "lam": 0.95, "reward_scale": 0.01, "clip": 0.2,
    },
    "reinforce": {
        "envs": 1024, "updates": 60, "lr": 0.01, "entropy_weight": 0.0, "clip_norm": 10.0,
        "baseline": "value",
    },
}  # fmt: skip


def completed(options: ReinforceOptions) -> ReinforceOptions:
    """The options with a value for each that the algorithm takes.

    Raises:
      ValueError: one that it has no use for, or a number outside its range.
    """
    defaults = DEFAULTS[options.algorithm]
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    for name in set(DEFAULTS["ppo"]) ^ set(DEFAULTS["reinforce"]):
        if name not in defaults and given[name] is not None:
            raise ValueError(f"--{name.replace('_', '-')} has no meaning for {options.algorithm}")
    options = dataclasses.replace(options, **{n: v for n, v in defaults.items() if given[n] is None})
    for name in ("envs", "updates", "hidden", "rollout", "passes", "minibatches", "episodes"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}")
    for name in ("gamma", "lam"):
        if (value := getattr(options, name)) is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name} must lie in [0, 1]; got {value}")
    if (scale := options.reward_scale) is not None and not 0 < scale < math.inf:
        raise ValueError(f"--reward-scale must be a number above 0; got {scale}")
    return options
