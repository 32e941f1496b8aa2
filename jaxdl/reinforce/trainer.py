"""Trains one policy after another, by one program."""

import dataclasses
import functools
import statistics
import time
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from jaxdl.engine import ownstep, parallel, state, weights
from jaxdl.engine.log import Record, read_records
from jaxdl.engine.ownstep import Own
from jaxdl.engine.run_folder import RunFolder
from jaxdl.methods import ppo, reinforce, rollout
from jaxdl.methods.rollout import Environments
from jaxdl.models.actor_critic import ActorCritic
from jaxdl.optim import schedules
from jaxdl.optim.optimizers import adam
from jaxdl.optim.transforms import clip_by_norm
from jaxdl.reinforce.options import ReinforceOptions
from jaxdl.typing import PyTree

CHUNK_UPDATES = 5  # updates in one compiled program
LINE_UPDATES = 10  # updates to a line on the console


class Trainer:
    """Trains one policy after another, by one program.

    Args:
      options: complete ones.
      world: the environments.
    """

    def __init__(self, options: ReinforceOptions, world: Environments) -> None:
        self.options, self.world = options, world
        self.judges = rollout.make(options.env, options.episodes)
        self.updates = options.updates or 1
        steps = self.updates * (options.passes or 1) * (options.minibatches or 1)
        lr = options.lr or 0.0
        rate = schedules.linear_lr(lr, 1.0, 0.0, steps) if options.anneal else schedules.constant(lr)
        self.tx = optax.chain(clip_by_norm(options.clip_norm or 0.0), adam(rate, eps=1e-5))
        self.mesh = parallel.make_mesh(parallel.first_devices(1))
        self.begin = jax.jit(functools.partial(ppo.begin, world))
        self.graph = self.start(0)[1]
        self.program = parallel.train_chunk(self.step(), lambda _, item: item, self.mesh)
        self.play = jax.jit(self._play)

    def train(self, seed: int, folder: RunFolder, *, quiet: bool) -> dict[str, Any]:
        """Trains with this seed, leaves weights in the folder and returns what was reached."""
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

    def own(self, seed: int) -> Own:
        """The training with this seed."""

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

    def start(self, seed: int) -> tuple[nnx.Module, nnx.GraphDef, Any]:
        """The model, its structure and the state of the first step."""
        init_key, run_key, world_key = jax.random.split(jax.random.key(seed), 3)
        world, hidden = self.world, self.options.hidden
        model = ActorCritic(world.features, world.actions, hidden=hidden, rngs=nnx.Rngs(params=init_key))
        graph, first = state.create(model, self.tx, run_key)
        if self.options.algorithm == "ppo":
            first = dataclasses.replace(first, stats=self.begin(world_key))
        return model, graph, first

    def step(self) -> Any:
        """The step of the algorithm."""
        given = self.options
        parts: dict[str, Any] = {"value_weight": given.value_weight, "entropy_weight": given.entropy_weight}
        if given.algorithm == "reinforce":
            baseline = given.baseline == "value"
            return reinforce.train_step(
                self.graph, self.world, self.tx, gamma=given.gamma, baseline=baseline, **parts
            )
        numbers: dict[str, Any] = {
            "steps": given.rollout,
            "epochs": given.passes,
            "minibatches": given.minibatches,
            "gamma": given.gamma,
            "lam": given.lam,
            "reward_scale": given.reward_scale,
            "clip": given.clip,
        }
        return ppo.train_step(self.graph, self.world, self.tx, **numbers, **parts)

    def _play(self, params: PyTree, key: Any) -> Any:
        return rollout.play(nnx.merge(self.graph, params, {}), self.judges, key)


def _shown(record: Record, seed: int, updates: int) -> str:
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
