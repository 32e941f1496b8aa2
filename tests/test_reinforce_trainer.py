import contextlib
import dataclasses

import numpy as np

from jaxdl.engine.run_folder import RunFolder
from jaxdl.methods import rollout
from jaxdl.reinforce.options import ReinforceOptions, completed
from jaxdl.reinforce.trainer import Trainer

OPTIONS = completed(ReinforceOptions(env="Catch-bsuite", envs=32, updates=30, hidden=16, lr=0.01))


def test_a_policy_learns_to_catch(tmp_path):
    """A random one catches the ball in about a third of the episodes: a mean return of -0.4."""
    trainer = Trainer(dataclasses.replace(OPTIONS, episodes=100), rollout.make("Catch-bsuite", 32))
    with contextlib.closing(RunFolder(tmp_path / "run", resume=False)) as folder:
        found = trainer.train(0, folder, quiet=True)
    assert found["greedy_return"] > 0.6
    assert found["env_steps"] == 30 * 32 * 32
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_another_seed_is_another_start():
    trainer = Trainer(OPTIONS, rollout.make("Catch-bsuite", 32))
    same, other = (trainer.start(seed)[2].params["actor"]["fc1"]["weight"] for seed in (0, 1))
    np.testing.assert_array_equal(same, trainer.start(0)[2].params["actor"]["fc1"]["weight"])
    assert not np.array_equal(same, other)
