"""Trains a policy by reinforcement: ``python -m jaxdl.reinforce --algorithm ppo --seeds 5``.

Needs gymnax: ``pip install 'jaxdl[rl]'``. Exit status: 0 complete; 1 failed; 2 a wrong option; 130 or 143 stopped
by Ctrl-C or SIGTERM, saved, and goes on with ``--resume``.
"""

import dataclasses
import functools
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from jaxdl import files
from jaxdl.config import fail
from jaxdl.engine import seeds
from jaxdl.engine.run_folder import RunFolder
from jaxdl.engine.seeds import SeedOptions

if TYPE_CHECKING:  # they import jax, which --help and a mistyped option do not need
    from flax import nnx

    from jaxdl.engine.log import Record
    from jaxdl.engine.ownstep import Own
    from jaxdl.methods.rollout import Environments
    from jaxdl.typing import PyTree

PROG = "python -m jaxdl.reinforce"
CHUNK_UPDATES = 5  # updates in one compiled program
LINE_UPDATES = 10  # updates to a line on the console


@dataclasses.dataclass(frozen=True)
class ReinforceOptions:
    """What to learn, and how. An option that the algorithm has no use for is an error."""

    env: str = "CartPole-v1"
    """Environment of gymnax with a finite number of actions."""
    algorithm: Literal["ppo", "reinforce"] = "ppo"
    """reinforce: one update from one episode of every environment. ppo: several updates from some steps of each,
    held near the policy that took them."""
    envs: int | None = None
    """Environments side by side. Without it: 2048 (ppo), 1024 (reinforce)."""
    updates: int | None = None
    """Rounds of acting and learning. Without it: 60."""
    hidden: int = 64
    """Width of the two hidden layers of policy and critic."""
    lr: float | None = None
    """Learning rate of Adam. Without it: 0.003 (ppo), 0.01 (reinforce)."""
    anneal: bool = True
    """The learning rate falls linearly to 0."""
    clip_norm: float = 0.5
    """Largest norm of the gradient."""
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
        "envs": 2048, "updates": 60, "lr": 0.003, "entropy_weight": 0.01,
        "rollout": 32, "passes": 4, "minibatches": 4, "lam": 0.95, "clip": 0.2,
    },
    "reinforce": {"envs": 1024, "updates": 60, "lr": 0.01, "entropy_weight": 0.0, "baseline": "value"},
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    try:
        config = seeds.read_options(sys.argv[1:] if argv is None else argv, ReinforceConfig(), PROG)
        return learn(dataclasses.replace(config, learn=completed(config.learn)))
    except (ValueError, TypeError, OSError) as error:
        return fail(PROG, str(error))
    except KeyboardInterrupt:
        print("stopped between two trainings: go on with --out and --resume", file=sys.stderr)
        return 128 + signal.SIGINT


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
    return options


def learn(config: ReinforceConfig) -> int:
    """Trains with every seed and reports; returns the exit status."""
    from jaxdl.engine import ownstep
    from jaxdl.engine.cache import enable_compilation_cache
    from jaxdl.methods import rollout
    from jaxdl.reinforce.report import report

    enable_compilation_cache()
    options, run = config.learn, config.run
    world = rollout.make(options.env, options.envs or 1)
    trainer = Trainer(options, world)
    with seeds.folder(config, run, f"{options.env.lower()}-{options.algorithm}", {"env": options.env}) as folder:

        def work() -> None:
            for seed in range(run.seed, run.seed + run.seeds):
                with seeds.seed_folder(folder, config, seed) as own:
                    if not own.summary.exists():
                        files.write_json(own.summary, trainer.train(seed, own, quiet=run.quiet))
            wanted = range(run.seed, run.seed + run.seeds)
            print(report(options.env, folder.path, wanted, rollout.reward_threshold(options.env)))

        return ownstep.status(work, folder)


class Trainer:
    """Trains one policy after another, by one program.

    Args:
      options: complete ones.
      world: the environments.
    """

    def __init__(self, options: ReinforceOptions, world: "Environments") -> None:
        import jax
        import optax

        from jaxdl.engine import parallel
        from jaxdl.methods import rollout
        from jaxdl.optim import schedules
        from jaxdl.optim.optimizers import adam
        from jaxdl.optim.transforms import clip_by_norm

        self.options, self.world = options, world
        self.judges = rollout.make(options.env, options.episodes)
        self.updates = options.updates or 1
        steps = self.updates * (options.passes or 1) * (options.minibatches or 1)
        lr = options.lr or 0.0
        rate = schedules.linear_lr(lr, 1.0, 0.0, steps) if options.anneal else schedules.constant(lr)
        self.tx = optax.chain(clip_by_norm(options.clip_norm), adam(rate, eps=1e-5))
        self.mesh = parallel.make_mesh(parallel.first_devices(1))
        self.graph = self.start(0)[1]
        self.program = parallel.train_chunk(self.step(), lambda _, item: item, self.mesh)
        self.play = jax.jit(self._play)

    def train(self, seed: int, folder: RunFolder, *, quiet: bool) -> dict[str, Any]:
        """Trains with this seed, leaves weights in the folder and returns what was reached."""
        import jax
        import numpy as np

        from jaxdl.engine import ownstep, weights
        from jaxdl.engine.log import read_records

        started = time.perf_counter()
        model, _, _ = self.start(seed)
        state = ownstep.train(self.own(seed), folder, quiet=quiet)
        weights.save(folder.weights, model, jax.device_get(state.params), {})
        played = np.asarray(self.play(state.params, jax.random.key(seed)), np.float64)
        records = read_records(folder.metrics)
        timed = [record for record in records if "steps_per_second" in record]
        speeds = [record["env_steps"] * record["steps_per_second"] for record in timed]
        return {
            "seed": seed,
            "greedy_return": played.mean(),
            "greedy_std": played.std(),
            "greedy_lowest": played.min(),
            "env_steps": sum(record["env_steps"] for record in records),
            "env_steps_per_second": statistics.median(speeds) if speeds else None,  # with learning
            "seconds": time.perf_counter() - started,
        }

    def own(self, seed: int) -> "Own":
        """The training with this seed."""
        from jaxdl.engine import ownstep, parallel

        def run(state: Any, items: Any) -> Any:
            return self.program(state, {}, items)

        return ownstep.Own(
            state=parallel.replicate(self.mesh, self.start(seed)[2]),
            run=run,
            chunks=functools.partial(ownstep.grid, steps=CHUNK_UPDATES),
            steps=self.updates,
            every=1,
            shown=lambda record: _shown(record, seed, self.updates),
        )

    def start(self, seed: int) -> "tuple[nnx.Module, nnx.GraphDef, Any]":
        """The model, its structure and the state of the first step."""
        import jax
        from flax import nnx

        from jaxdl.engine import state
        from jaxdl.methods import ppo
        from jaxdl.models.actor_critic import ActorCritic

        init_key, run_key, world_key = jax.random.split(jax.random.key(seed), 3)
        world, hidden = self.world, self.options.hidden
        model = ActorCritic(world.features, world.actions, hidden=hidden, rngs=nnx.Rngs(params=init_key))
        graph, first = state.create(model, self.tx, run_key)
        if self.options.algorithm == "ppo":
            first = dataclasses.replace(first, stats=ppo.begin(world, world_key))
        return model, graph, first

    def step(self) -> Any:
        """The step of the algorithm."""
        from jaxdl.methods import ppo, reinforce

        given = self.options
        weights: dict[str, Any] = {"value_weight": given.value_weight, "entropy_weight": given.entropy_weight}
        if given.algorithm == "reinforce":
            baseline = given.baseline == "value"
            return reinforce.train_step(
                self.graph, self.world, self.tx, gamma=given.gamma, baseline=baseline, **weights
            )
        numbers: dict[str, Any] = {
            "steps": given.rollout,
            "epochs": given.passes,
            "minibatches": given.minibatches,
            "gamma": given.gamma,
            "lam": given.lam,
            "clip": given.clip,
        }
        return ppo.train_step(self.graph, self.world, self.tx, **numbers, **weights)

    def _play(self, params: "PyTree", key: Any) -> Any:
        from flax import nnx

        from jaxdl.methods import rollout

        return rollout.play(nnx.merge(self.graph, params, {}), self.judges, key)


def _shown(record: "Record", seed: int, updates: int) -> str:
    """The line of a record; empty for most."""
    if record["step"] % LINE_UPDATES and record["step"] != updates:
        return ""
    gained = f"mean return {record['return']:.1f}" if "return" in record else "no episode ended"
    speed = record.get("steps_per_second")
    rate = f", {speed * record['env_steps']:,.0f} environment steps/s" if speed else ""
    return (
        f"Seed {seed}, update [{record['step']}/{updates}], {gained}, loss {record['loss']:.4f}, "
        f"entropy {record['entropy']:.3f}{rate}"
    )


if __name__ == "__main__":
    sys.exit(main())
